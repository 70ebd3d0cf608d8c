"""Work that no bug of ours may end for good: it is begun anew, after a pause that grows."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from mediagate_server.generations.clock import Clock
from mediagate_server.store.port import StaleOwner
from mediagate_server.unexpected import broke

_FIRST: Final = 1.0
_LONGEST: Final = 60.0
"""Seconds. There is no last try: what runs upstream is paid, and is to be settled some time."""


async def until_done(
    work: str,
    act: Callable[[], Awaitable[None]],
    clock: Clock,
    lost: asyncio.Event,
    name: str = "",
) -> None:
    """Do it until it ends by itself, or the store is `lost`: then another process does.

    `work` names it in log and metrics and is of a closed set; `name` says which one it is.
    """
    pause = _FIRST
    while True:
        try:
            return await act()
        except StaleOwner:
            return None
        except Exception as error:  # noqa: BLE001 - this is where it ends
            broke(work, error, **({"id": name} if name else {}))
        if await clock.wait(lost, pause):
            return None
        pause = min(2 * pause, _LONGEST)
