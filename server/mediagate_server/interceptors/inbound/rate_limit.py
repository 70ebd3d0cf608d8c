"""Holds every tenant to so many rpcs a minute. Health and reflection are free.

It counts rpcs, not generations: those in flight are counted when one is accepted.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from mediagate_server import caller
from mediagate_server.errors import RateLimited
from mediagate_server.interceptors.inbound.call import Call, Proceed
from mediagate_server.interceptors.inbound.window import SlidingWindow


class RateLimit:
    """A sliding window of a minute for each tenant.

    `requests_per_minute` is asked for a tenant at every rpc, so that it may change while we run; 0
    is no limit.
    `clock` is the time of day in seconds.
    """

    def __init__(
        self, requests_per_minute: Callable[[str], int], clock: Callable[[], float] = time.time
    ) -> None:
        self._requests_per_minute = requests_per_minute
        self._window: Final = SlidingWindow(clock)

    def around(self, call: Call, proceed: Proceed) -> Awaitable[bytes | None]:
        """Count the rpc, or refuse it and say when to try again."""
        if not call.method.public:
            tenant = caller.current().tenant
            if (allowed := self._requests_per_minute(tenant)) > 0:
                self._take(allowed, tenant)
        return proceed(call)

    def _take(self, allowed: int, tenant: str) -> None:
        if wait := self._window.take(tenant, allowed):
            raise RateLimited(
                f"more than {allowed} requests a minute",
                metadata={"tenant": tenant, "requests_per_minute": str(allowed)},
                retry_after=wait,
            )
