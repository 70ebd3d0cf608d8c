"""Task runners: supervised restart after bugs, and eager execution without a task."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final

from mediagate_server.errors import StaleOwner
from mediagate_server.observability.bug_report import BackgroundJob, report_bug
from mediagate_server.runtime.clock import Clock
from mediagate_server.runtime.notifier import Notifier

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0
"""Backoff in seconds. It never gives up: what runs upstream is paid, and must be settled."""


async def restart_until_done(
    job: BackgroundJob,
    act: Callable[[], Awaitable[None]],
    clock: Clock,
    lost: Notifier,
    name: str = "",
) -> None:
    """Supervised restart: run `act` again after each bug, with exponential backoff.

    Ends where `act` returns, or the store is `lost` to another process, which then does the work.
    `job` is its name in log and metrics; `name` is the id of what it works on.
    """
    pause = _FIRST_PAUSE
    while True:
        try:
            return await act()
        except StaleOwner:
            return None
        except Exception as error:  # noqa: BLE001 - the supervisor
            report_bug(job, error, **({"id": name} if name else {}))
        if await clock.wait(lost, pause):
            return None
        pause = min(2 * pause, _LONGEST_PAUSE)


DoneCallback = Callable[[BaseException | None], None]
"""Called at the end with the exception of the coroutine; None where it returned."""


def run_eagerly(coroutine: Coroutine[Any, Any, None], on_done: DoneCallback) -> None:
    """Eager execution: run a coroutine up to its first await now, and on as its futures are done.

    A task would begin it in the next turn of the event loop, and would be created for each message:
    half of the time that our own code takes for a token of a stream. Python 3.12 has eager tasks;
    the server runs on 3.11 too. Only for coroutines that await futures of asyncio and ask for no
    task of their own; nobody can cancel them. `on_done` must not raise; it may be called before
    this returns.
    """
    _step(coroutine, on_done)


def _step(
    coroutine: Coroutine[Any, Any, None],
    on_done: DoneCallback,
    _: "asyncio.Future[Any] | None" = None,
) -> None:
    try:
        awaited: asyncio.Future[Any] = coroutine.send(None)
    except StopIteration:
        on_done(None)
    except (Exception, asyncio.CancelledError) as failure:  # noqa: BLE001 - passed to on_done
        on_done(failure)
    else:
        awaited.add_done_callback(partial(_step, coroutine, on_done))
