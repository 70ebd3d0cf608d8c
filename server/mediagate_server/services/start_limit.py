"""Concurrency limit: how many paid calls of one tenant are planned and accepted at the same time.

Planning a call and binding it takes a millisecond of the event loop, many times what receiving it
takes. Were a burst of one tenant's calls all begun as they come, another's call would be behind the
work for all of them; so it is behind that for a few, and those of the burst wait here.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from mediagate_server.loop_share import LoopShare

MOST_STARTING: Final = 16
"""Enough to fill commits that are written together; waiting for the end of a run takes no place."""
APART: Final = 0.002
"""Seconds between the starts of one tenant's calls while another tenant is there: about what the
steps of one take, so that the event loop is as much at the other's disposal.
"""


class StartLimit:
    """Places of each tenant, first come first served. For one event loop.

    Tenants are those that are configured: their number is bounded.
    """

    def __init__(self, share: LoopShare, most: int = MOST_STARTING) -> None:
        self._share = share
        self._most = most
        self._tenants: dict[str, asyncio.Semaphore] = {}

    @asynccontextmanager
    async def place(self, tenant: str) -> AsyncIterator[None]:
        """Waits for a place of the tenant's, and holds it while this is entered."""
        places = self._tenants.get(tenant)
        if places is None:
            places = self._tenants[tenant] = asyncio.Semaphore(self._most)
        async with places:
            await self._share.turn(tenant, APART)
            yield
