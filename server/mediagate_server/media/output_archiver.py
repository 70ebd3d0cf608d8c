"""Output archiver: downloads finished media before upstream's links expire, and stores them."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from mediagate_server import rpc_context
from mediagate_server.errors import Failure
from mediagate_server.media import data_uri
from mediagate_server.media.downloader import DownloadFailed, MediaDownloader
from mediagate_server.media.isolated_probe import IsolatedProbe
from mediagate_server.media.media_store import (
    MediaInfo,
    MediaStore,
    StorageFailed,
    archive_failure,
    output_key,
    outputs_key,
)
from mediagate_server.media.probe import ProbeResult, detect_media_type, is_damaged, is_error_page
from mediagate_server.media.temp_files import FileTooLarge, TempFile, TempFiles
from mediagate_server.media_type import HEAD_BYTES
from mediagate_server.observability import metrics
from mediagate_server.runtime.fair_scheduler import FairScheduler
from mediagate_server.store.records import StoredMedia
from mediagate_server.structs import replace
from mediagate_server.workers.worker_pool import FairSemaphore

_log = structlog.get_logger()
MAX_URI_LENGTH: Final = 256 * 1024
"""A medium with a longer `data:` URI is returned as a stored copy alone: the URI would not fit into
a message."""
UPSTREAM_LINK_LIFETIME: Final = timedelta(hours=1)
"""Lifetime of outputs upstream. Also assumed for links without an expiry."""
_INITIAL_BACKOFF: Final = 0.5
_MAX_BACKOFF: Final = 60.0
"""Seconds between attempts: exponential backoff."""
_MAX_ABSENT_ATTEMPTS: Final = 6
"""Attempts for a file that is missing or damaged: a late one appears within seconds."""
_ERROR_PAGE_CAUSE: Final = "a page with an error came instead of it"
_MAX_CONCURRENT: Final = 32
_MAX_PER_TENANT: Final = 16
"""Concurrent downloads per tenant. One may take as long as its timeout: a model whose files arrive
byte by byte uses its tenant's slots, and nobody else's."""
_MAX_PER_GENERATION: Final = 256
"""Tasks of one generation at once, most of them waiting: each takes some 3 KiB."""
ARCHIVE_SPACING_SECONDS: Final = 0.01
"""Seconds between two outputs of one tenant while other tenants are active: downloading, probing,
hashing and syncing an output takes some 10 ms of CPU however small it is."""
_MAX_WAITING: Final = 1_000_000_000


def archive_deadline(medium: StoredMedia, ended_at: datetime) -> datetime:
    """Deadline to store a medium that was ready at `ended_at`: half of its source link's
    lifetime.
    """
    return ended_at + ((medium.expires_at or ended_at + UPSTREAM_LINK_LIFETIME) - ended_at) / 2


@dataclass(frozen=True, slots=True)
class _ArchiveJob:
    """An output to be stored before a deadline. `may_exist`: an earlier process may have stored
    it.
    """

    key: str
    medium: StoredMedia
    deadline: datetime
    may_exist: bool


@dataclass(frozen=True, slots=True)
class _TransientFailure:
    """A failed attempt that may be retried. `is_absent`: there is no such file, or none yet."""

    failure: Failure
    is_absent: bool = False


class OutputArchiver:
    """Archiver of outputs. `max_bytes` and `timeout` (seconds, one attempt for one output) are read
    anew for each attempt. `now` and `sleep` (seconds) are the clock of retries.
    """

    def __init__(
        self,
        store: MediaStore,
        temp_files: TempFiles,
        downloader: MediaDownloader,
        probe: IsolatedProbe,
        *,
        max_bytes: Callable[[], int],
        timeout: Callable[[], float],
        now: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]],
        scheduler: FairScheduler,
    ) -> None:
        self._store = store
        self._temp_files = temp_files
        self._downloader = downloader
        self._probe = probe
        self._max_bytes = max_bytes
        self._timeout = timeout
        self._now = now
        self._sleep = sleep
        self._scheduler = scheduler
        self._semaphore = FairSemaphore(_MAX_CONCURRENT, _MAX_PER_TENANT)

    async def archive(
        self,
        generation_id: str,
        media: tuple[StoredMedia, ...],
        ended_at: datetime,
        *,
        may_exist: bool = False,
    ) -> tuple[StoredMedia, ...]:
        """Store media; returns them with what is known now, `failure` says why one is not stored.

        Those without a link were not made, and stay as they are. Never raises. Transient failures
        are retried until half of the time is over from `ended_at` to the expiry of upstream's link.
        `may_exist`: an earlier process may have stored some of them.
        """
        semaphore = asyncio.Semaphore(_MAX_PER_GENERATION)
        archiving: list[asyncio.Task[StoredMedia]] = []
        async with asyncio.TaskGroup() as tasks:
            for index, medium in enumerate(media):
                key, deadline = output_key(generation_id, index), archive_deadline(medium, ended_at)
                await semaphore.acquire()
                task = tasks.create_task(
                    self._archive_job(_ArchiveJob(key, medium, deadline, may_exist))
                )
                task.add_done_callback(lambda _: semaphore.release())
                archiving.append(task)
        return tuple(task.result() for task in archiving)

    def scratch_file(self) -> AbstractAsyncContextManager[Path]:
        """A temporary path for a document, before it is stored."""
        return self._temp_files.path()

    async def archive_document(self, key: str, path: Path, media_type: str) -> StoredMedia:
        """Store a document; `failure` says why it is not stored. Never raises."""
        size, sha256 = await asyncio.to_thread(_size_and_digest, path)
        medium = StoredMedia("", media_type, size=size, sha256=sha256)
        return await self._put(key, path, MediaInfo(size, sha256, media_type), medium)

    async def archive_file(
        self, generation_id: str, index: int, path: Path, declared: str, expected: str
    ) -> StoredMedia:
        """Store an output that is in a local file already. Never raises.

        `declared` is its declared media type, `expected` the one to expect.
        """
        medium = StoredMedia("", expected)
        size, sha256 = await asyncio.to_thread(_size_and_digest, path)
        limit = self._max_bytes()
        if not size or size > limit:
            cause = f"it is over {limit:,} bytes" if size else "the file is empty"
            metrics.outputs.labels("failed").inc()
            return replace(medium, failure=archive_failure(cause))
        head = await asyncio.to_thread(_read_head, path)
        if is_error_page(head, declared, declared or expected):
            metrics.outputs.labels("failed").inc()
            return replace(medium, failure=archive_failure(_ERROR_PAGE_CAUSE))
        media_type = detect_media_type(head, declared, expected)
        probed = await self._probe.probe(path, media_type)
        info = MediaInfo(size, sha256, media_type, probed.width, probed.height, probed.seconds)
        medium = replace(
            medium,
            media_type=media_type,
            size=size,
            sha256=sha256,
            width=probed.width,
            height=probed.height,
            seconds=probed.seconds,
        )
        metrics.output_bytes.inc(size)
        return await self._put(output_key(generation_id, index), path, info, medium)

    async def _put(self, key: str, path: Path, info: MediaInfo, medium: StoredMedia) -> StoredMedia:
        """Store a file, with retries."""
        pause = _INITIAL_BACKOFF
        for attempts_left in reversed(range(_MAX_ABSENT_ATTEMPTS)):
            try:
                await self._store.put(key, path, info.to_metadata())
            except StorageFailed as failed:
                if not attempts_left:
                    return replace(medium, failure=failed.failure)
            else:
                metrics.outputs.labels("kept").inc()
                return replace(medium, is_stored=True)
            await self._sleep(pause)
            pause *= 2
        raise AssertionError

    def read_document(self, key: str, offset: int, length: int) -> AsyncIterator[bytes]:
        """Read a range of a stored document. StorageFailed where there is none."""
        return self._store.read(key, offset, length)

    async def delete(self, generation_id: str) -> None:
        """Delete everything stored of a generation. Raises StorageFailed."""
        await self._store.delete(outputs_key(generation_id))

    async def _archive_job(self, job: _ArchiveJob) -> StoredMedia:
        medium = job.medium
        if not medium.uri:
            return medium
        outcome = await self._retry(job)
        metrics.outputs.labels("failed" if isinstance(outcome, Failure) else "kept").inc()
        if isinstance(outcome, Failure):
            _log.warning("output_archive_failed", output=job.key, cause=outcome.metadata["cause"])
            return replace(medium, failure=outcome)
        metrics.output_bytes.inc(outcome.size)
        too_long = data_uri.is_data_uri(medium.uri) and len(medium.uri) > MAX_URI_LENGTH
        return replace(
            medium,
            uri="" if too_long else medium.uri,
            media_type=outcome.media_type,
            size=outcome.size,
            sha256=outcome.sha256,
            width=outcome.width,
            height=outcome.height,
            seconds=outcome.seconds,
            is_stored=True,
            failure=None,
        )

    async def _retry(self, job: _ArchiveJob) -> MediaInfo | Failure:
        """Retry until half of the source link's lifetime is over; at least one attempt."""
        pause, absences = _INITIAL_BACKOFF, 0
        may_recur = not data_uri.is_data_uri(job.medium.uri)
        while True:
            # A file that stays damaged may be what the model made: better than nothing.
            is_last = self._seconds_left(job) <= 0 or absences + 1 >= _MAX_ABSENT_ATTEMPTS
            async with self._semaphore.acquire(rpc_context.current_tenant(), _MAX_WAITING):
                await self._scheduler.acquire(
                    rpc_context.current_tenant(), ARCHIVE_SPACING_SECONDS, queue="outputs"
                )
                outcome = await self._archive_once(job, accept_damaged=is_last or not may_recur)
            if not isinstance(outcome, _TransientFailure):
                return outcome
            absences += outcome.is_absent
            seconds_left = self._seconds_left(job)
            if seconds_left <= 0 or absences >= _MAX_ABSENT_ATTEMPTS:
                return outcome.failure
            metrics.outputs.labels("retried").inc()
            await self._sleep(min(pause, seconds_left))
            pause = min(2 * pause, _MAX_BACKOFF)

    def _seconds_left(self, job: _ArchiveJob) -> float:
        return (job.deadline - self._now()).total_seconds()

    async def _archive_once(
        self, job: _ArchiveJob, *, accept_damaged: bool
    ) -> MediaInfo | Failure | _TransientFailure:
        """One attempt, with its failure as a result."""
        try:
            async with asyncio.timeout(self._timeout()):
                if job.may_exist and (stored := await self._store.find(job.key)):
                    return MediaInfo.from_file(stored)
                return await self._download_and_store(
                    job.key, job.medium, accept_damaged=accept_damaged
                )
        except DownloadFailed as failed:
            failure = archive_failure(failed.cause)
            return _TransientFailure(failure, failed.is_absent) if failed.is_transient else failure
        except StorageFailed as failed:
            return _TransientFailure(failed.failure)
        except TimeoutError:
            return _TransientFailure(archive_failure("it took too long"))
        except FileTooLarge as over:
            return archive_failure(f"it is over {over.limit:,} bytes")
        except data_uri.InvalidDataUri:
            return archive_failure("its data URI cannot be read")

    async def _download_and_store(
        self, key: str, medium: StoredMedia, *, accept_damaged: bool
    ) -> MediaInfo:
        """One attempt: download, probe, store."""
        async with self._temp_files.create(self._max_bytes()) as temp_file:
            declared = await self._receive(temp_file, medium.uri)
            # A link may have more later; a data URI is complete.
            is_transient = not data_uri.is_data_uri(medium.uri)
            if not temp_file.size:
                raise DownloadFailed(
                    "the file is empty", is_transient=is_transient, is_absent=is_transient
                )
            if is_error_page(temp_file.head, declared, medium.media_type):
                raise DownloadFailed(
                    _ERROR_PAGE_CAUSE, is_transient=is_transient, is_absent=is_transient
                )
            if not accept_damaged and is_damaged(temp_file.head, declared, medium.media_type):
                raise DownloadFailed("the file is damaged", is_transient=True, is_absent=True)
            await temp_file.finish()
            media_type = detect_media_type(temp_file.head, declared, medium.media_type)
            probed = await self._probe.probe(temp_file.path, media_type)
            info = media_info(temp_file, media_type, probed)
            await self._store.put(key, temp_file.path, info.to_metadata())
        return info

    async def _receive(self, temp_file: TempFile, uri: str) -> str:
        """Write the medium into the file; returns its declared media type."""
        if data_uri.is_data_uri(uri):
            for piece in data_uri.decode_chunks(uri):
                await temp_file.write(piece)
            return data_uri.declared_media_type(uri)
        async with self._downloader.open(uri) as download:
            if download.size is not None and download.size > temp_file.limit:
                raise FileTooLarge(temp_file.limit)
            async for chunk in download.chunks:
                await temp_file.write(chunk)
            return download.media_type


def _size_and_digest(path: Path) -> tuple[int, str]:
    """Size of a file, and its SHA-256."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return file.tell(), digest.hexdigest()


def _read_head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def media_info(temp_file: TempFile, media_type: str, probed: ProbeResult) -> MediaInfo:
    """Media info of a complete temporary file."""
    return MediaInfo(
        temp_file.size, temp_file.sha256, media_type, probed.width, probed.height, probed.seconds
    )
