"""When a call that failed is sent again, and how long to wait first.

Pure: it reads no clock, sleeps nowhere and draws from the source it is given. It is asked only
about calls that may be sent twice: reads, cancels, and paid calls with a request_id.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from mediagate_client.error_mapping import is_interrupted
from mediagate_client.errors import MediagateError, RateLimited, Unavailable, deadline_exceeded


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient a client is. All times in seconds."""

    max_attempts: int = 5
    """Tries of a gate that says it cannot now, the first one included."""
    attempts_without_gate: int = 9
    """Tries where the gate itself is away, which drains or cannot be reached: 10 to 21 s, in which
    one is started anew."""
    attempts_once_answered: int = 9
    """Tries without any progress in between, once it has begun to answer: as long."""
    initial_delay: float = 0.2
    multiplier: float = 2.0
    max_delay: float = 5.0
    longest_retry_after: float = 60.0
    """A gate that asks for a longer pause than this is not waited for."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a call, with all its tries, must be over."""

    at: float | None
    """In the seconds of `clock`. None: never."""
    clock: Callable[[], float]

    @classmethod
    def after(cls, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> Self:
        """Return the deadline that many seconds from now; None is none."""
        return cls(None if seconds is None else clock() + seconds, clock)

    def remaining(self) -> float | None:
        """Return the seconds left, for gRPC's `timeout`; raise DeadlineExceeded if none is."""
        if self.at is None:
            return None
        left = self.at - self.clock()
        if left <= 0:
            raise deadline_exceeded("the time given to this call is over")
        return left

    def allows(self, delay: float) -> bool:
        """Say whether there is time left after that many seconds."""
        return self.at is None or self.clock() + delay < self.at


class Retries:
    """The tries of one call: counts them and says how long to wait before the next."""

    def __init__(
        self,
        policy: RetryPolicy,
        deadline: Deadline,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Begin with the first try; `draw` gives numbers from 0 to 1."""
        self._policy = policy
        self._deadline = deadline
        self._draw = draw
        self._attempts = 1
        self._most = policy.max_attempts

    def delay(self, failure: MediagateError) -> float | None:
        """Return the seconds to wait before the next try; None: there is none."""
        if self._attempts >= self._most_after(failure) or not may_retry(failure):
            return None
        asked = failure.retry_after
        if asked is not None and asked > self._policy.longest_retry_after:
            return None
        delay = self._backoff()
        if asked is not None:
            # Never sooner than asked, and not all callers at the same moment.
            delay = max(delay, asked * (1 + 0.1 * self._draw()))
        if not self._deadline.allows(delay):
            return None
        self._attempts += 1
        return delay

    def _most_after(self, failure: MediagateError) -> int:
        """Return how many tries there may be, by what the last one came to."""
        if is_interrupted(failure) or failure.reason == "DRAINING":
            return max(self._most, self._policy.attempts_without_gate)
        return self._most

    def progressed(self) -> None:
        """Forget the failures so far: something new came, so the gate is there."""
        self._attempts = 1
        self.answered()

    def answered(self) -> None:
        """Be patient from now on: what the gate has begun is worth waiting for."""
        self._most = max(self._policy.attempts_once_answered, self._policy.max_attempts)

    def _backoff(self) -> float:
        policy = self._policy
        whole = policy.initial_delay * policy.multiplier ** (self._attempts - 1)
        return min(whole, policy.max_delay) * (0.5 + 0.5 * self._draw())


def may_retry(failure: MediagateError) -> bool:
    """Say whether sending the same again can help.

    RESOURCE_EXHAUSTED only where the gate said when: a used-up budget does not come back. Nor does
    an account that Replicate refuses, until its operator has seen to it.
    """
    if failure.reason == "UPSTREAM_ACCOUNT":
        return False
    if isinstance(failure, Unavailable) or is_interrupted(failure):
        return True
    return isinstance(failure, RateLimited) and failure.retry_after is not None
