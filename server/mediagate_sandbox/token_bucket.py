"""How often an account may ask: two budgets that refill evenly, and what low credit does to one.

Replicate documents 600 creates a minute and 3,000 of everything else. Its recorded answers count
down from 599 and say that all is refilled one second later, which is how a bucket behaves that
refills evenly, not a window that ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Credit = Literal["enough", "low", "none"]
Budget = Literal["create", "other"]

LOW_CREDIT_PER_MINUTE = 6.0
LOW_CREDIT_BURST = 1
_ROUNDING = 1e-9
"""What a moment in floating point may fall short of the moment it stands for, in requests."""


@dataclass(frozen=True, slots=True)
class RateLimits:
    """The limits of every account."""

    creates_per_minute: float | None = 600.0
    """None does not limit."""
    requests_per_minute: float | None = 3000.0
    """Everything that is not a create; None does not limit."""
    credit: Credit = "enough"
    """`low` allows 6 creates a minute, one at a time; `none` refuses each with 402."""

    def __post_init__(self) -> None:
        """Refuse a limit that would let nothing through for ever."""
        for name in ("creates_per_minute", "requests_per_minute"):
            limit = getattr(self, name)
            if limit is not None and not (math.isfinite(limit) and limit > 0):
                raise ValueError(f"{name} must be more than 0, or null for no limit")
        if self.credit not in ("enough", "low", "none"):
            raise ValueError('credit must be "enough", "low" or "none"')

    def bucket(self, budget: Budget, now: float) -> TokenBucket | None:
        """A full bucket for one budget; None where there is no limit."""
        if budget == "create" and self.credit == "low":
            return TokenBucket(LOW_CREDIT_PER_MINUTE, LOW_CREDIT_BURST, now)
        limit = self.creates_per_minute if budget == "create" else self.requests_per_minute
        return None if limit is None else TokenBucket(limit, max(1, int(limit)), now)


@dataclass(frozen=True, slots=True)
class TokenUse:
    """What became of one request."""

    allowed: bool
    remaining: int
    """How many more could follow at once."""
    reset: int
    """Whole seconds until the bucket is full; after a refusal, until one more is let through."""


class TokenBucket:
    """One budget of one account. Moments are monotonic seconds."""

    def __init__(self, per_minute: float, most: int, now: float) -> None:
        """Full: `most` requests may come at once."""
        self._per_second = per_minute / 60
        self._most = most
        self._left = float(most)
        self._seen = now

    def take(self, now: float) -> TokenUse:
        """Count one request, if it may pass; refused ones cost nothing."""
        self._left = min(self._most, self._left + (now - self._seen) * self._per_second)
        self._seen = now
        allowed = self._left >= 1 - _ROUNDING
        if allowed:
            self._left = max(0.0, self._left - 1)
        missing = (self._most if allowed else 1) - self._left
        reset = max(1, math.ceil(missing / self._per_second - _ROUNDING))
        return TokenUse(allowed, int(self._left + _ROUNDING), reset)
