"""News of a prediction, and how it reaches who reads its stream."""

import asyncio
from typing import Final

from mediagate_server.generations.bell import Signal
from mediagate_server.generations.clock import Clock

GRACE: Final = 1.0
"""Seconds that a stream has to tell by itself what there is news of."""


def end_now(scope: asyncio.Timeout) -> None:
    """End what is done within a scope, which something else may be ending at this moment."""
    if not scope.expired():
        scope.reschedule(asyncio.get_running_loop().time())


class Wake(Signal):
    """Set where there is news; it also ends the reading of a stream that does not tell it."""

    __slots__ = ("_clock", "_scope")

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._scope: asyncio.Timeout | None = None

    def set(self) -> None:
        """There is news."""
        super().set()
        if self._scope is not None:
            self._end_soon(self._scope)

    def ends(self, scope: asyncio.Timeout | None) -> None:
        """News soon end what is done within this scope, also news that there are; None: nothing."""
        self._scope = scope
        if scope is not None and self.is_set():
            self._end_soon(scope)

    def _end_soon(self, scope: asyncio.Timeout) -> None:
        def end() -> None:
            if self._scope is scope:
                end_now(scope)

        self._clock.call_later(GRACE, end)
