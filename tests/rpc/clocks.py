"""Clocks for a gate that would take long: its pauses pass at once, or step by step."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from mediagate_server.generations.bell import Happening
from mediagate_server.generations.clock import SystemClock, Timer


class Hurried(SystemClock):
    """The machine's time and all that was slept through, which takes none."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.seconds)

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)


class Stepped(SystemClock):
    """The machine's time and what was stepped; whoever sleeps wakes once that was enough."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._dues: list[float] = []
        self._changed = asyncio.Condition()

    @property
    def sleeping(self) -> int:
        return len(self._dues)

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.seconds)

    async def sleep(self, seconds: float) -> None:
        due = self.seconds + seconds
        self._dues.append(due)
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: self.seconds >= due)
        finally:
            self._dues.remove(due)
            async with self._changed:
                self._changed.notify_all()

    async def step(self, seconds: float) -> None:
        """So much later; whoever is to wake has woken on return."""
        async with self._changed:
            self.seconds += seconds
            self._changed.notify_all()
            await self._changed.wait_for(lambda: min(self._dues, default=9e9) > self.seconds)


class Accelerated(SystemClock):
    """Time that passes twenty times as fast, in all that waits by this clock."""

    FACTOR = 20

    def __init__(self) -> None:
        self._begun = super().now()

    def now(self) -> datetime:
        return self._begun + (super().now() - self._begun) * self.FACTOR

    async def wait(self, event: Happening, seconds: float) -> bool:
        return await super().wait(event, seconds / self.FACTOR)

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / self.FACTOR)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        return super().call_later(seconds / self.FACTOR, callback)
