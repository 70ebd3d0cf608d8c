"""One rate per minute that is never exceeded, in any 60 seconds, with a small burst."""

import asyncio

from aiolimiter import AsyncLimiter

_MINUTE = 60.0
_BURST_SHARE = 20


class Rate:
    """Turns of one kind of request, first come first served. For one event loop.

    At most `per_minute` turns are given in any 60 seconds. Up to a 20th of them (`burst`, at
    least one) may come at once after a quiet time; in return the steady rate is
    `per_minute - burst + 1`: a leaky bucket that held the whole minute would let through twice
    the limit in its first minute.
    """

    def __init__(self, per_minute: int) -> None:
        self.burst = max(1, per_minute // _BURST_SHARE)
        # A bucket of b that leaks r a second gives out at most b + r * 60 - 1 in 60 seconds.
        leak = (per_minute - self.burst + 1) / _MINUTE
        self._bucket = AsyncLimiter(self.burst, self.burst / leak)
        self._steady = AsyncLimiter(1, _MINUTE / per_minute)
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._held_until = 0.0

    def try_take(self) -> bool:
        """Take a turn if there is one now and nobody waits for it."""
        if self._waiting or self._hold_left() > 0:
            return False
        buckets = self._buckets()
        if not all(bucket.has_capacity() for bucket in buckets):
            return False
        for bucket in buckets:
            _take_now(bucket)
        return True

    async def take(self) -> float:
        """Wait for a turn and take it; the seconds waited."""
        started = _now()
        self._waiting += 1
        try:
            # The limiter lets newcomers pass those it wakes: only one at a time may wait there.
            async with self._turn:
                await self._next()
        finally:
            self._waiting -= 1
        return _now() - started

    async def take_first(self) -> float:
        """Like `take`, ahead of all who wait: for what is paid for while it waits."""
        started = _now()
        await self._next()
        return _now() - started

    def hold(self, seconds: float) -> None:
        """Give no turn for this long. Never shortens a hold."""
        self._held_until = max(self._held_until, _now() + seconds)

    async def _next(self) -> None:
        while True:
            if (left := self._hold_left()) > 0:
                await asyncio.sleep(left)
                continue
            for bucket in self._buckets():
                await bucket.acquire()
            if self._hold_left() <= 0:
                return
            # A hold came while this waited: its turn is given up, which errs on the safe side.

    def _hold_left(self) -> float:
        return self._held_until - _now()

    def _buckets(self) -> tuple[AsyncLimiter, ...]:
        """For a minute after a hold, turns come one by one.

        Upstream's own limit was met, and it may be far below ours (6 a minute on low credit):
        a burst of all that waited would be refused whole, and each refusal costs an attempt.
        """
        if 0 < self._held_until > _now() - _MINUTE:
            return (self._bucket, self._steady)
        return (self._bucket,)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _take_now(bucket: AsyncLimiter) -> None:
    """Take from a bucket that has capacity: its `acquire` then ends without ever waiting."""
    taking = bucket.acquire()
    try:
        taking.send(None)
    except StopIteration:
        return
    taking.close()
    raise AssertionError("a bucket with capacity made its taker wait")
