"""News of a prediction, and how it reaches who reads its stream."""

import asyncio
from collections.abc import Awaitable
from typing import Final

from mediagate_server.generations.bell import Signal
from mediagate_server.generations.clock import Clock

GRACE: Final = 1.0
"""Seconds that a stream has to tell by itself what there is news of."""


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

    async def interrupts(self, doing: Awaitable[None]) -> bool:
        """Await it unless there is news, which soon cancels it. True where it ended by itself.

        Like Stop.interrupts it needs no task: a thousand silent streams wait here.
        """
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._scope = scope
                if self.is_set():
                    self._end_soon(scope)
                await doing
        except TimeoutError:
            if not scope.expired():
                raise
            return False
        finally:
            self._scope = None
        return True

    def _end_soon(self, scope: asyncio.Timeout) -> None:
        def end() -> None:
            if self._scope is scope:
                scope.reschedule(asyncio.get_running_loop().time())

        self._clock.call_later(GRACE, end)
