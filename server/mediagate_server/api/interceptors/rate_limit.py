"""Rate limit for each tenant, in rpcs per minute; health and reflection are exempt.

It counts rpcs, not generations: those in flight are counted when one is accepted.

A sliding window counter (two counters a key) tells the calls of the last minute: the calls of the
last whole minute weigh as much as the part of it that is still in the window. In memory, for one
process.
"""

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from mediagate_server import rpc_context
from mediagate_server.api.interceptors.rpc_call import CallNext, RpcCall
from mediagate_server.errors import RateLimited

WINDOW_SECONDS: Final = 60.0
"""Seconds. Windows begin at whole minutes of the clock."""
_MAX_KEYS: Final = 10_000


@dataclass(slots=True)
class _WindowCounts:
    """Calls of one key in a minute of the clock, and in the one before it."""

    minute: int
    now: int = 0
    before: int = 0

    def turn_to(self, minute: int) -> None:
        if minute != self.minute:
            self.before = self.now if minute == self.minute + 1 else 0
            self.now = 0
            self.minute = minute

    def has_room(self, time_of_day: float, limit: int) -> bool:
        """Whether there is room for one more at a time in this minute or later."""
        minute, passed = divmod(time_of_day, WINDOW_SECONDS)
        ahead = int(minute) - self.minute
        now, before = {0: (self.now, self.before), 1: (0, self.now)}.get(ahead, (0, 0))
        return math.floor(before * (WINDOW_SECONDS - passed) / WINDOW_SECONDS) + now < limit


class SlidingWindow:
    """Sliding window counter: limits the calls of a key within a minute.

    `clock` is the time of day in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock: Final = clock
        self._counts: dict[str, _WindowCounts] = {}

    def take(self, key: str, limit: int) -> float:
        """Count a call and give 0, or count nothing and give the seconds until there is room."""
        time_of_day = self._clock()
        minute, passed = divmod(time_of_day, WINDOW_SECONDS)
        counts = self._counts.get(key)
        if counts is None:
            counts = self._counts[key] = self._new_counts(int(minute))
        counts.turn_to(int(minute))
        if counts.has_room(time_of_day, limit):
            counts.now += 1
            return 0.0
        left = WINDOW_SECONDS - passed
        wait = seconds_until_free(
            limit,
            before=counts.before,
            before_left=left,
            now=counts.now,
            now_left=left,
            window=WINDOW_SECONDS,
        )
        # Rounding may end a hair before the room is there; who waits as told must get in.
        return wait if counts.has_room(time_of_day + wait, limit) else wait + 1

    def _new_counts(self, minute: int) -> _WindowCounts:
        """Counts for a new key. Those that say nothing any more are forgotten now and then."""
        if len(self._counts) >= _MAX_KEYS:
            self._counts = {
                key: counts for key, counts in self._counts.items() if counts.minute >= minute - 1
            }
        return _WindowCounts(minute)


def seconds_until_free(
    limit: int, *, before: int, before_left: float, now: int, now_left: float, window: float
) -> float:
    """Seconds until the window has room for one more, rounded up; at least 1.

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


class RateLimitInterceptor:
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

    def intercept(self, call: RpcCall, call_next: CallNext) -> Awaitable[bytes | None]:
        """Count the rpc, or refuse it with the time to retry after."""
        if not call.method.public:
            tenant = rpc_context.current_caller().tenant
            if (allowed := self._requests_per_minute(tenant)) > 0:
                self._take(allowed, tenant)
        return call_next(call)

    def _take(self, allowed: int, tenant: str) -> None:
        if wait := self._window.take(tenant, allowed):
            raise RateLimited(
                f"more than {allowed} requests a minute",
                metadata={"tenant": tenant, "requests_per_minute": str(allowed)},
                retry_after=wait,
            )
