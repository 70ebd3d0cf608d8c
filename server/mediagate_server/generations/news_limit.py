"""Rate limit on news between two versions of generations, by tenant.

A change of state is told to whoever watches, and there are a few of them in a run. Progress, logs
and places have no end, and anybody may open thousands of watches of one generation.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final

MOST_NEWS: Final = 200
"""In a second, to all who watch generations of one tenant."""


class NewsLimit:
    """A window of a second for each tenant. What is over it is told later, as it stands then."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._told: dict[str, tuple[int, int]] = {}
        """The second that counts, and how many were told in it."""

    def take(self, tenant: str) -> bool:
        """Whether one more may be told now; then it counts."""
        now = int(self._now().timestamp())
        second, told = self._told.get(tenant, (now, 0))
        if second != now:
            told = 0
        if told >= MOST_NEWS:
            return False
        self._told[tenant] = (now, told + 1)
        return True
