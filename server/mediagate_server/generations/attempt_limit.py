"""Time limit of one attempt whose model has a successor: its share of the generation's timeout."""

from collections.abc import Callable
from typing import Final

from mediagate_server.generations.clock import Clock
from mediagate_server.generations.stopping import Stop

OUT_OF_TIME: Final = "out of time"
"""The reason of an attempt whose run was cancelled for the next model."""


class AttemptLimit:
    """Asks for the end of one run once `seconds` are over. `stop` also has the generation's own.

    `is_needed` is asked then: false where callers have got something of this run, which no other
    can go on with. To be closed.
    """

    __slots__ = ("_is_needed", "_timer", "stop")

    def __init__(
        self, clock: Clock, whole: Stop, seconds: float, is_needed: Callable[[], bool]
    ) -> None:
        self.stop = whole.child()
        self._is_needed = is_needed
        self._timer = clock.call_later(seconds, self._end) if seconds > 0 else None
        if self._timer is None:
            self._end()

    @property
    def is_over(self) -> bool:
        """Whether the end was asked for because the share was over."""
        return self.stop.because == OUT_OF_TIME

    def close(self) -> None:
        """The run is at its end."""
        if self._timer is not None:
            self._timer.cancel()

    def _end(self) -> None:
        if self._is_needed():
            self.stop.ask(OUT_OF_TIME)
