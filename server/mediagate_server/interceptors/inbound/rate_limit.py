"""Holds every tenant to so many rpcs a minute. Health and reflection are free.

It counts rpcs, not generations: those in flight are counted when one is accepted.
"""

import math
from collections.abc import Callable
from typing import Final

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from mediagate_server import caller
from mediagate_server.errors import RateLimited
from mediagate_server.interceptors.inbound.call import Call, Proceed


class RateLimit:
    """A sliding window of a minute for each tenant.

    `requests_per_minute` is asked at every rpc, so that it may change while we run; 0 is no limit.
    """

    def __init__(
        self, requests_per_minute: Callable[[], int], storage: MemoryStorage | None = None
    ) -> None:
        self._requests_per_minute = requests_per_minute
        self._storage: Final = storage or MemoryStorage()
        self._limiter: Final = SlidingWindowCounterRateLimiter(self._storage)
        self._limit: RateLimitItem | None = None

    async def around(self, call: Call, proceed: Proceed) -> bytes | None:
        """Count the rpc, or refuse it and say when to try again."""
        if not call.method.public and (allowed := self._requests_per_minute()) > 0:
            await self._take(allowed, caller.current().tenant)
        return await proceed(call)

    async def _take(self, allowed: int, tenant: str) -> None:
        limit = self._limit
        if limit is None or limit.amount != allowed:
            limit = self._limit = RateLimitItemPerMinute(allowed)
        if await self._limiter.hit(limit, tenant):
            return
        before, before_left, now, now_left = await self._storage.get_sliding_window(
            limit.key_for(tenant), limit.get_expiry()
        )
        raise RateLimited(
            f"more than {allowed} requests a minute",
            metadata={"tenant": tenant, "requests_per_minute": str(allowed)},
            retry_after=seconds_until_free(
                allowed,
                before=before,
                before_left=before_left,
                now=now,
                now_left=now_left - limit.get_expiry(),
                window=limit.get_expiry(),
            ),
        )


def seconds_until_free(
    limit: int, *, before: int, before_left: float, now: int, now_left: float, window: float
) -> float:
    """When the window has room for one more, in whole seconds rounded up; at least 1.

    `before` requests of the last window count for the share of it that has not yet slid out
    (`before_left` of `window` seconds); `now` ones count whole until this window ends in `now_left`
    seconds, and slide out after that.
    """
    if now < limit:
        # Room as soon as what is left of the last window weighs less than limit - now.
        wait = before_left - (limit - now) / before * window if before else 0.0
    else:
        wait = now_left + (1 - limit / now) * window
    # Rounded first: the clock's own noise must not add a second.
    return float(max(1, math.ceil(round(wait, 6))))
