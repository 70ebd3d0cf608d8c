"""Deadlines: of one attempt whose model has a successor, and of a generation and its callers."""

from collections.abc import Callable
from typing import Final

from mediagate_server.runtime.cancellation import CancelToken
from mediagate_server.runtime.clock import Clock, Timer

OUT_OF_TIME: Final = "out of time"
"""The reason of an attempt whose run was cancelled for the next model."""
_FIRST_LOOK: Final = 2.0
"""Seconds in which a run that is found again is looked at before it is given up."""
ExtraTime = Callable[[float], tuple[float, float] | None]
"""`(progress at the last extension)` -> seconds to go on for, and the progress by now."""


class AttemptDeadline:
    """Cancels one run once `seconds` are over, by `stop`, that run's own token.

    `more_time` is called then: a run of which callers have something, or that says itself that it
    will be over in time, goes on. To be closed.
    """

    __slots__ = ("_clock", "_more_time", "_progress", "_timer", "_was_over", "stop")

    def __init__(
        self, clock: Clock, stop: CancelToken, seconds: float, more_time: ExtraTime
    ) -> None:
        self.stop = stop
        self._clock = clock
        self._more_time = more_time
        self._progress = 0.0
        self._was_over = seconds <= 0
        self._timer = clock.call_later(max(seconds, _FIRST_LOOK), self._end)

    @property
    def has_expired(self) -> bool:
        """Whether it was cancelled because the share was over, by an earlier process maybe."""
        return self.stop.reason == OUT_OF_TIME or (self._was_over and not self.stop.is_cancelled)

    def close(self) -> None:
        """The run is at its end."""
        self._timer.cancel()

    def _end(self) -> None:
        more = self._more_time(self._progress)
        if more is None:
            self.stop.cancel(OUT_OF_TIME)
            return
        seconds, self._progress = more
        self._timer = self._clock.call_later(max(seconds, _FIRST_LOOK), self._end)


_AFTER_DEADLINE: Final = 30.0
"""Seconds that callers still wait for upstream to confirm a cancel."""


def _nothing() -> None:
    pass


class DeadlineTimer:
    """Timer of a generation's timeout: `end` is called when it is over, `on_give_up` when nobody is
    to be kept waiting any more.
    """

    def __init__(
        self, clock: Clock, end: Callable[[], None], on_give_up: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._end = end
        self._on_give_up = on_give_up
        self._alarm: Timer | None = None
        self.is_over = False

    def start(self, seconds: float) -> None:
        """So much is left. It runs on where it has begun already."""
        if self._alarm is None:
            self._alarm = self._clock.call_later(max(seconds, 0.0), self._time_is_over)

    def cancel(self) -> None:
        """Whatever it was for is over, and is referred to no more: it refers to this."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._end = self._on_give_up = _nothing

    def _time_is_over(self) -> None:
        self._alarm = self._clock.call_later(_AFTER_DEADLINE, self._give_up)
        self._end()

    def _give_up(self) -> None:
        """Upstream does not confirm the end; nobody is kept waiting for it any longer."""
        self.is_over = True
        self._on_give_up()
