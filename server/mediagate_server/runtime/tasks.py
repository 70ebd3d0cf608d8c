"""Work that no bug of ours may end for good: it is begun anew, after a pause that grows.

Runs a coroutine from where it is called, as far as it comes, and on when what it awaits is done.

A task would begin it with the next turn of the event loop, and be made anew for each message that
is sent: half of what our own code takes for a token of a stream. Python 3.12 has eager tasks for
this; the gate runs on 3.11 too.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final

from mediagate_server.errors import StaleOwner
from mediagate_server.observability.bug_report import BackgroundJob, report_bug
from mediagate_server.runtime.clock import Clock

_FIRST: Final = 1.0
_LONGEST: Final = 60.0
"""Seconds. There is no last try: what runs upstream is paid, and is to be settled some time."""


async def restart_until_done(
    job: BackgroundJob,
    act: Callable[[], Awaitable[None]],
    clock: Clock,
    lost: asyncio.Event,
    name: str = "",
) -> None:
    """Do it until it ends by itself, or the store is `lost`: then another process does.

    `job` names it in log and metrics; `name` says which one it is.
    """
    pause = _FIRST
    while True:
        try:
            return await act()
        except StaleOwner:
            return None
        except Exception as error:  # noqa: BLE001 - this is where it ends
            report_bug(job, error, **({"id": name} if name else {}))
        if await clock.wait(lost, pause):
            return None
        pause = min(2 * pause, _LONGEST)


Ended = Callable[[BaseException | None], None]
"""Told at the end: what the coroutine raised, None where it returned."""


def run_eagerly(coroutine: Coroutine[Any, Any, None], ended: Ended) -> None:
    """For coroutines that await futures of asyncio, and ask for no task of their own.

    Nobody can cancel them. `ended` must not raise; it may be called before this returns.
    """
    _step(coroutine, ended)


def _step(
    coroutine: Coroutine[Any, Any, None],
    ended: Ended,
    _: "asyncio.Future[Any] | None" = None,
) -> None:
    try:
        awaited: asyncio.Future[Any] = coroutine.send(None)
    except StopIteration:
        ended(None)
    except (Exception, asyncio.CancelledError) as failure:  # noqa: BLE001 - its owner is told
        ended(failure)
    else:
        awaited.add_done_callback(partial(_step, coroutine, ended))
