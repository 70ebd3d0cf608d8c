"""Fair scheduling of the event loop: whoever held it for long waits before holding it again.

A step of one task (a large request that is decoded, a piece of a stream that is parsed) keeps
everybody else waiting for as long as it takes. It cannot be interrupted, so its tenant pays
afterwards: of the time of the loop a tenant's long steps have at most a quarter, as long as
somebody else is there to have the rest. Short steps are not measured: so that thousands of them
leave the others half of the time, they are apart by twice what they are known to take.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

MIN_CHARGE: Final = 0.002
"""Seconds of a step that is charged; shorter ones are part of any call."""
MAX_STEP: Final = 16 * 1024
"""Bytes of a message that takes no turn: it is decoded within half a millisecond."""
MAX_WAIT: Final = 3.0
"""Seconds to wait for each second taken."""
MAX_DEBT: Final = 1.0
"""Seconds that anybody waits."""
BYTE_SECONDS: Final = 1 / (64 * 1024 * 1024)
"""By which the bytes of one tenant's streams are apart while another tenant is there: they are
copied several times, by threads that share the processor with everybody's calls.
"""
MESSAGE_SECONDS: Final = 0.0002
"""The same for each message, however small it is."""
TENANT_IDLE_SECONDS: Final = 1.0
"""Seconds for which a tenant counts as being there, since its last request."""


class FairScheduler:
    """What each tenant still has to wait. For one event loop; times are `clock`'s, in seconds.

    Tenants are those that are configured: their number is bounded.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock: Final = clock
        self.is_open_beside: Callable[[str], bool] = lambda _: False
        """Whether any tenant but this one has an rpc that is open."""
        # The last two that made a request, and when.
        self._last, self._last_seen = "", -math.inf
        self._other_seen = -math.inf
        self._until: dict[str, float] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    def record_request(self, tenant: str) -> None:
        """The tenant makes a request."""
        if tenant != self._last:
            self._last, self._other_seen = tenant, self._last_seen
        self._last_seen = self.clock()

    def record_usage(self, tenant: str, seconds: float, least: float = MIN_CHARGE) -> None:
        """The tenant's work held the loop for so long, where that is as much as `least`.

        Nothing is charged to one who is alone.
        """
        if seconds >= least and self.has_other_tenants(tenant):
            now = self.clock()
            until = max(self._until.get(tenant, now), now) + MAX_WAIT * seconds
            self._until[tenant] = min(until, now + MAX_DEBT)

    async def acquire(self, tenant: str, seconds: float = 0.0, *, queue: str = "") -> None:
        """Wait until the tenant may hold the loop. What follows at once, up to the next await, is
        charged before any other of its steps has a turn. `seconds`: how far short ones are apart.

        `queue`: another of the tenant's queues, by its name. What stands in one of these waits for
        nothing that stands in the others: a tenant's calls are not behind its thousand files.
        """
        key = f"{tenant} {queue}" if queue else tenant
        if key not in self._until and not self.has_other_tenants(tenant):
            return
        lock = self._turns.get(key)
        if lock is None:
            lock = self._turns[key] = asyncio.Lock()
        async with lock:
            if delay := self.delay(key):
                await asyncio.sleep(delay)
            if seconds and self.has_other_tenants(tenant):
                now = self.clock()
                self._until[key] = max(self._until.get(key, now), now) + seconds

    def has_no_wait(self, tenant: str) -> bool:
        """Whether the tenant waits for no turn: nobody else is there."""
        return tenant not in self._until and not self.has_other_tenants(tenant)

    async def acquire_step(self, tenant: str) -> AbstractContextManager[None]:
        """Wait for a turn; what is done within the result, without an await, is charged."""
        await self.acquire(tenant)
        return self.measure(tenant)

    @contextmanager
    def measure(self, tenant: str) -> Iterator[None]:
        """Charge what is done within, without an await."""
        begun = self.clock()
        try:
            yield
        finally:
            self.record_usage(tenant, self.clock() - begun)

    def delay(self, tenant: str) -> float:
        """Seconds to wait before the tenant's next long step."""
        until = self._until.get(tenant)
        if until is None:
            return 0.0
        now = self.clock()
        if until <= now:
            del self._until[tenant]
            return 0.0
        return until - now

    def has_other_tenants(self, tenant: str) -> bool:
        """Whether another tenant is there: it has just made a request, or waits for an answer."""
        seen = self._other_seen if tenant == self._last else self._last_seen
        return self.clock() - seen < TENANT_IDLE_SECONDS or self.is_open_beside(tenant)


class StreamBandwidth:
    """Bandwidth limit of one stream: its tenant takes turns by the bytes and messages that pass.

    Nothing is limited while nobody else is there.
    """

    __slots__ = ("_owed", "_share", "_tenant")

    def __init__(self, share: FairScheduler, tenant: str) -> None:
        self._share = share
        self._tenant = tenant
        self._owed = 0.0

    def add(self, size: int) -> bool:
        """One more message of so many bytes passes. Whether a turn is to be waited for by now."""
        self._owed += MESSAGE_SECONDS + size * BYTE_SECONDS
        return self._owed >= MIN_CHARGE

    async def turn(self) -> None:
        """Wait for the turn of what has passed."""
        owed, self._owed = self._owed, 0.0
        await self._share.acquire(self._tenant, owed, queue="streams")
