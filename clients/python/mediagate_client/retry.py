"""Retry policy: which failed calls are sent again, and with which backoff.

Pure: clock and random source are given, and it does not sleep. Only for calls that may be sent
twice: reads, cancels, and billable calls with a request_id.
"""

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from mediagate_client.error_mapping import is_interrupted
from mediagate_client.errors import (
    MediagateError,
    RateLimited,
    Unavailable,
    deadline_exceeded,
    local_invalid_request,
)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Retry policy of a client: exponential backoff with jitter. All times in seconds."""

    max_attempts: int = 5
    """Attempts while the server answers with a retryable error, the first one included."""
    attempts_while_unreachable: int = 9
    """Attempts while the server drains or is unreachable: 10 to 21 s, enough for a restart."""
    attempts_once_answered: int = 9
    """Attempts without progress in between, once a stream was accepted."""
    initial_delay: float = 0.2
    multiplier: float = 2.0
    max_delay: float = 5.0
    longest_retry_after: float = 60.0
    """No retry where the server's retry-after is longer."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """Deadline of a call with all its attempts."""

    at: float | None
    """In the seconds of `clock`. None: never."""
    clock: Callable[[], float]

    @classmethod
    def after(cls, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> Self:
        """Return the deadline in so many seconds; None, or infinite: no deadline.

        Raises InvalidRequest for what is no number.
        """
        if seconds is None:
            return cls(None, clock)
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            description = f"expected seconds, not {type(seconds).__name__}"
            raise local_invalid_request("rpc_timeout", description)
        if math.isnan(seconds):
            raise local_invalid_request("rpc_timeout", "is not a number")
        return cls(None if seconds == math.inf else clock() + seconds, clock)

    def remaining(self) -> float | None:
        """Return the seconds left, for gRPC's `timeout`; raise DeadlineExceeded if it passed."""
        if self.at is None:
            return None
        left = self.at - self.clock()
        if left <= 0:
            raise deadline_exceeded("the time given to this call is over")
        return left

    def allows(self, delay: float) -> bool:
        """Whether a delay of so many seconds ends before the deadline."""
        return self.at is None or self.clock() + delay < self.at


def check_seconds(name: str, seconds: float) -> None:
    """Raise InvalidRequest for a number of seconds that is none, or negative."""
    value: object = seconds
    if isinstance(value, bool) or not (isinstance(value, (int, float)) and value >= 0):
        raise local_invalid_request(name, "expected seconds, a number that is not negative")


class Retries:
    """Retry state of one call: counts attempts and computes delays."""

    def __init__(
        self,
        policy: RetryPolicy,
        deadline: Deadline,
        random_source: Callable[[], float] = random.random,
    ) -> None:
        """Start at the first attempt; `random_source` returns numbers from 0 to 1."""
        self._policy = policy
        self._deadline = deadline
        self._random = random_source
        self._attempts = 1
        self._max_attempts = policy.max_attempts

    def delay(self, failure: MediagateError) -> float | None:
        """Return the seconds before the next attempt; None: no retry."""
        if self._attempts >= self._max_attempts_after(failure) or not may_retry(failure):
            return None
        retry_after = failure.retry_after
        if retry_after is not None and retry_after > self._policy.longest_retry_after:
            return None
        delay = self._backoff()
        if retry_after is not None:
            # Never sooner than the server said, and with jitter between callers.
            delay = max(delay, retry_after * (1 + 0.1 * self._random()))
        if not self._deadline.allows(delay):
            return None
        self._attempts += 1
        return delay

    def _max_attempts_after(self, failure: MediagateError) -> int:
        """Return the limit of attempts after this failure."""
        if is_interrupted(failure) or failure.reason == "DRAINING":
            return max(self._max_attempts, self._policy.attempts_while_unreachable)
        return self._max_attempts

    def reset(self) -> None:
        """Reset the count after progress."""
        self._attempts = 1
        self.extend()

    def extend(self) -> None:
        """Allow more attempts from now on: the server has accepted the call."""
        self._max_attempts = max(self._policy.attempts_once_answered, self._policy.max_attempts)

    def _backoff(self) -> float:
        policy = self._policy
        exponential = policy.initial_delay * policy.multiplier ** (self._attempts - 1)
        return min(exponential, policy.max_delay) * (0.5 + 0.5 * self._random())


def may_retry(failure: MediagateError) -> bool:
    """Whether a retry can succeed.

    RESOURCE_EXHAUSTED only with a retry-after: a used-up budget stays so. Nor where Replicate
    refuses the account: its operator has to act.
    """
    if failure.reason == "UPSTREAM_ACCOUNT":
        return False
    if isinstance(failure, Unavailable) or is_interrupted(failure):
        return True
    return isinstance(failure, RateLimited) and failure.retry_after is not None
