"""Concurrency limit: how many reads and lists of one tenant are worked on at the same time.

Those that are begun take turns on the event loop, so that another tenant's call is behind a step of
each of them. A burst waits here instead, before anything was decoded or checked for it: first come
first served within a tenant, and no other tenant waits for it.

It is for rpcs that only read, and from the store alone. One that may wait for a commit, for a
generation's end, for upstream or for the storage of media would keep its place for as long as that
takes; planning a paid call has a limit of its own.
"""

import asyncio
from collections.abc import Awaitable, Collection
from typing import Final

from mediagate_server.interceptors.inbound.call import Call, Proceed
from mediagate_server.loop_share import LoopShare

MOST_AT_WORK: Final = 2
"""Of one tenant: one is shown while another is read. The store reads lists in one thread, so that
more of them would be done no sooner, and another tenant's call would be behind each of them.
"""

READ_SECONDS: Final = 0.002
"""By which two of them are apart while another tenant is there."""


class WorkLimit:
    """Places of each tenant for the methods at `paths`. Stands behind `auth`.

    Tenants are those that are configured: their number is bounded.
    """

    def __init__(self, share: LoopShare, paths: Collection[str], most: int = MOST_AT_WORK) -> None:
        self._share: Final = share
        self._paths: Final = frozenset(paths)
        self._most: Final = most
        self._tenants: dict[str, asyncio.Semaphore] = {}

    def around(self, call: Call, proceed: Proceed) -> Awaitable[bytes | None]:
        """Hold a place for as long as the rpc is worked on; wait for one where all are taken."""
        if call.caller is None or call.method.path not in self._paths:
            return proceed(call)
        tenant = call.caller.tenant
        places = self._tenants.get(tenant)
        if places is None:
            places = self._tenants[tenant] = asyncio.Semaphore(self._most)
        return self._in_place(tenant, places, call, proceed)

    async def _in_place(
        self, tenant: str, places: asyncio.Semaphore, call: Call, proceed: Proceed
    ) -> bytes | None:
        async with places:
            await self._share.turn(tenant, READ_SECONDS)
            return await proceed(call)
