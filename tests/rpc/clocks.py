"""Clocks for a gate that would take long: its pauses pass at once, or step by step."""

import asyncio
from datetime import datetime, timedelta

from mediagate_server.generations.clock import SystemClock


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
