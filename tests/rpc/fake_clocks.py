"""Clocks for a server that would take long: its pauses pass at once, or step by step."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from mediagate_server.runtime.clock import SystemClock, Timer
from mediagate_server.runtime.notifier import Notifier


class InstantClock(SystemClock):
    """The machine's time and all that was slept through, which takes none."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.seconds)

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)


class SteppedClock(SystemClock):
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


class AcceleratedClock(SystemClock):
    """Time that passes twenty times as fast, in all that waits by this clock."""

    FACTOR = 20

    def __init__(self) -> None:
        self._begun = super().now()

    def now(self) -> datetime:
        return self._begun + (super().now() - self._begun) * self.FACTOR

    async def wait(self, notifier: Notifier, seconds: float, after: int = 0) -> bool:
        return await super().wait(notifier, seconds / self.FACTOR, after)

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / self.FACTOR)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        return super().call_later(seconds / self.FACTOR, callback)


class _Alarm:
    """A timer of `ManualTimerClock`."""

    def __init__(self, due: float, seconds: float, callback: Callable[[], object]) -> None:
        self.due = due
        self.seconds = seconds
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class ManualTimerClock(SystemClock):
    """Timers and waits are due only once the test has advanced the time that far."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._alarms: list[_Alarm] = []
        self._is_set = Notifier()

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.seconds)

    def timer_of(self, seconds: float) -> "_Alarm":
        """The newest timer that was set to so many seconds."""
        return next(alarm for alarm in reversed(self._alarms) if alarm.seconds == seconds)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        alarm = _Alarm(self.seconds + seconds, seconds, callback)
        self._alarms.append(alarm)
        self._is_set.notify()
        return alarm

    async def until_timer_between(self, shortest: float, longest: float) -> None:
        """Wait until a timer of that many seconds is set."""
        while True:
            count = self._is_set.count
            if any(shortest <= alarm.seconds <= longest for alarm in self._alarms):
                return
            await self._is_set.wait(count)

    async def wait(self, notifier: Notifier, seconds: float, after: int = 0) -> bool:
        over = Notifier()
        alarm = self.call_later(seconds, over.notify)
        waiting = [
            asyncio.ensure_future(notifier.wait(after)),
            asyncio.ensure_future(over.wait()),
        ]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            alarm.cancel()
            for each in waiting:
                each.cancel()
        return notifier.count > after

    def advance(self, seconds: float) -> None:
        """So much later: whatever is due by then happens."""
        self.seconds += seconds
        due = [alarm for alarm in self._alarms if alarm.due <= self.seconds]
        self._alarms = [alarm for alarm in self._alarms if alarm.due > self.seconds]
        for alarm in due:
            if not alarm.cancelled:
                alarm.callback()
