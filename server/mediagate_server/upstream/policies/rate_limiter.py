"""Rate limiter by GCRA, with reservations and turns by tenant.

One rate per minute that is never exceeded, in any 60 seconds, with a small burst.

A round-robin lock: it goes from one tenant to the next, however many wait for each.

Rate-limit back-off of one account: after a 429 one create at a time is sent, as a probe.

The limit is the account's, not the call's: were each of a hundred callers to try again by itself,
ninety-nine tries would only be refused too, and each refusal is an attempt. So all wait for one,
and one 429 costs one more create. No I/O, no clock of its own.
"""

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from mediagate_server.upstream.port import CreateReservation

_Waiting = deque[asyncio.Future[None]]


class FairLock:
    """Held by one at a time. Among those of one tenant first come, first served.

    For one event loop. A tenant of whom a thousand wait is passed by one of whom nobody did: that
    one is next but one at the latest, for each tenant that waits.
    """

    def __init__(self) -> None:
        self._held = False
        self._waiting: OrderedDict[str, tuple[_Waiting, _Waiting]] = OrderedDict()

    @asynccontextmanager
    async def acquire(self, tenant: str, *, first: bool = False) -> AsyncIterator[None]:
        """Waits for the lock and holds it while this is entered.

        `first`: ahead of the tenant's others, behind those of them that are first as well.
        """
        await self._acquire(tenant, first=first)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, tenant: str, *, first: bool) -> None:
        if not self._held:
            self._held = True
            return
        woken = asyncio.get_running_loop().create_future()
        firsts, others = self._waiting.setdefault(tenant, (deque(), deque()))
        (firsts if first else others).append(woken)
        try:
            await woken
        except asyncio.CancelledError:
            if not woken.cancelled():
                self._release()  # It was handed over just now.
            raise

    def _release(self) -> None:
        while self._waiting:
            tenant, (firsts, others) = self._waiting.popitem(last=False)
            next_one = self._first_of(firsts) or self._first_of(others)
            if firsts or others:
                self._waiting[tenant] = (firsts, others)  # Behind all the others.
            if next_one:
                next_one.set_result(None)
                return
        self._held = False

    @staticmethod
    def _first_of(queue: _Waiting) -> asyncio.Future[None] | None:
        """Taken out of the queue; those before it have given up."""
        while queue:
            if not (woken := queue.popleft()).done():
                return woken
        return None


_FIRST_UNTOLD, _LONGEST_UNTOLD = 1.0, 10.0
"""Seconds. The slowest account there is gets six creates a minute."""
_FIRST_DOUBTED, _LONGEST_DOUBTED = 0.25, 5.0
"""Seconds that are waited at the least, however short a wait is told: it was kept, and was not
enough."""


class ThrottleProbe:
    """One create that is sent to find out whether the limit is over. `since` is when it was."""

    __slots__ = ("since",)

    def __init__(self, since: float) -> None:
        self.since = since


class RateLimitBackoff:
    """Whether upstream takes creates at the moment. Times are of one clock that never goes back.

    `open_at` is when the next one may be sent after a 429. It is a probe: no other is sent until
    it is over, however it ends. Upstream takes creates again once it has answered one that was
    sent after that with anything but a 429.
    """

    __slots__ = ("_probe", "_refusals", "open_at")

    def __init__(self) -> None:
        self.open_at = -math.inf
        self._refusals = 0
        self._probe: ThrottleProbe | None = None

    @property
    def is_closed(self) -> bool:
        """Whether upstream has refused one and taken none since."""
        return self._refusals > 0

    def seconds_until_open(self, now: float) -> float:
        """Until one may be sent; infinite where a probe has to be over first."""
        if not self._refusals:
            return 0.0
        return math.inf if self._probe else max(self.open_at - now, 0.0)

    def begin_probe(self) -> ThrottleProbe:
        """One is to be sent. It has to be ended, whatever becomes of it."""
        self._probe = ThrottleProbe(self.open_at)
        return self._probe

    def end_probe(self, probe: ThrottleProbe) -> None:
        """It was answered, or got no answer, or was never sent. Nothing where another is out."""
        if self._probe is probe:
            self._probe = None

    def on_throttled(self, sent_at: float, now: float, told: float | None) -> float:
        """A create that was sent then was answered 429 now; the seconds to wait.

        `told` is how long upstream asks to wait. Creates that were on their way together are
        refused together, and count once.
        """
        is_news = self._is_news(sent_at)
        self._refusals = self._refusals + 1 if is_news else max(self._refusals, 1)
        seconds = _pause(self._refusals, told)
        self.open_at = max(self.open_at, now + seconds)
        return seconds

    def on_accepted(self, sent_at: float) -> None:
        """A create that was sent then was answered with anything else, or with nothing."""
        if self._is_news(sent_at):
            self._refusals, self._probe = 0, None

    def _is_news(self, sent_at: float) -> bool:
        """Whether it was sent after the wait was over.

        The late 429 of one that was sent before it can put `open_at` off while a probe is out:
        the probe is judged by when it was sent itself.
        """
        since = self._probe.since if self._probe else self.open_at
        return self._refusals > 0 and sent_at >= since


def _pause(refusals: int, told: float | None) -> float:
    doublings = min(refusals - 1, 10)
    if told is None:
        return min(_FIRST_UNTOLD * 2.0**doublings, _LONGEST_UNTOLD)
    return max(told, min(_FIRST_DOUBTED * 2.0**doublings, _LONGEST_DOUBTED))


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


class RateLimiter:
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
        self._throttle = RateLimitBackoff()
        self._reserved = 0
        self._changed = asyncio.Event()
        """A reservation has ended: who waits for room reckons anew."""
        self._waiting = 0
        self._held_until = 0.0
        self._per_minute = per_minute
        self._reduced: tuple[int, _Gcra] | None = None
        """What upstream said that it grants, where that is less."""
        self._reduced_until = 0.0

    def try_reserve(self) -> CreateReservation | None:
        """Reserve a turn if there is one now and nobody waits for it."""
        if self._waiting or self._seconds_until_free() > 0:
            return None
        return self._reserve()

    async def reserve(self, tenant: str = "", *, again: bool = False) -> CreateReservation:
        """Wait for a turn of this tenant's, and reserve it. Empty: the server's own.

        `again`: ahead of the tenant's others, as one whose last turn upstream has refused.
        """
        self._waiting += 1
        try:
            # Only one at a time waits for room: newcomers must not pass those who came before.
            async with self._turn.acquire(tenant, first=again):
                return await self._next()
        finally:
            self._waiting -= 1

    def try_acquire(self) -> bool:
        """Take a turn if there is one now and nobody waits for it."""
        if (turn := self.try_reserve()) is None:
            return False
        turn.use()
        return True

    async def acquire(self, tenant: str = "") -> float:
        """Wait for a turn and take it; the seconds waited."""
        started = _now()
        (await self.reserve(tenant)).use()
        return _now() - started

    async def acquire_first(self) -> float:
        """Like `acquire`, ahead of all who wait: for what is paid for while it waits."""
        started = _now()
        (await self._next()).use()
        return _now() - started

    def pause(self, seconds: float) -> None:
        """Give no turn for this long. Never shortens a hold."""
        self._held_until = max(self._held_until, _now() + seconds)

    @property
    def backoff_seconds(self) -> float:
        """Until the wait is over that upstream has asked for, or that its reduced rate makes."""
        held = max(self._held_until - _now(), 0.0)
        if self.reduced_rate is None:
            return held
        free = self._seconds_until_free()
        return held if math.isinf(free) else max(held, free)

    def on_throttled(self, sent_at: float, told: float | None) -> None:
        """A create that was sent then was refused by upstream's own limit: see Throttle."""
        self.pause(self._throttle.on_throttled(sent_at, _now(), told))
        self._changed.set()

    def reduce_to(self, per_minute: int) -> None:
        """Upstream says that it grants so many, one at a time: so many are sent for a while."""
        if per_minute >= self._per_minute:
            return
        if self._reduced is None or self._reduced[0] != per_minute:
            self._reduced = per_minute, _Gcra(1, per_minute * _MARGIN / _MINUTE)
        self._reduced_until = _now() + _REDUCED_FOR

    @property
    def reduced_rate(self) -> int | None:
        """What upstream said lately that it grants a minute, where that is less."""
        return self._reduced[0] if self._reduced and _now() < self._reduced_until else None

    def on_accepted(self, sent_at: float) -> None:
        """A create that was sent then was not refused by it."""
        if self._throttle.is_closed:
            self._throttle.on_accepted(sent_at)
            self._changed.set()

    async def _next(self) -> CreateReservation:
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

    def _reserve(self) -> CreateReservation:
        self._reserved += 1
        if not self._throttle.is_closed:
            return CreateReservation(self._use, self._release)
        probe = self._throttle.begin_probe()

        def release() -> None:
            self._throttle.end_probe(probe)
            self._release()

        def over() -> None:
            self._throttle.end_probe(probe)
            self._changed.set()

        return CreateReservation(self._use, release, over)

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
