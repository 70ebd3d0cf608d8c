"""Clock abstraction: real time, or virtual time in tests and the simulation."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from mediagate_server.runtime.notifier import Notifier


class Timer(Protocol):
    """A scheduled call."""

    def cancel(self) -> None:
        """Cancel the call; no-op where it was made."""
        ...


class Clock(Protocol):
    """Current time, and waiting. Durations are in seconds."""

    def now(self) -> datetime:
        """The time of day, aware, in UTC."""
        ...

    async def wait(self, notifier: Notifier, seconds: float, after: int = 0) -> bool:
        """Wait until its count is above `after`, or the seconds are over; True where it is."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait until the seconds are over."""
        ...

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Schedule a call after the seconds, unless the timer is cancelled before."""
        ...


class SystemClock:
    """The clock of the system and the event loop."""

    def now(self) -> datetime:
        """Time of day, aware, in UTC."""
        return datetime.now(UTC)

    async def wait(self, notifier: Notifier, seconds: float, after: int = 0) -> bool:
        """Wait for the notifier, with a timeout; True where its count is above `after`."""
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                await notifier.wait(after)
        except TimeoutError:
            return notifier.count > after
        return True

    async def sleep(self, seconds: float) -> None:
        """Sleep; a negative duration is zero."""
        await asyncio.sleep(max(seconds, 0.0))

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Schedule a call on the running loop."""
        return asyncio.get_running_loop().call_later(max(seconds, 0.0), callback)
