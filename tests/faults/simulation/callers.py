"""Those who ask, and ask again until they have it; some leave, some change their mind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar
from uuid import UUID

from mediagate_server.catalog.request import Modality
from mediagate_server.errors import MediagateError, Reason
from mediagate_server.generations.streaming.text_buffer import TextChunk
from mediagate_server.generations.submission_request import Submission
from mediagate_server.store.records import Generation
from mediagate_server.structs import replace
from tests.generations.engine_deps import submit

from .sample_plans import random_plan
from .simulated_process import Process, ProcessDied

Answer = TypeVar("Answer")
TENANT = "tenant"
AGAIN = frozenset(
    {
        Reason.DRAINING,
        Reason.STORE_UNAVAILABLE,
        Reason.SUBMIT_UNCONFIRMED,
        Reason.UPSTREAM_UNAVAILABLE,
    }
)
MOST_TRIES = 40


class SimulatedCaller:
    """One call. `serving` gives the process that serves, once there is one."""

    def __init__(
        self,
        random: Random,
        number: int,
        serving: Callable[[], Awaitable[Process]],
        *,
        goes_next: bool,
    ) -> None:
        self.ids: list[str] = []
        """Every generation that was named to it, in order."""
        self.text = ""
        self.outcome = ""
        self._random = random
        self._serving = serving
        # Some ask for the very same thing.
        prompt = f"Prompt {number if random.random() < 0.7 else 0}"
        work = random_plan(random, prompt)
        self._work = replace(work, next_when_unconfirmed=goes_next)
        is_text = self._work.chain[0].modality is Modality.TEXT
        self.streams = is_text and random.random() < 0.6
        self._has_id = asyncio.Event()
        self.submission = Submission(
            tenant=TENANT,
            method="StreamText" if self.streams else "GenerateAnything",
            request_id=str(UUID(int=random.getrandbits(128), version=4)),
            fingerprint=prompt,
            timeout=random.choice((60.0, 600.0, 600.0)),
            cancel_on_disconnect=random.random() < 0.8,
            grace=random.choice((0.0, 30.0)),
        )

    async def run(self) -> None:
        """From some moment on, until it has its answer or has gone."""
        random = self._random
        await asyncio.sleep(random.uniform(0, 90))
        wish = random.choices(("wait", "leave", "come back", "cancel", "twin"), (60, 8, 8, 12, 12))
        match wish[0]:
            case "leave":
                await self._leave()
            case "come back":
                await self._leave()
                await self._ask()
            case "cancel":
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._ask())
                    both.create_task(self._cancel())
            case "twin":
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._until(self._unary))
                    both.create_task(self._ask())
            case _:
                await self._ask()

    async def _ask(self) -> None:
        await self._until(self._stream if self.streams else self._unary)

    async def _leave(self) -> None:
        asking = asyncio.create_task(self._ask())
        await asyncio.wait({asking}, timeout=self._random.choice((0.01, 1.0, 30.0)))
        asking.cancel()
        await asyncio.wait({asking})
        if not asking.cancelled():
            asking.result()

    async def _cancel(self) -> None:
        await self._has_id.wait()
        await asyncio.sleep(self._random.choice((0.0, 2.0, 40.0)))
        if self.ids:
            await self._until(lambda process: process.generations.cancel(TENANT, self.ids[-1]))

    async def _until(self, ask: Callable[[Process], Awaitable[object]]) -> None:
        """Ask until there is an answer that is no "ask again"."""
        for _ in range(MOST_TRIES):
            process = await self._serving()
            try:
                await process.call(ask(process))
            except ProcessDied:
                await asyncio.sleep(self._random.uniform(0, 2))
            except MediagateError as error:
                self.outcome = error.failure.reason.value
                if error.failure.reason not in AGAIN:
                    break
                await asyncio.sleep(error.failure.retry_after or 1.0)
            else:
                self.outcome = "OK"
                break
        self._has_id.set()

    def _learn(self, record: Generation) -> None:
        if record.id not in self.ids:
            self.ids.append(record.id)
        self._has_id.set()

    async def _unary(self, process: Process) -> None:
        attachment = await submit(process.generations, self.submission, self._work)
        async with attachment:
            self._learn(attachment.record)
            self._learn(await attachment.wait(self._random.choice((None, 5.0))))

    async def _stream(self, process: Process) -> None:
        attachment = await submit(process.generations, self.submission, self._work)
        async with attachment:
            self._learn(attachment.record)
            await attachment.stream(_Reader(self, self._random, process))


class _Reader:
    """Reads a stream for a caller, sometimes slowly. Implements attachment.TextSink."""

    def __init__(self, caller: SimulatedCaller, random: Random, process: Process) -> None:
        self._caller = caller
        self._random = random
        self._process = process

    @property
    def sequence(self) -> int:
        """Bytes of text received, in UTF-8."""
        return len(self._caller.text.encode())

    async def write_status(self, record: Generation, *, polled: bool) -> None:
        """Ignore a status: only the text is checked."""

    async def write_text(self, chunk: TextChunk) -> None:
        """Receive a piece of the text."""
        if not self._process.is_alive():
            return
        self._caller.text += chunk.text
        assert chunk.sequence == self.sequence, "a gap or a repeat"
        if self._random.random() < 0.2:
            await asyncio.sleep(self._random.choice((0.1, 5.0)))
