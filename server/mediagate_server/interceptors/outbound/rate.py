"""Rate limiter by GCRA, with reservations and turns by tenant.

One rate per minute that is never exceeded, in any 60 seconds, with a small burst.
"""

import asyncio
import math
from contextlib import suppress

from mediagate_server.interceptors.outbound.fair_lock import FairLock
from mediagate_server.interceptors.outbound.throttle import Throttle
from mediagate_server.interceptors.outbound.turn import Turn

_MINUTE = 60.0
_BURST_SHARE = 20
_MARGIN = 0.95
"""Of a reduced rate: what comes a moment before its token is refused, and waits for another."""
_REDUCED_FOR = 300.0
"""Seconds until a rate that upstream has reduced is tried again: the account may be topped up."""
_TICK = 1e-4


class _Gcra:
    """The generic cell rate algorithm: `burst` requests at once, then `per_second` of them.

    A leaky bucket as a meter, whose state is one time. It is of what was sent alone. `reserved` is
    what may be sent at any moment: it takes room, but nothing of it leaks before it is sent, so
    that giving it back gives nothing away.
    """

    def __init__(self, burst: int, per_second: float) -> None:
        self._burst = burst
        self._interval = 1 / per_second
        self._arrival = 0.0
        """The theoretical arrival time (TAT): when all that was sent has leaked."""

    def seconds_until_room(self, now: float, reserved: int) -> float:
        """Until there is room for one more beside those; infinite where they have to go first."""
        if reserved + 1 > self._burst:
            return math.inf
        ahead = max(self._arrival - now, 0.0)
        return max(ahead + (reserved + 1 - self._burst) * self._interval, 0.0)

    def add(self, now: float) -> None:
        """One is sent."""
        self._arrival = max(self._arrival, now) + self._interval


class Rate:
    """Turns of one kind of request, for one tenant after the other. For one event loop.

    Within a tenant first come, first served: a thousand that one has waiting keep nobody else's.

    At most `per_minute` turns are used in any 60 seconds. Up to a 20th of them (`burst`, at
    least one) may come at once after a quiet time; in return the steady rate is
    `per_minute - burst + 1`: a leaky bucket that held the whole minute would let through twice
    the limit in its first minute.
    """

    def __init__(self, per_minute: int) -> None:
        self.burst = max(1, per_minute // _BURST_SHARE)
        # A bucket of b that leaks r a second gives out at most b + r * 60 - 1 in 60 seconds.
        self._bucket = _Gcra(self.burst, (per_minute - self.burst + 1) / _MINUTE)
        self._steady = _Gcra(1, per_minute / _MINUTE)
        self._turn = FairLock()
        self._throttle = Throttle()
        self._reserved = 0
        self._changed = asyncio.Event()
        """A reservation has ended: who waits for room reckons anew."""
        self._waiting = 0
        self._held_until = 0.0
        self._per_minute = per_minute
        self._reduced: tuple[int, _Gcra] | None = None
        """What upstream said that it grants, where that is less."""
        self._reduced_until = 0.0

    def try_reserve(self) -> Turn | None:
        """Reserve a turn if there is one now and nobody waits for it."""
        if self._waiting or self._seconds_until_free() > 0:
            return None
        return self._reserve()

    async def reserve(self, tenant: str = "", *, again: bool = False) -> Turn:
        """Wait for a turn of this tenant's, and reserve it. Empty: the gate's own.

        `again`: ahead of the tenant's others, as one whose last turn upstream has refused.
        """
        self._waiting += 1
        try:
            # Only one at a time waits for room: newcomers must not pass those who came before.
            async with self._turn.held_for(tenant, first=again):
                return await self._next()
        finally:
            self._waiting -= 1

    def try_take(self) -> bool:
        """Take a turn if there is one now and nobody waits for it."""
        if (turn := self.try_reserve()) is None:
            return False
        turn.use()
        return True

    async def take(self, tenant: str = "") -> float:
        """Wait for a turn and take it; the seconds waited."""
        started = _now()
        (await self.reserve(tenant)).use()
        return _now() - started

    async def take_first(self) -> float:
        """Like `take`, ahead of all who wait: for what is paid for while it waits."""
        started = _now()
        (await self._next()).use()
        return _now() - started

    def hold(self, seconds: float) -> None:
        """Give no turn for this long. Never shortens a hold."""
        self._held_until = max(self._held_until, _now() + seconds)

    @property
    def seconds_held(self) -> float:
        """Until the wait is over that upstream has asked for, or that its reduced rate makes."""
        held = max(self._held_until - _now(), 0.0)
        if self.reduced_to is None:
            return held
        free = self._seconds_until_free()
        return held if math.isinf(free) else max(held, free)

    def refused(self, sent_at: float, told: float | None) -> None:
        """A create that was sent then was refused by upstream's own limit: see Throttle."""
        self.hold(self._throttle.refused(sent_at, _now(), told))
        self._changed.set()

    def reduce(self, per_minute: int) -> None:
        """Upstream says that it grants so many, one at a time: so many are sent for a while."""
        if per_minute >= self._per_minute:
            return
        if self._reduced is None or self._reduced[0] != per_minute:
            self._reduced = per_minute, _Gcra(1, per_minute * _MARGIN / _MINUTE)
        self._reduced_until = _now() + _REDUCED_FOR

    @property
    def reduced_to(self) -> int | None:
        """What upstream said lately that it grants a minute, where that is less."""
        return self._reduced[0] if self._reduced and _now() < self._reduced_until else None

    def answered(self, sent_at: float) -> None:
        """A create that was sent then was not refused by it."""
        if self._throttle.is_closed:
            self._throttle.answered(sent_at)
            self._changed.set()

    async def _next(self) -> Turn:
        while (left := self._seconds_until_free()) > 0:
            self._changed.clear()
            with suppress(TimeoutError):
                # Less is nothing to a clock, and would be waited for again and again.
                async with asyncio.timeout(None if math.isinf(left) else max(left, _TICK)):
                    await self._changed.wait()
        return self._reserve()

    def _seconds_until_free(self) -> float:
        now = _now()
        seconds = max(self._held_until - now, self._throttle.seconds_until_open(now))
        for bucket in self._buckets(now):
            seconds = max(seconds, bucket.seconds_until_room(now, self._reserved))
        return seconds

    def _reserve(self) -> Turn:
        self._reserved += 1
        if not self._throttle.is_closed:
            return Turn(self._use, self._release)
        probe = self._throttle.begin_probe()

        def release() -> None:
            self._throttle.end_probe(probe)
            self._release()

        def over() -> None:
            self._throttle.end_probe(probe)
            self._changed.set()

        return Turn(self._use, release, over)

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
        """For a minute after a hold, turns come one by one.

        Upstream's own limit was met, and it may be far below ours (6 a minute on low credit):
        a burst of all that waited would be refused whole, and each refusal costs an attempt.
        """
        if self._reduced and now < self._reduced_until:
            return (self._bucket, self._steady, self._reduced[1])
        if 0 < self._held_until > now - _MINUTE:
            return (self._bucket, self._steady)
        return (self._bucket,)


def _now() -> float:
    return asyncio.get_running_loop().time()
