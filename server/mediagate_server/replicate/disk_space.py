"""Reservation of disk space: a bounded number of bytes, given to tenants in turn."""

import asyncio
import contextlib
from collections import Counter, OrderedDict, deque


class DiskSpace:
    """So many bytes, of which one tenant has half at the most. For one event loop.

    Whoever waits is served before all that come later for less: else much would never be free.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._share = size // 2
        self._taken: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[tuple[int, asyncio.Future[None]]]] = OrderedDict()

    @property
    def free(self) -> int:
        """Bytes that nobody has."""
        return self._free

    async def take(self, tenant: str, count: int) -> None:
        """Wait for so many bytes, which are to be given back."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append((count, turn))
        self._grant()
        try:
            await turn
        except BaseException:
            if turn.cancelled():
                self._grant()
            else:
                self.give_back(tenant, count)
            raise

    def give_back(self, tenant: str, count: int) -> None:
        """These are free again."""
        self._free += count
        self._taken[tenant] -= count
        if not self._taken[tenant]:
            del self._taken[tenant]
        self._grant()

    def _grant(self) -> None:
        while (tenant := self._next()) is not None:
            count, turn = self._waiting[tenant][0]
            if count > self._free:
                return
            self._waiting[tenant].popleft()
            self._waiting.move_to_end(tenant)
            self._free -= count
            self._taken[tenant] += count
            turn.set_result(None)

    def _next(self) -> str | None:
        """The tenant who has waited longest for a turn and has not its share already."""
        for tenant, queue in list(self._waiting.items()):
            while queue and queue[0][1].cancelled():
                queue.popleft()
            if not queue:
                del self._waiting[tenant]
            elif self._taken[tenant] + queue[0][0] <= self._share:
                return tenant
        return None


def give_back_later(
    loop: asyncio.AbstractEventLoop, space: DiskSpace, tenant: str, count: int
) -> None:
    """For finalizers, which run in any thread and in the midst of anything."""
    with contextlib.suppress(RuntimeError):  # The loop is closed.
        loop.call_soon_threadsafe(space.give_back, tenant, count)
