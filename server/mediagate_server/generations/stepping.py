"""Runs a coroutine from where it is called, as far as it comes, and on when what it awaits is done.

A task would begin it with the next turn of the event loop, and be made anew for each message that
is sent: half of what our own code takes for a token of a stream. Python 3.12 has eager tasks for
this; the gate runs on 3.11 too.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

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
