"""Back-off after HTTP 429: how long an account pauses, and who probes whether it is over.

After a 429 one create at a time is sent, as a probe. The limit is the account's, not the call's: if
each of a hundred callers retried by itself, ninety-nine would be refused again, and each refusal is
an attempt. So all wait for one probe, and a 429 costs one more create. No I/O.
"""

import math

_FIRST_DEFAULT, _LONGEST_DEFAULT = 1.0, 10.0
"""Wait in seconds where upstream names none. The slowest account has six creates a minute."""
_FIRST_MINIMUM, _LONGEST_MINIMUM = 0.25, 5.0
"""Minimum wait in seconds, however short Retry-After is: the last one was not long enough."""


class ThrottleProbe:
    """A create that is sent to probe whether the limit is over, which it may be `since` then."""

    __slots__ = ("since",)

    def __init__(self, since: float) -> None:
        self.since = since


class RateLimitBackoff:
    """Back-off state after 429s. Times are of one monotonic clock.

    `open_at` is when the next create may be sent. It is a probe: no other is sent until it has
    ended. The back-off is over once a create that was sent after that time is answered with
    anything but a 429.
    """

    __slots__ = ("_probe", "_refusals", "open_at")

    def __init__(self) -> None:
        self.open_at = -math.inf
        self._refusals = 0
        self._probe: ThrottleProbe | None = None

    @property
    def is_closed(self) -> bool:
        """Whether upstream has refused a create and accepted none since."""
        return self._refusals > 0

    def seconds_until_open(self, now: float) -> float:
        """Seconds until a create may be sent; infinite while a probe is running."""
        if not self._refusals:
            return 0.0
        return math.inf if self._probe else max(self.open_at - now, 0.0)

    def begin_probe(self) -> ThrottleProbe:
        """Begin a probe, which must be ended in any case."""
        self._probe = ThrottleProbe(self.open_at)
        return self._probe

    def end_probe(self, probe: ThrottleProbe) -> None:
        """End a probe: answered, unanswered or not sent. No-op for another than the running one."""
        if self._probe is probe:
            self._probe = None

    def on_throttled(self, sent_at: float, now: float, retry_after: float | None) -> float:
        """Record a 429 for a create that was sent then; returns the seconds to wait.

        `retry_after` is what upstream asks for. Concurrent creates are refused together, and count
        once.
        """
        is_new = self._is_after_wait(sent_at)
        self._refusals = self._refusals + 1 if is_new else max(self._refusals, 1)
        seconds = _wait_seconds(self._refusals, retry_after)
        self.open_at = max(self.open_at, now + seconds)
        return seconds

    def on_accepted(self, sent_at: float) -> None:
        """Record that a create that was sent then was answered otherwise, or not at all."""
        if self._is_after_wait(sent_at):
            self._refusals, self._probe = 0, None

    def _is_after_wait(self, sent_at: float) -> bool:
        """Whether a create was sent after the wait was over.

        A late 429 of an earlier create may postpone `open_at` while a probe is running: so the
        probe has its own time.
        """
        since = self._probe.since if self._probe else self.open_at
        return self._refusals > 0 and sent_at >= since


def _wait_seconds(refusals: int, retry_after: float | None) -> float:
    doublings = min(refusals - 1, 10)
    if retry_after is None:
        return min(_FIRST_DEFAULT * 2.0**doublings, _LONGEST_DEFAULT)
    return max(retry_after, min(_FIRST_MINIMUM * 2.0**doublings, _LONGEST_MINIMUM))
