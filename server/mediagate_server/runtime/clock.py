"""Time as the life of a generation knows it: everything that waits, waits on a Clock.

So a test, or a simulation of weeks, need not wait for any of it.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from mediagate_server.runtime.events import Waitable


class Timer(Protocol):
    """Something that was set to happen later."""

    def cancel(self) -> None:
        """It will not happen any more; nothing where it has happened."""
        ...


class Clock(Protocol):
    """Time of day, and waiting for it to pass. Durations in seconds."""

    def now(self) -> datetime:
        """The time of day, aware, in UTC."""
        ...

    async def wait(self, event: Waitable, seconds: float) -> bool:
        """Wait until the event is set or the seconds are over; True where it is set."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait until the seconds are over."""
        ...

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call it once the seconds are over, unless the timer is cancelled before."""
        ...


class SystemClock:
    """Real time."""

    def now(self) -> datetime:
        """See Clock."""
        return datetime.now(UTC)

    async def wait(self, event: Waitable, seconds: float) -> bool:
        """See Clock."""
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                await event.wait()
        except TimeoutError:
            return event.is_set()
        return True

    async def sleep(self, seconds: float) -> None:
        """See Clock."""
        await asyncio.sleep(max(seconds, 0.0))

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """See Clock."""
        return asyncio.get_running_loop().call_later(max(seconds, 0.0), callback)
