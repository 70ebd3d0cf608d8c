"""Tiny servicers of the real contract: just enough to see what the chain does around them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from mediagate.v1 import media_pb2, media_pb2_grpc, text_pb2, text_pb2_grpc
from mediagate_server import rpc_context

Context = grpc.aio.ServicerContext[Any, Any]


def delta(text: str) -> text_pb2.StreamTextResponse:
    """One event that carries `text`."""
    return text_pb2.StreamTextResponse(delta=text_pb2.TextDelta(text=text))


class Texts(text_pb2_grpc.TextServiceServicer):
    """Answers with what is known around it; streams five deltas. Remembers what it saw."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self._before = before
        self.tenants: list[str] = []
        self.labels: list[dict[str, str]] = []
        self.prompts: list[str] = []

    def _see(self, request: Any) -> None:
        self.tenants.append(rpc_context.current_caller().tenant)
        self.labels.append(dict(rpc_context.current_summary().labels))
        self.prompts.append(request.prompt)
        rpc_context.update_summary(generation_id="g1", model="a/b", cost_nanos=1_250)
        self._before()

    async def GenerateText(
        self, request: text_pb2.GenerateTextRequest, context: Context
    ) -> text_pb2.GenerateTextResponse:
        """Says that it was replayed."""
        self._see(request)
        return text_pb2.GenerateTextResponse(replayed=True)

    async def StreamText(
        self, request: text_pb2.StreamTextRequest, context: Context
    ) -> AsyncIterator[text_pb2.StreamTextResponse]:
        """Five deltas, as a generator."""
        for number in range(5):
            yield delta(str(number))
        self._see(request)


class WrittenTexts(text_pb2_grpc.TextServiceServicer):
    """Streams in the other style: a coroutine that writes to its context."""

    async def GenerateText(
        self, request: text_pb2.GenerateTextRequest, context: Context
    ) -> text_pb2.GenerateTextResponse:
        """Nothing."""
        return text_pb2.GenerateTextResponse()

    async def StreamText(  # type: ignore[override]
        self, request: text_pb2.StreamTextRequest, context: Context
    ) -> None:
        """Three deltas, written."""
        for number in range(3):
            await context.write(delta(str(number)))


class EndlessTexts(text_pb2_grpc.TextServiceServicer):
    """Streams without end, and says when it was closed and by what."""

    def __init__(self, text: str = "word", pause: asyncio.Event | None = None) -> None:
        self._text = text
        self._pause = pause
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()
        self.ended_by: type[BaseException] | None = None

    async def GenerateText(
        self, request: text_pb2.GenerateTextRequest, context: Context
    ) -> text_pb2.GenerateTextResponse:
        """Waits for ever."""
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            self.ended_by = type(error)
            raise
        finally:
            self.ended.set()
        return text_pb2.GenerateTextResponse()

    async def StreamText(
        self, request: text_pb2.StreamTextRequest, context: Context
    ) -> AsyncIterator[text_pb2.StreamTextResponse]:
        """Words, without end; before the second it waits for `pause`, if there is one."""
        try:
            yield delta(self._text)
            self.begun.set()
            if self._pause is not None:
                await self._pause.wait()
            while True:
                yield delta(self._text)
        except BaseException as error:
            self.ended_by = type(error)
            raise
        finally:
            self.ended.set()


class Uploads(media_pb2_grpc.MediaServiceServicer):
    """Counts the bytes of an upload; reading gives one empty message."""

    async def UploadMedia(
        self, request_iterator: AsyncIterator[media_pb2.UploadMediaRequest], context: Context
    ) -> media_pb2.UploadMediaResponse:
        """The count."""
        size = 0
        async for request in request_iterator:
            size += len(request.chunk)
        return media_pb2.UploadMediaResponse(size_bytes=size)

    async def ReadMedia(
        self, request: media_pb2.ReadMediaRequest, context: Context
    ) -> AsyncIterator[media_pb2.ReadMediaResponse]:
        """One empty message."""
        yield media_pb2.ReadMediaResponse()


def both_ways(path: str, behaviour: Callable[..., Any]) -> grpc.GenericRpcHandler:
    """A method on raw bytes that streams both ways, which the contract has none of."""
    service, name = path.strip("/").split("/")
    return grpc.method_handlers_generic_handler(
        service, {name: grpc.stream_stream_rpc_method_handler(behaviour)}
    )
