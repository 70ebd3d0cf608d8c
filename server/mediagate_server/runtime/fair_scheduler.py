"""Fair scheduling of the event loop between tenants.

A synchronous step of one task (a large request that is decoded, a chunk of a stream that is parsed)
blocks everybody else while it runs. It cannot be interrupted, so its tenant waits afterwards: a
tenant's long steps get at most a quarter of the loop's time while other tenants are active. Short
steps are not measured: so that thousands of them leave the others half of the time, they are spaced
by twice their known duration.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

MIN_CHARGE: Final = 0.002
"""Shortest step that is charged, in seconds; shorter ones are part of any call."""
MAX_STEP: Final = 16 * 1024
"""Largest message that takes no turn, in bytes: it is decoded in half a millisecond."""
MAX_WAIT: Final = 3.0
"""Seconds to wait for each second used."""
MAX_DEBT: Final = 1.0
"""Longest wait, in seconds."""
BYTE_SECONDS: Final = 1 / (64 * 1024 * 1024)
"""Seconds per streamed byte of one tenant while another is active: bytes are copied several times,
by threads that share the processor with everybody's calls.
"""
MESSAGE_SECONDS: Final = 0.0002
"""Seconds per streamed message, whatever its size."""
TENANT_IDLE_SECONDS: Final = 1.0
"""Seconds after its last request for which a tenant counts as active."""


class FairScheduler:
    """Time debts of tenants on one event loop, in seconds of `clock`.

    Tenants are the configured ones, so their number is bounded.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock: Final = clock
        self.is_open_beside: Callable[[str], bool] = lambda _: False
        """Whether any other tenant has an open rpc."""
        # The last tenant with a request, and the times of its and of any other's last request.
        self._last, self._last_seen = "", -math.inf
        self._other_seen = -math.inf
        self._until: dict[str, float] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    def record_request(self, tenant: str) -> None:
        """Note a request of a tenant."""
        if tenant != self._last:
            self._last, self._other_seen = tenant, self._last_seen
        self._last_seen = self.clock()

    def record_usage(self, tenant: str, seconds: float, least: float = MIN_CHARGE) -> None:
        """Charge a step of a tenant that held the loop for so long, if for `least` seconds.

        A tenant that is alone is not charged.
        """
        if seconds >= least and self.has_other_tenants(tenant):
            now = self.clock()
            until = max(self._until.get(tenant, now), now) + MAX_WAIT * seconds
            self._until[tenant] = min(until, now + MAX_DEBT)

    async def acquire(self, tenant: str, seconds: float = 0.0, *, queue: str = "") -> None:
        """Wait until the tenant may hold the loop. What follows up to the next await is charged
        before any other of its steps has a turn. `seconds`: the spacing of short steps.

        `queue`: a separate queue of the tenant, by name, with its own debt: a tenant's calls do not
        wait behind its thousand files.
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
        """Whether the tenant need not wait for a turn: it is alone and has no debt."""
        return tenant not in self._until and not self.has_other_tenants(tenant)

    async def acquire_step(self, tenant: str) -> AbstractContextManager[None]:
        """Wait for a turn; the result is a context manager that charges its block (no await)."""
        await self.acquire(tenant)
        return self.measure(tenant)

    @contextmanager
    def measure(self, tenant: str) -> Iterator[None]:
        """Charge the time of a block, which must not await."""
        started = self.clock()
        try:
            yield
        finally:
            self.record_usage(tenant, self.clock() - started)

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
        """Whether another tenant is active: it made a request lately, or has an open rpc."""
        seen = self._other_seen if tenant == self._last else self._last_seen
        return self.clock() - seen < TENANT_IDLE_SECONDS or self.is_open_beside(tenant)


class StreamBandwidth:
    """Bandwidth limit of one stream: its tenant takes turns by bytes and messages.

    No limit applies while no other tenant is active.
    """

    __slots__ = ("_debt", "_scheduler", "_tenant")

    def __init__(self, scheduler: FairScheduler, tenant: str) -> None:
        self._scheduler = scheduler
        self._tenant = tenant
        self._debt = 0.0

    def add(self, size: int) -> bool:
        """Count a message of so many bytes. Returns whether `turn` should be awaited now."""
        self._debt += MESSAGE_SECONDS + size * BYTE_SECONDS
        return self._debt >= MIN_CHARGE

    async def turn(self) -> None:
        """Wait for a turn of what was counted."""
        debt, self._debt = self._debt, 0.0
        await self._scheduler.acquire(self._tenant, debt, queue="streams")
