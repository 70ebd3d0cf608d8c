"""Time limit of one attempt whose model has a successor: its share of the generation's timeout."""

from collections.abc import Callable
from typing import Final

from mediagate_server.generations.clock import Clock
from mediagate_server.generations.stopping import Stop

OUT_OF_TIME: Final = "out of time"
"""The reason of an attempt whose run was cancelled for the next model."""
_FIRST_LOOK: Final = 2.0
"""Seconds in which a run that is found again is looked at before it is given up."""

MoreTime = Callable[[float], tuple[float, float] | None]
"""`(progress at the last extension)` -> seconds to go on for, and the progress by now."""


class AttemptLimit:
    """Asks for the end of one run once `seconds` are over. `stop` also has the generation's own.

    `more_time` is asked then: a run of which callers have something, or that says itself that it
    will be over in time, goes on. To be closed.
    """

    __slots__ = ("_clock", "_more_time", "_progress", "_timer", "_was_over", "stop")

    def __init__(self, clock: Clock, whole: Stop, seconds: float, more_time: MoreTime) -> None:
        self.stop = whole.child()
        self._clock = clock
        self._more_time = more_time
        self._progress = 0.0
        self._was_over = seconds <= 0
        self._timer = clock.call_later(max(seconds, _FIRST_LOOK), self._end)

    @property
    def is_over(self) -> bool:
        """Whether the end was asked for because the share was over, by an earlier process maybe."""
        return self.stop.because == OUT_OF_TIME or (self._was_over and not self.stop.asked)

    def close(self) -> None:
        """The run is at its end."""
        self._timer.cancel()

    def _end(self) -> None:
        more = self._more_time(self._progress)
        if more is None:
            self.stop.ask(OUT_OF_TIME)
            return
        seconds, self._progress = more
        self._timer = self._clock.call_later(max(seconds, _FIRST_LOOK), self._end)
