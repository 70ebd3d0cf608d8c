"""A clock that jumps: whoever sleeps on it wakes at once, that much later."""

import asyncio
from datetime import UTC, datetime, timedelta


class JumpingClock:
    """Begins on 2026-11-24 at noon."""

    def __init__(self) -> None:
        self._now = datetime(2026, 11, 24, 12, tzinfo=UTC)

    def now(self) -> datetime:
        """The time of day."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Later, at once."""
        await asyncio.sleep(0)
        self._now += timedelta(seconds=seconds)
