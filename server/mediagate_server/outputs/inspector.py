"""Media inspection off the event loop: a small thread pool of its own, with a time limit.

The threads that everybody shares write to the disk for everybody: a file that is slow to be read
must not hold one of them.
"""

import asyncio
import concurrent.futures
from pathlib import Path
from typing import Final

import structlog

from mediagate_server.outputs.bounded_file import LONGEST
from mediagate_server.outputs.facts import Looks, looks_of

_THREADS: Final = 2
_WAIT: Final = 4 * LONGEST
"""Seconds, the wait for a thread included: what it plays and measures is not worth more."""

_log = structlog.get_logger()


class MediaInspector:
    """Tells what files look like. Never raises for what is in them."""

    def __init__(self) -> None:
        self._threads = concurrent.futures.ThreadPoolExecutor(
            _THREADS, thread_name_prefix="media-inspector"
        )

    async def inspect(self, path: Path, media_type: str) -> Looks:
        """What the file looks like; nothing where that takes too long."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_WAIT):
                return await loop.run_in_executor(self._threads, looks_of, path, media_type)
        except TimeoutError:
            _log.info("a medium took too long to be looked at", media_type=media_type)
            return Looks()

    def close(self) -> None:
        """Take no more work. What runs ends by itself within seconds."""
        self._threads.shutdown(wait=False, cancel_futures=True)
