"""An event loop whose timers run faster than the machine's clock, and a server's clock that agrees.

Sockets, threads and databases are real: only waiting takes less.
"""

from __future__ import annotations

import asyncio
import selectors
from datetime import UTC, datetime, timedelta
from typing import Any

from mediagate_server.runtime.clock import SystemClock

SPEED = 100
"""Seconds of the loop to a second."""


class _Selector(selectors.DefaultSelector):
    """Waits for a fraction of what the loop asks for."""

    def select(self, timeout: float | None = None) -> Any:
        return super().select(None if timeout is None else timeout / SPEED)


class FastLoop(asyncio.SelectorEventLoop):
    """Every timeout, pause and interval is SPEED times shorter."""

    def __init__(self) -> None:
        super().__init__(_Selector())

    def time(self) -> float:
        return super().time() * SPEED


class FastClock(SystemClock):
    """The time of day, in step with the loop. Waits are the loop's own."""

    def __init__(self) -> None:
        self._begun = datetime.now(UTC)
        self._loop_begun = asyncio.get_running_loop().time()

    def now(self) -> datetime:
        passed = asyncio.get_running_loop().time() - self._loop_begun
        return self._begun + timedelta(seconds=passed)
