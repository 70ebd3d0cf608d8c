"""Token buckets of an account's rate limits, and the reduced one of low credit.

Replicate documents 600 creates a minute and 3,000 of everything else. Its recorded responses
count down from 599, 2999 and, where a prediction is read, 59999, and name one second until the
bucket is full again: buckets of a minute's requests that are refilled evenly, not windows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Credit = Literal["enough", "low", "none"]
Budget = Literal["create", "get", "other"]

LOW_CREDIT_PER_MINUTE = 6.0
LOW_CREDIT_BURST = 1
_ROUNDING = 1e-9
"""What a moment in floating point may fall short of the moment it stands for, in requests."""


@dataclass(frozen=True, slots=True)
class RateLimits:
    """Rate limits of every account."""

    creates_per_minute: float | None = 600.0
    """None does not limit."""
    requests_per_minute: float | None = 3000.0
    """Everything that is neither a create nor the read of one prediction; None does not limit."""
    gets_per_minute: float | None = 60_000.0
    """Reads of one prediction; None does not limit."""
    credit: Credit = "enough"
    """`low` allows 6 creates a minute, one at a time; `none` refuses each with 402."""

    def __post_init__(self) -> None:
        """Validate: a limit must let requests through."""
        for name in ("creates_per_minute", "requests_per_minute", "gets_per_minute"):
            limit = getattr(self, name)
            if limit is not None and not (math.isfinite(limit) and limit > 0):
                raise ValueError(f"{name} must be more than 0, or null for no limit")
        if self.credit not in ("enough", "low", "none"):
            raise ValueError('credit must be "enough", "low" or "none"')

    def bucket(self, budget: Budget, now: float) -> TokenBucket | None:
        """Create a full bucket; None where there is no limit."""
        if budget == "create" and self.credit == "low":
            return TokenBucket(LOW_CREDIT_PER_MINUTE, LOW_CREDIT_BURST, now)
        limit = {
            "create": self.creates_per_minute,
            "get": self.gets_per_minute,
            "other": self.requests_per_minute,
        }[budget]
        return None if limit is None else TokenBucket(limit, max(1, int(limit)), now)


@dataclass(frozen=True, slots=True)
class TokenUse:
    """Result of one request: allowed or not, and what is left."""

    allowed: bool
    remaining: int
    """How many more could follow at once."""
    reset: int
    """Whole seconds until the bucket is full."""
    retry_after: int
    """Whole seconds until one more is let through: far less, but of the smallest bucket."""


class TokenBucket:
    """Token bucket of one account. Times are monotonic seconds."""

    def __init__(self, per_minute: float, most: int, now: float) -> None:
        """Create a full bucket of `most` requests."""
        self._per_second = per_minute / 60
        self._most = most
        self._left = float(most)
        self._seen = now

    def take(self, now: float) -> TokenUse:
        """Take a token for one request, if there is one."""
        self._left = min(self._most, self._left + (now - self._seen) * self._per_second)
        self._seen = now
        allowed = self._left >= 1 - _ROUNDING
        if allowed:
            self._left = max(0.0, self._left - 1)
        return TokenUse(
            allowed, int(self._left + _ROUNDING), self._seconds_to(self._most), self._seconds_to(1)
        )

    def _seconds_to(self, tokens: int) -> int:
        """Return whole seconds, at least one, until so many tokens are there."""
        return max(1, math.ceil((tokens - self._left) / self._per_second - _ROUNDING))
