"""A tenant that works as usual while another attacks: what it asks for, how long that takes it."""

from __future__ import annotations

import asyncio
import hashlib
import statistics
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import grpc
from google.protobuf.struct_pb2 import Struct

from mediagate.v1 import generation_pb2, generations_pb2, options_pb2, text_pb2, usage_pb2
from tests.builders import image_request, run_model_request, stream_text_request, text_request
from tests.rpc.media_transfers import read_output, read_upload, upload
from tests.rpc.stubs import Stubs
from tests.rpc.tenant_keys import channel_of
from tests.webhooks.webhook_receiver import Receiver, receiving

from .shared_server import WORKING

SUCCEEDED = generation_pb2.Generation.STATE_SUCCEEDED
TEXT_MODEL = "meta/meta-llama-3-8b-instruct"
IMAGE_MODEL = "black-forest-labs/flux-schnell"
PAUSE = 0.1
"""Seconds between two calls of a kind."""
PATIENCE = 30.0
"""A call that takes this long has failed: it is the deadline of each."""


@dataclass
class Report:
    """What became of its calls: seconds of each that did well, by kind, and words on each other."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Calls that did well."""
        return sum(map(len, self.seconds.values()))

    def slowness(self, usual: Report) -> float:
        """The 99th percentile over all kinds, in multiples of a kind's usual median."""
        all_of = [
            second / statistics.median(usual.seconds[kind])
            for kind, times in self.seconds.items()
            for second in times
        ]
        return statistics.quantiles(all_of, n=100)[98]

    def __str__(self) -> str:
        summaries = (
            f"{kind} {len(times)}x {statistics.median(times) * 1e3:.0f}/{max(times) * 1e3:.0f} ms"
            for kind, times in sorted(self.seconds.items())
        )
        return ", ".join(summaries) + "".join(f"\n  FAILED {words}" for words in self.failures)


class WorkingTenant:
    """Does one call of each kind after the other, all kinds at once."""

    def __init__(self, stubs: Stubs, receiver: Receiver, random: Random) -> None:
        self._stubs = stubs
        self._receiver = receiver
        self._random = random
        self.report = Report()
        self._kinds: dict[str, Callable[[], Awaitable[object]]] = {
            "text": self._text,
            "stream": self._stream,
            "structured": self._structured,
            "image": self._image,
            "lists": self._lists,
            "webhook": self._webhook,
            "upload": self._upload,
            "run": self._run,
        }

    @classmethod
    @asynccontextmanager
    async def of(cls, address: str, random: Random) -> AsyncIterator[WorkingTenant]:
        """One on a channel of its own, with a receiver of webhooks."""
        options = [
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 100),
        ]
        async with channel_of(address, WORKING, options) as channel, receiving() as receiver:
            await channel.channel_ready()
            yield cls(Stubs.on(channel), receiver, random)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Report]:
        """Works while this is entered, and ends what it has begun; what became of that."""
        report = self.report = Report()
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for kind, call in self._kinds.items():
                group.create_task(self._again_and_again(kind, call, enough))
            try:
                yield report
            finally:
                enough.set()

    async def once(self) -> Report:
        """One call of each kind."""
        report = self.report = Report()
        await asyncio.gather(*(self._measure(kind, call) for kind, call in self._kinds.items()))
        return report

    async def _again_and_again(
        self, kind: str, call: Callable[[], Awaitable[object]], enough: asyncio.Event
    ) -> None:
        while not enough.is_set():
            await self._measure(kind, call)
            await asyncio.sleep(PAUSE * self._random.uniform(0.5, 1.5))

    async def _measure(self, kind: str, call: Callable[[], Awaitable[object]]) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                await call()
        except grpc.aio.AioRpcError as error:
            self.report.failures.append(f"{kind}: {error.code()} {error.details()}")
        except (AssertionError, TimeoutError) as error:
            self.report.failures.append(f"{kind}: {type(error).__name__} {error}")
        else:
            self.report.seconds[kind].append(time.monotonic() - began)

    def _words(self, directives: str = "") -> str:
        return f"{directives}Words of work {self._random.getrandbits(64):x}"

    async def _generate(self, prompt: str, **more: Any) -> generation_pb2.Generation:
        options = options_pb2.GenerationOptions(model=TEXT_MODEL, **more.pop("options", {}))
        request = text_request(prompt=prompt, options=options, **more)
        generation = (await self._stubs.text.GenerateText(request)).generation
        assert generation.state == SUCCEEDED, generation
        return generation

    async def _text(self) -> None:
        generation = await self._generate(self._words("[[tokens=20]]"))
        assert generation.text.text
        assert generation.cost.usd_nanos > 0

    async def _stream(self) -> None:
        request = stream_text_request(
            prompt=self._words("[[tokens=30 interval_ms=5]]"), model=TEXT_MODEL
        )
        events = [event async for event in self._stubs.text.StreamText(request)]
        assert events[-1].HasField("completed"), events[-1:]
        assert any(event.delta.text for event in events)

    async def _structured(self) -> None:
        schema = Struct()
        schema.update({"type": "object", "required": ["a"], "properties": {"a": {}}})
        form = text_pb2.ResponseFormat(
            kind=text_pb2.ResponseFormat.KIND_JSON_SCHEMA, json_schema=schema
        )
        generation = await self._generate(self._words('[[say={"a": 1}]]'), response_format=form)
        assert generation.text.text == '{"a": 1}', generation.text.text

    async def _image(self) -> None:
        request = image_request(prompt=self._words(), model=IMAGE_MODEL)
        generation = (await self._stubs.image.GenerateImage(request)).generation
        assert generation.state == SUCCEEDED, generation
        (image,) = generation.images.images
        _, content = await read_output(self._stubs, generation.id)
        assert hashlib.sha256(content).hexdigest() == image.sha256

    async def _lists(self) -> None:
        listed = await self._stubs.generations.ListGenerations(
            generations_pb2.ListGenerationsRequest(page_size=20)
        )
        await self._stubs.usage.GetUsage(
            usage_pb2.GetUsageRequest(group_by=[usage_pb2.USAGE_DIMENSION_MODEL])
        )
        await self._stubs.usage.ListCharges(usage_pb2.ListChargesRequest(page_size=20))
        for generation in listed.generations[:1]:
            await self._stubs.generations.GetGeneration(
                generations_pb2.GetGenerationRequest(id=generation.id)
            )

    async def _webhook(self) -> None:
        url = f"{self._receiver.url}/{self._random.getrandbits(64):x}"
        generation = await self._generate(self._words("[[tokens=5]]"), options={"webhook_url": url})
        count = len(self._receiver.all)
        while not any(generation.id in got.body.decode() for got in self._receiver.all):
            await self._receiver.received(count + 1)
            count = len(self._receiver.all)

    async def _upload(self) -> None:
        content = b"\x89PNG\r\n\x1a\n" + self._random.randbytes(100_000)
        response = await upload(self._stubs, content, media_type="image/png")
        _, back = await read_upload(self._stubs, response.upload_id)
        assert back == content

    async def _run(self) -> None:
        given = Struct()
        given.update({"prompt": self._words("[[tokens=5]]"), "max_tokens": 64})
        request = run_model_request("meta/meta-llama-3-70b-instruct", input=given)
        generation = (await self._stubs.models.RunModel(request)).generation
        assert generation.state == SUCCEEDED, generation
        assert generation.raw.value.string_value
