"""A caller as ours are: it names each call, and sends it again until it has its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc

from mediagate.v1 import (
    audio_pb2_grpc,
    generation_pb2,
    generations_pb2,
    generations_pb2_grpc,
    image_pb2_grpc,
    safety_pb2_grpc,
    text_pb2_grpc,
    video_pb2_grpc,
)
from tests.rpc.generation_waits import wait_until
from tests.rpc.tenant_keys import channel_of

from .crashing_process import CALLER
from .sample_requests import SampleRequest

ENDED = generation_pb2.Generation.STATE_SUCCEEDED
OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
]


@dataclass
class CallerRecord:
    """What a caller was told of one call. `ids`: all that its generation was called; `id`: last."""

    asked: SampleRequest
    id: str = ""
    ids: set[str] = field(default_factory=set)
    known: asyncio.Event = field(default_factory=asyncio.Event)
    text: str = ""
    completed: bool = False
    ended: generation_pb2.Generation | None = None

    def learns(self, name: str) -> None:
        """The caller is told the generation's id."""
        self.id = name
        self.ids.add(name)
        self.known.set()


class RetryingCaller:
    """Calls one gate for as long as it takes, over all its deaths. `heard`: told of every answer.

    A call that was cut is sent again with the same request_id; a stream goes on behind the last
    byte that came. That holds for every read as well: a channel learns of a gate's death only
    some time after it, and what is called meanwhile goes to the dead gate, `wait_for_ready` or not.
    """

    def __init__(self, channel: grpc.aio.Channel, heard: Callable[[], None]) -> None:
        self._heard = heard
        self._generations: Any = generations_pb2_grpc.GenerationServiceStub(channel)
        texts: Any = text_pb2_grpc.TextServiceStub(channel)
        images: Any = image_pb2_grpc.ImageServiceStub(channel)
        videos: Any = video_pb2_grpc.VideoServiceStub(channel)
        audios: Any = audio_pb2_grpc.AudioServiceStub(channel)
        safety: Any = safety_pb2_grpc.SafetyServiceStub(channel)
        self._rpcs = {
            "StreamText": texts.StreamText,
            "GenerateText": texts.GenerateText,
            "GenerateImage": images.GenerateImage,
            "GenerateVideo": videos.GenerateVideo,
            "GenerateAudio": audios.GenerateAudio,
            "CheckSafety": safety.CheckSafety,
        }

    @classmethod
    @asynccontextmanager
    async def of(
        cls, address: str, heard: Callable[[], None] = lambda: None
    ) -> AsyncIterator[RetryingCaller]:
        """One on a channel of its own."""
        async with channel_of(address, CALLER, OPTIONS) as channel:
            yield cls(channel, heard)

    async def call(self, asked: SampleRequest) -> CallerRecord:
        """The call, to its end."""
        told = CallerRecord(asked)
        await self.follow(told)
        return told

    async def follow(self, told: CallerRecord) -> None:
        """A call, to its end, for somebody who looks on."""
        asked = told.asked
        cancelling = asyncio.create_task(self._cancel(told)) if asked.cancelled else None
        if asked.rpc == "StreamText":
            await self._until_answered(lambda: self._stream(told))
        else:
            await self._until_answered(lambda: self._unary(told))
        if cancelling:
            await cancelling
        told.ended = await self.ended(told.id)

    async def ended(self, name: str) -> generation_pb2.Generation:
        """A generation at its end."""
        request = generations_pb2.WaitGenerationRequest(id=name)
        while True:
            answer = await self._until_answered(
                lambda: self._generations.WaitGeneration(request, wait_for_ready=True)
            )
            found: generation_pb2.Generation = answer.generation
            if found.state >= ENDED:
                return found

    async def until(
        self, name: str, holds: Callable[[generation_pb2.Generation], bool]
    ) -> generation_pb2.Generation:
        """A generation once this holds for it, also long after its end."""
        found: generation_pb2.Generation = await self._until_answered(
            lambda: wait_until(self._generations, name, holds)
        )
        return found

    async def all_generations(self) -> list[generation_pb2.Generation]:
        """All that the gate knows, at their ends."""
        names: list[str] = []
        request = generations_pb2.ListGenerationsRequest(page_size=1000)
        while True:
            page = await self._until_answered(
                partial(self._generations.ListGenerations, request, wait_for_ready=True)
            )
            names += [one.id for one in page.generations]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        return [await self.ended(name) for name in names]

    async def erase(self, names: Iterable[str]) -> None:
        """DeleteGeneration of each."""
        for name in names:
            request = generations_pb2.DeleteGenerationRequest(id=name)
            await self._until_answered(
                partial(self._generations.DeleteGeneration, request, wait_for_ready=True)
            )

    async def _until_answered(self, send: Callable[[], Awaitable[Any]]) -> Any:
        """Send it until there is an answer: only UNAVAILABLE asks for another try."""
        while True:
            try:
                return await send()
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            finally:
                self._heard()

    async def _unary(self, told: CallerRecord) -> None:
        answer = await self._rpcs[told.asked.rpc](told.asked.request, wait_for_ready=True)
        told.learns(answer.generation.id)

    async def _stream(self, told: CallerRecord) -> None:
        request = type(told.asked.request)()
        request.CopyFrom(told.asked.request)
        request.after_sequence = len(told.text.encode())
        try:
            async for event in self._rpcs["StreamText"](request, wait_for_ready=True):
                self._heard()
                assert not told.completed
                if event.HasField("started"):
                    told.learns(event.started.generation_id)
                if event.delta.text:
                    told.text += event.delta.text
                    assert event.sequence == len(told.text.encode())
                told.completed = event.HasField("completed")
        except grpc.aio.AioRpcError as error:
            # One that failed or was cancelled ends with that status: it is over.
            cut = error.code() is grpc.StatusCode.UNAVAILABLE and not told.completed
            if cut or not told.ids:
                raise

    async def _cancel(self, told: CallerRecord) -> None:
        """Once it is known, ask for its end."""
        await told.known.wait()
        request = generations_pb2.CancelGenerationRequest(id=told.id)
        await self._until_answered(
            lambda: self._generations.CancelGeneration(request, wait_for_ready=True)
        )
