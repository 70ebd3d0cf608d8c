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


class Probe:
    """One create that is sent to find out whether the limit is over. `since` is when it was."""

    __slots__ = ("since",)

    def __init__(self, since: float) -> None:
        self.since = since


class Throttle:
    """Whether upstream takes creates at the moment. Times are of one clock that never goes back.

    `open_at` is when the next one may be sent after a 429. It is a probe: no other is sent until
    it is over, however it ends. Upstream takes creates again once it has answered one that was
    sent after that with anything but a 429.
    """

    __slots__ = ("_probe", "_refusals", "open_at")

    def __init__(self) -> None:
        self.open_at = -math.inf
        self._refusals = 0
        self._probe: Probe | None = None

    @property
    def is_closed(self) -> bool:
        """Whether upstream has refused one and taken none since."""
        return self._refusals > 0

    def seconds_until_open(self, now: float) -> float:
        """Until one may be sent; infinite where a probe has to be over first."""
        if not self._refusals:
            return 0.0
        return math.inf if self._probe else max(self.open_at - now, 0.0)

    def begin_probe(self) -> Probe:
        """One is to be sent. It has to be ended, whatever becomes of it."""
        self._probe = Probe(self.open_at)
        return self._probe

    def end_probe(self, probe: Probe) -> None:
        """It was answered, or got no answer, or was never sent. Nothing where another is out."""
        if self._probe is probe:
            self._probe = None

    def refused(self, sent_at: float, now: float, told: float | None) -> float:
        """A create that was sent then was answered 429 now; the seconds to wait.

        `told` is how long upstream asks to wait. Creates that were on their way together are
        refused together, and count once.
        """
        is_news = self._is_news(sent_at)
        self._refusals = self._refusals + 1 if is_news else max(self._refusals, 1)
        seconds = _pause(self._refusals, told)
        self.open_at = max(self.open_at, now + seconds)
        return seconds

    def answered(self, sent_at: float) -> None:
        """A create that was sent then was answered with anything else, or with nothing."""
        if self._is_news(sent_at):
            self._refusals, self._probe = 0, None

    def _is_news(self, sent_at: float) -> bool:
        """Whether it was sent after the wait was over.

        The late 429 of one that was sent before it can put `open_at` off while a probe is out:
        the probe is judged by when it was sent itself.
        """
        since = self._probe.since if self._probe else self.open_at
        return self._refusals > 0 and sent_at >= since


def _pause(refusals: int, told: float | None) -> float:
    doublings = min(refusals - 1, 10)
    if told is None:
        return min(_FIRST_UNTOLD * 2.0**doublings, _LONGEST_UNTOLD)
    return max(told, min(_FIRST_DOUBTED * 2.0**doublings, _LONGEST_DOUBTED))
