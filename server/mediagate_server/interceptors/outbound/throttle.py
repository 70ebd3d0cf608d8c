"""Rate-limit back-off of one account: after a 429 one create at a time is sent, as a probe.

The limit is the account's, not the call's: were each of a hundred callers to try again by itself,
ninety-nine tries would only be refused too, and each refusal is an attempt. So all wait for one,
and one 429 costs one more create. No I/O, no clock of its own.
"""

import math

_FIRST_UNTOLD, _LONGEST_UNTOLD = 1.0, 10.0
"""Seconds. The slowest account there is gets six creates a minute."""
_FIRST_DOUBTED, _LONGEST_DOUBTED = 0.25, 5.0
"""Seconds that are waited at the least, however short a wait is told: it was kept, and was not
enough."""


class Throttle:
    """Whether upstream takes creates at the moment. Times are of one clock that never goes back.

    `open_at` is when the next one may be sent after a 429. It is a probe: no other is sent until
    upstream has answered one that was sent after that, and with anything but a 429.
    """

    __slots__ = ("_probe_is_out", "_refusals", "open_at")

    def __init__(self) -> None:
        self.open_at = -math.inf
        self._refusals = 0
        self._probe_is_out = False

    @property
    def is_closed(self) -> bool:
        """Whether upstream has refused one and taken none since."""
        return self._refusals > 0

    def seconds_until_open(self, now: float) -> float:
        """Until one may be sent; infinite where the answer to a probe has to come first."""
        if not self._refusals:
            return 0.0
        return math.inf if self._probe_is_out else max(self.open_at - now, 0.0)

    def begin_probe(self) -> None:
        """One is to be sent."""
        self._probe_is_out = True

    def give_up_probe(self) -> None:
        """It is not sent."""
        self._probe_is_out = False

    def refused(self, sent_at: float, now: float, told: float | None) -> float:
        """A create that was sent then was answered 429 now; the seconds to wait.

        `told` is how long upstream asks to wait. Creates that were on their way together are
        refused together, and count once.
        """
        was_probe = self._was_probe(sent_at)
        self._refusals = self._refusals + 1 if was_probe else max(self._refusals, 1)
        if was_probe:
            self._probe_is_out = False
        seconds = _pause(self._refusals, told)
        self.open_at = max(self.open_at, now + seconds)
        return seconds

    def answered(self, sent_at: float) -> None:
        """A create that was sent then was answered with anything else, or with nothing."""
        if self._was_probe(sent_at):
            self._refusals, self._probe_is_out = 0, False

    def _was_probe(self, sent_at: float) -> bool:
        return self._refusals > 0 and sent_at >= self.open_at


def _pause(refusals: int, told: float | None) -> float:
    doublings = min(refusals - 1, 10)
    if told is None:
        return min(_FIRST_UNTOLD * 2.0**doublings, _LONGEST_UNTOLD)
    return max(told, min(_FIRST_DOUBTED * 2.0**doublings, _LONGEST_DOUBTED))
