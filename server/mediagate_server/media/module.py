"""Composition of the media room: store, temporary files, downloader, archiver, uploads, links."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from mediagate_server.media.downloader import MediaDownloader
from mediagate_server.media.file_store import FileSystemMediaStore
from mediagate_server.media.isolated_probe import IsolatedProbe
from mediagate_server.media.media_store import MediaStore
from mediagate_server.media.object_storage import BucketSettings
from mediagate_server.media.output_archiver import OutputArchiver
from mediagate_server.media.signed_links import MediaLinkSigner
from mediagate_server.media.temp_files import TempFiles
from mediagate_server.media.uploads import UploadStore
from mediagate_server.observability.bug_report import BackgroundJob, start_background_task
from mediagate_server.runtime.fair_scheduler import FairScheduler
from mediagate_server.runtime.private_files import list_tree, make_private, make_private_folder
from mediagate_server.workers.worker_pool import WorkerPool


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """Media limits of the settings, in bytes and seconds."""

    output_max_bytes: int
    output_timeout: float
    """Seconds of one attempt."""
    output_idle_timeout: float
    upload_max_bytes: int
    upload_lifetime: float
    link_lifetime: float


class MediaModule:
    """Lifecycle of everything that stores media: an async context manager, for one event loop.

    The constructor raises OSError where the folder cannot be used. `upstream` is the base URL of
    the API whose outputs are stored. `limits` are read at each use. `now` and `sleep` (seconds) are
    the clock of retries. `web` is the URL of the web port as callers reach it, and `key` signs
    links to it. `workers` probe files that could block a thread for good.
    """

    def __init__(
        self,
        folder: Path,
        upstream: str,
        limits: Callable[[], MediaLimits],
        *,
        now: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]],
        bucket: BucketSettings | None,
        web: str,
        key: bytes,
        share: FairScheduler,
        workers: WorkerPool | None = None,
    ) -> None:
        make_private_folder(folder)
        make_private(list_tree(folder))
        self.store = _create_store(folder, bucket)
        self.downloader = MediaDownloader(
            upstream, idle_timeout=lambda: limits().output_idle_timeout
        )
        temp_files = TempFiles(folder / "incoming")
        self._probe = IsolatedProbe(workers)
        self.archiver = OutputArchiver(
            self.store,
            temp_files,
            self.downloader,
            self._probe,
            max_bytes=lambda: limits().output_max_bytes,
            timeout=lambda: limits().output_timeout,
            now=now,
            sleep=sleep,
            scheduler=share,
        )
        self.uploads = UploadStore(
            self.store,
            temp_files,
            self._probe,
            now=now,
            max_bytes=lambda: limits().upload_max_bytes,
            lifetime=lambda: limits().upload_lifetime,
        )
        self.links = MediaLinkSigner(
            self.store, web, key, now=now, lifetime=lambda: limits().link_lifetime
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._stack.callback(self._probe.close)
        await self._stack.enter_async_context(self.downloader)
        cleanup = start_background_task(BackgroundJob.UPLOAD_CLEANUP, self.uploads.run_cleanup())
        self._stack.push_async_callback(_cancel, cleanup)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()


def _create_store(folder: Path, bucket: BucketSettings | None) -> MediaStore:
    if bucket is None:
        return FileSystemMediaStore(folder / "kept")
    # Imported on demand: several MB of library that a local folder does not need.
    from mediagate_server.media.object_storage import ObjectStorageMediaStore  # noqa: PLC0415

    return ObjectStorageMediaStore(bucket)


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
