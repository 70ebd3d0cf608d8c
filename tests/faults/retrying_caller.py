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

    sample: SampleRequest
    id: str = ""
    ids: set[str] = field(default_factory=set)
    is_answered: asyncio.Event = field(default_factory=asyncio.Event)
    text: str = ""
    completed: bool = False
    ended: generation_pb2.Generation | None = None

    def learns(self, name: str) -> None:
        """The caller is told the generation's id."""
        self.id = name
        self.ids.add(name)
        self.is_answered.set()


class RetryingCaller:
    """Calls one server for as long as it takes, over all its deaths. `heard`: told of every answer.

    A call that was cut is sent again with the same request_id; a stream goes on behind the last
    byte that came. That holds for every read as well: a channel learns of a server's death only
    some time after it, and what is called meanwhile goes to the dead server, `wait_for_ready` or
    not.
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

    async def call(self, sample: SampleRequest) -> CallerRecord:
        """The call, to its end."""
        record = CallerRecord(sample)
        await self.follow(record)
        return record

    async def follow(self, record: CallerRecord) -> None:
        """A call, to its end, for somebody who looks on."""
        sample = record.sample
        cancelling = asyncio.create_task(self._cancel(record)) if sample.cancelled else None
        if sample.rpc == "StreamText":
            await self._until_answered(lambda: self._stream(record))
        else:
            await self._until_answered(lambda: self._unary(record))
        if cancelling:
            await cancelling
        record.ended = await self.ended(record.id)

    async def ended(self, name: str) -> generation_pb2.Generation:
        """A generation at its end."""
        request = generations_pb2.WaitGenerationRequest(id=name)
        while True:
            answer = await self._until_answered(
                lambda: self._generations.WaitGeneration(request, wait_for_ready=True)
            )
            generation: generation_pb2.Generation = answer.generation
            if generation.state >= ENDED:
                return generation

    async def until(
        self, name: str, condition: Callable[[generation_pb2.Generation], bool]
    ) -> generation_pb2.Generation:
        """A generation once this holds for it, also long after its end."""
        generation: generation_pb2.Generation = await self._until_answered(
            lambda: wait_until(self._generations, name, condition)
        )
        return generation

    async def all_generations(self) -> list[generation_pb2.Generation]:
        """All that the server knows, at their ends."""
        names: list[str] = []
        request = generations_pb2.ListGenerationsRequest(page_size=1000)
        while True:
            page = await self._until_answered(
                partial(self._generations.ListGenerations, request, wait_for_ready=True)
            )
            names += [generation.id for generation in page.generations]
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

    async def _unary(self, record: CallerRecord) -> None:
        answer = await self._rpcs[record.sample.rpc](record.sample.request, wait_for_ready=True)
        record.learns(answer.generation.id)

    async def _stream(self, record: CallerRecord) -> None:
        request = type(record.sample.request)()
        request.CopyFrom(record.sample.request)
        request.after_sequence = len(record.text.encode())
        try:
            async for event in self._rpcs["StreamText"](request, wait_for_ready=True):
                self._heard()
                assert not record.completed
                if event.HasField("started"):
                    record.learns(event.started.generation_id)
                if event.delta.text:
                    record.text += event.delta.text
                    assert event.sequence == len(record.text.encode())
                record.completed = event.HasField("completed")
        except grpc.aio.AioRpcError as error:
            # One that failed or was cancelled ends with that status: it is over.
            cut = error.code() is grpc.StatusCode.UNAVAILABLE and not record.completed
            if cut or not record.ids:
                raise

    async def _cancel(self, record: CallerRecord) -> None:
        """Once it is known, ask for its end."""
        await record.is_answered.wait()
        request = generations_pb2.CancelGenerationRequest(id=record.id)
        await self._until_answered(
            lambda: self._generations.CancelGeneration(request, wait_for_ready=True)
        )
