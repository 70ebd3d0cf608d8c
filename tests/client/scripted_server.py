"""A small server on loopback that plays from a script: real sockets, real gRPC, no upstream."""

import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2

from mediagate.v1 import (
    audio_pb2_grpc,
    generations_pb2_grpc,
    image_pb2_grpc,
    media_pb2_grpc,
    models_pb2_grpc,
    safety_pb2_grpc,
    text_pb2_grpc,
    usage_pb2_grpc,
    video_pb2_grpc,
)
from mediagate.v1.generation_pb2 import Generation
from mediagate.v1.generations_pb2 import CancelGenerationRequest, CancelGenerationResponse

from .rpc_statuses import trailing

CODES = {code.value[0]: code for code in grpc.StatusCode}


class HeldCall:
    """A step of a script: nothing happens until the caller has left."""


Step: TypeAlias = Message | HeldCall
Answer: TypeAlias = Step | Callable[[Any], Step]


@dataclass(frozen=True)
class ReceivedCall:
    """One call as the server got it."""

    method: str
    request: Any
    metadata: dict[str, str | bytes]
    seconds: float | None


class ScriptedServer(
    audio_pb2_grpc.AudioServiceServicer,
    generations_pb2_grpc.GenerationServiceServicer,
    image_pb2_grpc.ImageServiceServicer,
    media_pb2_grpc.MediaServiceServicer,
    models_pb2_grpc.ModelServiceServicer,
    safety_pb2_grpc.SafetyServiceServicer,
    text_pb2_grpc.TextServiceServicer,
    usage_pb2_grpc.UsageServiceServicer,
    video_pb2_grpc.VideoServiceServicer,
):
    """Answers each method from its own script, and keeps what it was asked."""

    def __init__(self) -> None:
        self.target = ""
        self.heard: list[ReceivedCall] = []
        self.left: queue.Queue[str] = queue.Queue()
        """The methods whose caller left before the end."""
        self.cancelled: queue.Queue[str] = queue.Queue()
        """The ids that CancelGeneration was asked for."""
        self._calls = threading.Semaphore(0)
        self._scripts: defaultdict[str, queue.SimpleQueue[list[Answer]]] = defaultdict(
            queue.SimpleQueue
        )

    def plays(self, method: str, *steps: Answer | Iterable[Step]) -> None:
        """Adds what the next call of that method gets."""
        flat: list[Answer] = []
        for step in steps:
            flat.extend(step if isinstance(step, Iterable) else [step])
        self._scripts[method].put(flat)

    def requests_of(self, method: str) -> list[Any]:
        """The requests of that method so far."""
        return [heard.request for heard in self.heard if heard.method == method]

    def until_called(self, times: int) -> None:
        """Waits until so many calls have come, those apart that were waited for before."""
        for _ in range(times):
            assert self._calls.acquire(timeout=10)

    def _stream(self, method: str, request: Any, context: Any) -> Iterator[Any]:
        metadata = dict(context.invocation_metadata())
        self.heard.append(ReceivedCall(method, request, metadata, context.time_remaining()))
        self._calls.release()
        steps = self._scripts[method].get_nowait()
        ended, gone = threading.Event(), threading.Event()

        def on_end() -> None:
            gone.set()
            if not ended.is_set():
                self.left.put(method)

        context.add_callback(on_end)
        for answer in steps:
            step = answer if isinstance(answer, Message | HeldCall) else answer(request)
            if isinstance(step, HeldCall):
                gone.wait()
                return
            if isinstance(step, status_pb2.Status):
                ended.set()
                if step.details:
                    context.set_trailing_metadata(trailing(step))
                context.abort(CODES[step.code], step.message)
            if answer is steps[-1]:
                ended.set()
            yield step

    def _unary(self, method: str, request: Any, context: Any) -> Any:
        return next(self._stream(method, request, context), Generation())

    def StreamText(self, request: Any, context: Any) -> Iterator[Any]:
        return self._stream("StreamText", request, context)

    def WatchGeneration(self, request: Any, context: Any) -> Iterator[Any]:
        return self._stream("WatchGeneration", request, context)

    def GenerateText(self, request: Any, context: Any) -> Any:
        return self._unary("GenerateText", request, context)

    def GenerateImage(self, request: Any, context: Any) -> Any:
        return self._unary("GenerateImage", request, context)

    def GenerateVideo(self, request: Any, context: Any) -> Any:
        return self._unary("GenerateVideo", request, context)

    def GenerateAudio(self, request: Any, context: Any) -> Any:
        return self._unary("GenerateAudio", request, context)

    def GetGeneration(self, request: Any, context: Any) -> Any:
        return self._unary("GetGeneration", request, context)

    def ListGenerations(self, request: Any, context: Any) -> Any:
        return self._unary("ListGenerations", request, context)

    def WaitGeneration(self, request: Any, context: Any) -> Any:
        return self._unary("WaitGeneration", request, context)

    def ListModels(self, request: Any, context: Any) -> Any:
        return self._unary("ListModels", request, context)

    def GetModel(self, request: Any, context: Any) -> Any:
        return self._unary("GetModel", request, context)

    def WatchGenerations(self, request: Any, context: Any) -> Iterator[Any]:
        return self._stream("WatchGenerations", request, context)

    def DeleteGeneration(self, request: Any, context: Any) -> Any:
        return self._unary("DeleteGeneration", request, context)

    def EstimateCost(self, request: Any, context: Any) -> Any:
        return self._unary("EstimateCost", request, context)

    def CheckSafety(self, request: Any, context: Any) -> Any:
        return self._unary("CheckSafety", request, context)

    def RunModel(self, request: Any, context: Any) -> Any:
        return self._unary("RunModel", request, context)

    def StreamModel(self, request: Any, context: Any) -> Iterator[Any]:
        return self._stream("StreamModel", request, context)

    def GetUsage(self, request: Any, context: Any) -> Any:
        return self._unary("GetUsage", request, context)

    def ListCharges(self, request: Any, context: Any) -> Any:
        return self._unary("ListCharges", request, context)

    def GetReconciliation(self, request: Any, context: Any) -> Any:
        return self._unary("GetReconciliation", request, context)

    def UploadMedia(self, request_iterator: Iterator[Any], context: Any) -> Any:
        return self._unary("UploadMedia", list(request_iterator), context)

    def ReadMedia(self, request: Any, context: Any) -> Iterator[Any]:
        return self._stream("ReadMedia", request, context)

    def CancelGeneration(
        self, request: CancelGenerationRequest, context: Any
    ) -> CancelGenerationResponse:
        self.cancelled.put(request.id)
        generation = Generation(id=request.id, state=Generation.STATE_CANCELLED)
        return CancelGenerationResponse(generation=generation)


@contextmanager
def open_scripted_server(**options: int) -> Iterator[ScriptedServer]:
    """Serve on a free port of loopback; options of gRPC's without their `grpc.`."""
    scripted = ScriptedServer()
    more = [(f"grpc.{name}", value) for name, value in options.items()]
    with ThreadPoolExecutor(16) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0), *more])
        audio_pb2_grpc.add_AudioServiceServicer_to_server(scripted, server)
        generations_pb2_grpc.add_GenerationServiceServicer_to_server(scripted, server)
        image_pb2_grpc.add_ImageServiceServicer_to_server(scripted, server)
        media_pb2_grpc.add_MediaServiceServicer_to_server(scripted, server)
        models_pb2_grpc.add_ModelServiceServicer_to_server(scripted, server)
        safety_pb2_grpc.add_SafetyServiceServicer_to_server(scripted, server)
        text_pb2_grpc.add_TextServiceServicer_to_server(scripted, server)
        usage_pb2_grpc.add_UsageServiceServicer_to_server(scripted, server)
        video_pb2_grpc.add_VideoServiceServicer_to_server(scripted, server)
        scripted.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield scripted
        finally:
            server.stop(0).wait()
