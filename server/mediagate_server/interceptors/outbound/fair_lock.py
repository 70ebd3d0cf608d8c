"""A round-robin lock: it goes from one tenant to the next, however many wait for each."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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
    async def held_for(self, tenant: str, *, first: bool = False) -> AsyncIterator[None]:
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
