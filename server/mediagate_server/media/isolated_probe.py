"""Media probing off the event loop: in threads of its own, or in processes that can be killed.

The default executor's threads write to the disk for everybody: a file that is slow to read must not
occupy one of them. Formats whose parsers only read, and so are ended by a `BoundedFile`, are read
in a thread. The others allocate what a file claims to have, which only the end of their process can
end.
"""

import asyncio
import concurrent.futures
import json
from pathlib import Path
from typing import Final

import structlog

from mediagate_server import rpc_context
from mediagate_server.media.bounded_reader import MAX_SECONDS
from mediagate_server.media.probe import ProbeResult, probe_file
from mediagate_server.workers.worker_pool import Task, WorkerError, WorkerPool

_THREADS: Final = 2
_TIMEOUT: Final = 4 * MAX_SECONDS
"""Seconds, with the wait for a thread: duration and size are not worth more."""

_log = structlog.get_logger()


_READ_IN_THREADS: Final = frozenset(
    {
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "video/mp4",
        "video/quicktime",
        "video/webm",
        "audio/mp4",
    }
)
_PROBE_TASK: Final = Task("mediagate_server.media.probe:probe_task")


class IsolatedProbe:
    """Probe of untrusted files. Never raises for their content.

    `workers` are the processes; None: threads do it all.
    """

    def __init__(self, workers: WorkerPool | None = None) -> None:
        self._workers = workers
        self._threads = concurrent.futures.ThreadPoolExecutor(
            _THREADS, thread_name_prefix="media-inspector"
        )

    async def probe(self, path: Path, media_type: str) -> ProbeResult:
        """Probe a file; an empty result where that takes too long."""
        if self._workers is not None and media_type not in _READ_IN_THREADS:
            if not media_type.startswith(("image/", "audio/")):
                return ProbeResult()
            return await self._probe_in_worker(self._workers, path, media_type)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await loop.run_in_executor(self._threads, probe_file, path, media_type)
        except TimeoutError:
            _log.info("media_probe_timeout", media_type=media_type)
            return ProbeResult()

    async def _probe_in_worker(
        self, workers: WorkerPool, path: Path, media_type: str
    ) -> ProbeResult:
        try:
            answer = await workers.run(
                _PROBE_TASK,
                json.dumps([str(path), media_type]).encode(),
                seconds=MAX_SECONDS,
                tenant=rpc_context.current_tenant(),
            )
        except WorkerError as error:
            _log.info("media_probe_failed", media_type=media_type, error=type(error).__name__)
            return ProbeResult()
        width, height, seconds = json.loads(answer)
        return ProbeResult(width, height, seconds)

    def close(self) -> None:
        """Take no more work. Running probes end by themselves within seconds."""
        self._threads.shutdown(wait=False, cancel_futures=True)
