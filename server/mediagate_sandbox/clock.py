"""Clocks: system time, and a manual clock for tests.

Everything that waits in the sandbox waits here.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from mediagate_sandbox.broadcast_event import BroadcastEvent

_TURNS = 30
"""Turns of the event loop that are enough for a woken run to act and to sleep again."""


class Clock(Protocol):
    """Clock interface."""

    def now(self) -> datetime:
        """The wall-clock time, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...

    async def sleep_until(self, moment: float) -> None:
        """Sleep until `monotonic()` reaches `moment`; always yields to other tasks."""
        ...


class SystemClock:
    """System clock."""

    def now(self) -> datetime:
        """The wall-clock time, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds of the running event loop."""
        return asyncio.get_running_loop().time()

    async def sleep_until(self, moment: float) -> None:
        """Sleep until the event loop's time has reached `moment`."""
        await asyncio.sleep(max(0.0, moment - self.monotonic()))


class ManualClock:
    """Clock that is advanced by tests, without real time."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC)) -> None:
        """Create a clock that shows `start`."""
        self._start = start
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._lying_down = BroadcastEvent()

    def now(self) -> datetime:
        """The time it was last advanced to."""
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        """Seconds it was advanced by."""
        return self._elapsed

    async def sleep_until(self, moment: float) -> None:
        """Sleep until the clock has been advanced that far."""
        if moment <= self._elapsed:
            await asyncio.sleep(0)
            return
        waker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (moment, next(self._numbers), waker))
        self._lying_down.notify()
        await waker

    async def sleeping(self, count: int) -> None:
        """Wait until at least `count` sleepers wait for this clock."""
        while sum(not waker.done() for _, _, waker in self._sleepers) < count:
            await self._lying_down.wait()

    async def advance(self, seconds: float) -> None:
        """Advance the clock, waking each sleeper at its time and running it before the next."""
        await _settle()
        end = self._elapsed + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            moment, _, waker = heapq.heappop(self._sleepers)
            self._elapsed = max(self._elapsed, moment)
            if not waker.done():
                waker.set_result(None)
                await _settle()
        self._elapsed = end
        await _settle()


async def _settle() -> None:
    """Run all ready tasks until they wait again."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


async def in_time(clock: Clock, seconds: float | None, work: Coroutine[Any, Any, None]) -> bool:
    """Run `work` with a timeout; False if it was cancelled by it."""
    if seconds is None:
        await work
        return True
    end = clock.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        job = group.create_task(work)
        alarm = group.create_task(clock.sleep_until(end))
        await asyncio.wait((job, alarm), return_when=asyncio.FIRST_COMPLETED)
        finished = job.done()
        job.cancel()
        alarm.cancel()
    return finished
