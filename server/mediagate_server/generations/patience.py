"""How long a generation may take, and how much longer its callers are kept waiting."""

from collections.abc import Callable
from typing import Final

from mediagate_server.generations.clock import Clock, Timer

_AFTER_DEADLINE: Final = 30.0
"""Seconds that callers still wait for upstream to confirm an end that we asked for."""


def _nothing() -> None:
    pass


class Patience:
    """`end` is called when the time is over, `tell` when nobody is to be kept waiting any more."""

    def __init__(self, clock: Clock, end: Callable[[], None], tell: Callable[[], None]) -> None:
        self._clock = clock
        self._end = end
        self._tell = tell
        self._alarm: Timer | None = None
        self.is_over = False

    def begin(self, seconds: float) -> None:
        """So much is left. It runs on where it has begun already."""
        if self._alarm is None:
            self._alarm = self._clock.call_later(max(seconds, 0.0), self._time_is_over)

    def part(self) -> None:
        """Whatever it was for is over, and is referred to no more: it refers to this."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._end = self._tell = _nothing

    def _time_is_over(self) -> None:
        self._alarm = self._clock.call_later(_AFTER_DEADLINE, self._give_up)
        self._end()

    def _give_up(self) -> None:
        """Upstream does not confirm the end; nobody is kept waiting for it any longer."""
        self.is_over = True
        self._tell()
