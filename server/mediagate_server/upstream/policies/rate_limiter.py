"""Rate limiter by GCRA, with reservations and fair queuing of tenants.

The limit per minute is never exceeded in any 60 seconds; small bursts are possible. After a 429
it pauses, as `throttle_backoff.py` says. No I/O.
"""

import asyncio
import math
from contextlib import suppress

from mediagate_server.upstream.policies.fair_lock import FairLock
from mediagate_server.upstream.policies.throttle_backoff import RateLimitBackoff
from mediagate_server.upstream.port import CreateReservation

_MINUTE = 60.0
_BURST_SHARE = 20
_MARGIN = 0.95
"""Share of a reduced rate that is used: a create just before its token would be refused."""
_REDUCED_FOR = 300.0
"""Seconds until the full rate is tried again: the account may have been topped up."""
_TICK = 1e-4


class _Gcra:
    """Generic cell rate algorithm (GCRA): a burst of `burst`, then `per_second` requests.

    A leaky bucket as a meter, whose state is one time. It counts sent requests. Reservations take
    room as well, but do not leak before they are sent, so that a release needs no refund.
    """

    def __init__(self, burst: int, per_second: float) -> None:
        self._burst = burst
        self._interval = 1 / per_second
        self._arrival = 0.0
        """The theoretical arrival time (TAT): when all that was sent has leaked."""

    def seconds_until_room(self, now: float, reserved: int) -> float:
        """Seconds until there is room for one more; infinite where reservations fill the burst."""
        if reserved + 1 > self._burst:
            return math.inf
        ahead = max(self._arrival - now, 0.0)
        return max(ahead + (reserved + 1 - self._burst) * self._interval, 0.0)

    def add(self, now: float) -> None:
        """Count a sent request."""
        self._arrival = max(self._arrival, now) + self._interval


class RateLimiter:
    """Rate limiter of one kind of request, with fair queuing of tenants. For one event loop.

    At most `per_minute` requests pass in any 60 seconds. A 20th of them (`burst`, at least one)
    may pass at once after an idle time; in return the steady rate is `per_minute - burst + 1`: a
    bucket of the size of the whole minute would pass twice the limit in its first minute.
    """

    def __init__(self, per_minute: int) -> None:
        self.burst = max(1, per_minute // _BURST_SHARE)
        # A bucket of b that leaks r a second gives out at most b + r * 60 - 1 in 60 seconds.
        self._bucket = _Gcra(self.burst, (per_minute - self.burst + 1) / _MINUTE)
        self._steady = _Gcra(1, per_minute / _MINUTE)
        self._queue = FairLock()
        self._backoff = RateLimitBackoff()
        self._reserved = 0
        self._changed = asyncio.Event()
        """Set when a reservation has ended: waiters compute their wait again."""
        self._waiting = 0
        self._paused_until = 0.0
        self._per_minute = per_minute
        self._reduced: tuple[int, _Gcra] | None = None
        """The rate that upstream has reduced the account to, and its bucket."""
        self._reduced_until = 0.0

    def try_reserve(self) -> CreateReservation | None:
        """Reserve a slot if there is one now and nobody waits."""
        if self._waiting or self._seconds_until_free() > 0:
            return None
        return self._reserve()

    async def reserve(self, tenant: str = "", *, again: bool = False) -> CreateReservation:
        """Wait for a slot in this tenant's queue, and reserve it. Empty: the server's own.

        `again`: ahead of the tenant's others, as its last request was refused with 429.
        """
        self._waiting += 1
        try:
            # Only one at a time waits for room: newcomers must not pass those who came before.
            async with self._queue.acquire(tenant, first=again):
                return await self._next()
        finally:
            self._waiting -= 1

    async def acquire(self, tenant: str = "") -> float:
        """Wait for a slot and use it; returns the seconds waited."""
        started = _now()
        (await self.reserve(tenant)).use()
        return _now() - started

    async def acquire_first(self) -> float:
        """Like `acquire`, ahead of all waiters: for cancels, as the run costs money meanwhile."""
        started = _now()
        (await self._next()).use()
        return _now() - started

    def pause(self, seconds: float) -> None:
        """Pause for so long. Never shortens a pause."""
        self._paused_until = max(self._paused_until, _now() + seconds)

    @property
    def backoff_seconds(self) -> float:
        """Seconds until the wait that upstream asked for, or that a reduced rate makes, is over."""
        paused = max(self._paused_until - _now(), 0.0)
        if self.reduced_rate is None:
            return paused
        free = self._seconds_until_free()
        return paused if math.isinf(free) else max(paused, free)

    def on_throttled(self, sent_at: float, retry_after: float | None) -> None:
        """Record a 429 for a create that was sent then (see RateLimitBackoff)."""
        self.pause(self._backoff.on_throttled(sent_at, _now(), retry_after))
        self._changed.set()

    def reduce_to(self, per_minute: int) -> None:
        """Reduce the rate for a while to what upstream says that it grants."""
        if per_minute >= self._per_minute:
            return
        if self._reduced is None or self._reduced[0] != per_minute:
            self._reduced = per_minute, _Gcra(1, per_minute * _MARGIN / _MINUTE)
        self._reduced_until = _now() + _REDUCED_FOR

    @property
    def reduced_rate(self) -> int | None:
        """The reduced rate per minute, if upstream named one recently."""
        return self._reduced[0] if self._reduced and _now() < self._reduced_until else None

    def on_accepted(self, sent_at: float) -> None:
        """Record that a create that was sent then was not refused with 429."""
        if self._backoff.is_closed:
            self._backoff.on_accepted(sent_at)
            self._changed.set()

    async def _next(self) -> CreateReservation:
        while (left := self._seconds_until_free()) > 0:
            self._changed.clear()
            with suppress(TimeoutError):
                # Shorter waits than the resolution of the clock would loop.
                async with asyncio.timeout(None if math.isinf(left) else max(left, _TICK)):
                    await self._changed.wait()
        return self._reserve()

    def _seconds_until_free(self) -> float:
        now = _now()
        seconds = max(self._paused_until - now, self._backoff.seconds_until_open(now))
        for bucket in self._buckets(now):
            seconds = max(seconds, bucket.seconds_until_room(now, self._reserved))
        return seconds

    def _reserve(self) -> CreateReservation:
        self._reserved += 1
        if not self._backoff.is_closed:
            return CreateReservation(self._use, self._release)
        probe = self._backoff.begin_probe()

        def release() -> None:
            self._backoff.end_probe(probe)
            self._release()

        def on_end() -> None:
            self._backoff.end_probe(probe)
            self._changed.set()

        return CreateReservation(self._use, release, on_end)

    def _use(self) -> None:
        self._reserved -= 1
        now = _now()
        for bucket in self._buckets(now):
            bucket.add(now)
        self._changed.set()

    def _release(self) -> None:
        self._reserved -= 1
        self._changed.set()

    def _buckets(self, now: float) -> tuple[_Gcra, ...]:
        """The buckets that apply now. For a minute after a pause there are no bursts.

        Upstream's own limit was hit, which may be far below ours (6 a minute on low credit): a
        burst of all waiters would be refused, and each refusal costs an attempt.
        """
        if self._reduced and now < self._reduced_until:
            return (self._bucket, self._steady, self._reduced[1])
        if 0 < self._paused_until > now - _MINUTE:
            return (self._bucket, self._steady)
        return (self._bucket,)


def _now() -> float:
    return asyncio.get_running_loop().time()
