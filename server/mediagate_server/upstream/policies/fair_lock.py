"""Round-robin lock: it goes from one tenant to the next, however many wait for each."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_Waiting = deque[asyncio.Future[None]]


class FairLock:
    """Round-robin lock: it passes from tenant to tenant, first in, first out within each.

    For one event loop. A tenant with a thousand waiters delays another by one turn at most.
    """

    def __init__(self) -> None:
        self._is_locked = False
        self._waiting: OrderedDict[str, tuple[_Waiting, _Waiting]] = OrderedDict()

    @asynccontextmanager
    async def acquire(self, tenant: str, *, first: bool = False) -> AsyncIterator[None]:
        """Wait for the lock, and hold it within the block.

        `first`: ahead of the tenant's other waiters that are not `first`.
        """
        await self._acquire(tenant, first=first)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, tenant: str, *, first: bool) -> None:
        if not self._is_locked:
            self._is_locked = True
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
            waiter = self._first_of(firsts) or self._first_of(others)
            if firsts or others:
                self._waiting[tenant] = (firsts, others)  # Behind all the others.
            if waiter:
                waiter.set_result(None)
                return
        self._is_locked = False

    @staticmethod
    def _first_of(queue: _Waiting) -> asyncio.Future[None] | None:
        """Pop the first waiter that was not cancelled."""
        while queue:
            if not (woken := queue.popleft()).done():
                return woken
        return None
