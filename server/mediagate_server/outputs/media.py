"""All that keeps media, made and ended together: store, spool, fetching, uploads."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from mediagate_server.loop_share import LoopShare
from mediagate_server.outputs.bucket import Bucket
from mediagate_server.outputs.fetching import Fetcher
from mediagate_server.outputs.folder import Folder
from mediagate_server.outputs.inspector import MediaInspector
from mediagate_server.outputs.keeping import OutputKeeper
from mediagate_server.outputs.links import MediaLinks
from mediagate_server.outputs.port import MediaStore
from mediagate_server.outputs.spool import Spool
from mediagate_server.outputs.uploads import Uploads
from mediagate_server.private_files import make_private, make_private_folder, tree
from mediagate_server.unexpected import background_task
from mediagate_server.worker_processes import WorkerProcesses


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """What may be set about media: bytes and seconds."""

    output_max_bytes: int
    output_timeout: float
    """Of one try."""
    output_idle_timeout: float
    upload_max_bytes: int
    upload_life: float
    link_life: float


class Media:
    """An async context manager, for one event loop. Entering raises OSError where the folder
    cannot be used.

    `upstream` is the base URL of the API whose outputs are kept. `limits` are asked at each use.
    `now` and `sleep` (seconds) are the clock by which what failed is tried again. `web` is the
    URL of the web port as callers reach it, and `key` what links to it are signed with. `workers`
    look at files that could keep a thread for good.
    """

    def __init__(
        self,
        folder: Path,
        upstream: str,
        limits: Callable[[], MediaLimits],
        *,
        now: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]],
        bucket: Bucket | None,
        web: str,
        key: bytes,
        share: LoopShare,
        workers: WorkerProcesses | None = None,
    ) -> None:
        make_private_folder(folder)
        make_private(tree(folder))
        self.store = _store(folder, bucket)
        self.fetcher = Fetcher(upstream, idle_timeout=lambda: limits().output_idle_timeout)
        spool = Spool(folder / "incoming")
        self._inspector = MediaInspector(workers)
        self.keeper = OutputKeeper(
            self.store,
            spool,
            self.fetcher,
            self._inspector,
            max_bytes=lambda: limits().output_max_bytes,
            timeout=lambda: limits().output_timeout,
            now=now,
            sleep=sleep,
            share=share,
        )
        self.uploads = Uploads(
            self.store,
            spool,
            self._inspector,
            now=now,
            max_bytes=lambda: limits().upload_max_bytes,
            life=lambda: limits().upload_life,
        )
        self.links = MediaLinks(self.store, web, key, now=now, life=lambda: limits().link_life)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._stack.callback(self._inspector.close)
        await self._stack.enter_async_context(self.fetcher)
        cleaning = background_task("cleaning of uploads", self.uploads.keep_clean())
        self._stack.push_async_callback(_end, cleaning)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()


def _store(folder: Path, bucket: Bucket | None) -> MediaStore:
    if bucket is None:
        return Folder(folder / "kept")
    # Several MB of library that a gate with a folder does without.
    from mediagate_server.outputs.object_storage import ObjectStorage  # noqa: PLC0415

    return ObjectStorage(bucket)


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
