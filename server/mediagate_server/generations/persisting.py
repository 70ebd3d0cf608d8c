"""Work that no bug of ours may end for good: it is begun anew, after a pause that grows.

What is told of the error is its type and its place. Its words may hold anything, prompts included.
"""

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog

from mediagate_server import telemetry
from mediagate_server.generations.clock import Clock
from mediagate_server.store.port import StaleOwner

_log = structlog.get_logger()

_FIRST: Final = 1.0
_LONGEST: Final = 60.0
"""Seconds. There is no last try: what runs upstream is paid, and is to be settled some time."""


async def until_done(
    work: str,
    act: Callable[[], Awaitable[None]],
    clock: Clock,
    lost: asyncio.Event,
    **facts: str,
) -> None:
    """Do it until it ends by itself, or the store is `lost`: then another process does.

    `work` names it in log and metrics and is of a closed set; `facts` say which one it is.
    """
    pause = _FIRST
    while True:
        try:
            return await act()
        except StaleOwner:
            return None
        except Exception as error:  # noqa: BLE001 - this is where it ends
            broke(work, error, **facts)
        if await clock.wait(lost, pause):
            return None
        pause = min(2 * pause, _LONGEST)


def broke(work: str, error: Exception, **facts: str) -> None:
    """Tell log and metrics that a bug has ended some work, which begins anew."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    telemetry.unexpected_errors.labels(work).inc()
    _log.error(f"{work} broke", error=type(error).__name__, at=_place(error), **facts)


def _place(error: Exception) -> str:
    """Where it was raised: file and line."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
