"""Uploads: files of callers to be used as input, for their tenant alone, until they expire."""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NoReturn

import structlog

from mediagate_server.errors import UploadNotFound
from mediagate_server.media.isolated_probe import IsolatedProbe
from mediagate_server.media.media_store import MediaInfo, MediaStore, StorageFailed, StoredFile
from mediagate_server.media.output_archiver import media_info
from mediagate_server.media.probe import detect_media_type
from mediagate_server.media.temp_files import TempFile, TempFiles
from mediagate_server.observability.bug_report import BackgroundJob, report_bug

_log = structlog.get_logger()

_KEY_PREFIX: Final = "uploads"
_ID: Final = re.compile(r"upl_[0-9a-f]{32}")
_CLEANUP_INTERVAL: Final = 600.0
_MAX_LOGGED: Final = 20
"""Maximum failures logged per cleanup: an unavailable disk is one problem."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload. `key` is its key in the store."""

    id: str
    key: str
    info: MediaInfo
    expires_at: datetime


class UploadStore:
    """Store of uploads. `max_bytes` and `lifetime` (seconds) are read anew for each."""

    def __init__(
        self,
        store: MediaStore,
        temp_files: TempFiles,
        probe: IsolatedProbe,
        *,
        now: Callable[[], datetime],
        max_bytes: Callable[[], int],
        lifetime: Callable[[], float],
    ) -> None:
        self._store = store
        self._temp_files = temp_files
        self._probe = probe
        self._now = now
        self._max_bytes = max_bytes
        self._lifetime = lifetime

    @property
    def max_bytes(self) -> int:
        """Maximum size of an upload."""
        return self._max_bytes()

    def create_temp_file(self) -> AbstractAsyncContextManager[TempFile]:
        """A file to write an upload into; deleted unless `finish` stores it."""
        return self._temp_files.create(self._max_bytes())

    async def finish(self, temp_file: TempFile, *, tenant: str, media_type: str) -> Upload:
        """Store a finished temporary file. `media_type` is the declared one, if any.

        Raises StorageFailed. Nothing is stored then, nor where the caller is cancelled.
        """
        detected_type = detect_media_type(temp_file.head, media_type)
        probed = await self._probe.probe(temp_file.path, detected_type)
        info = media_info(temp_file, detected_type, probed)
        upload_id = f"upl_{secrets.token_hex(16)}"
        expires_at = self._now() + timedelta(seconds=self._lifetime())
        upload = Upload(upload_id, f"{_KEY_PREFIX}/{upload_id}", info, expires_at)
        storing = asyncio.ensure_future(
            self._store.put(upload.key, temp_file.path, _metadata(upload, tenant))
        )
        try:
            await asyncio.shield(storing)
        except asyncio.CancelledError:
            await asyncio.wait({storing})
            await self._store.delete(upload.key)
            raise
        return upload

    async def find(self, tenant: str, upload_id: str) -> Upload:
        """Look up an upload of a tenant. UploadNotFound also for another tenant's, and once it has
        expired.
        """
        if not _ID.fullmatch(upload_id):
            raise UploadNotFound(upload_id)
        key = f"{_KEY_PREFIX}/{upload_id}"
        stored = await self._store.find(key)
        if stored is None or stored.metadata["tenant"] != tenant:
            raise UploadNotFound(upload_id)
        upload = Upload(upload_id, key, MediaInfo.from_file(stored), _expiry(stored))
        if upload.expires_at <= self._now():
            raise UploadNotFound(upload_id)
        return upload

    async def delete_expired(self) -> int:
        """Delete expired uploads; returns their number.

        A failure is logged, delays no other upload, and is retried the next time. Raises
        StorageFailed where uploads cannot be listed.
        """
        deleted = failures = 0
        for key in await self._store.keys(_KEY_PREFIX):
            try:
                deleted += await self._delete_if_expired(key)
            except StorageFailed as failed:
                failures += 1
                if failures <= _MAX_LOGGED:
                    cause = failed.failure.metadata["cause"]
                    _log.warning("upload_cleanup_failed", upload=_upload_id(key), cause=cause)
            except Exception as error:  # noqa: BLE001 - a failure must not delay other uploads
                report_bug(BackgroundJob.UPLOAD_CLEANUP, error, upload=_upload_id(key))
        if failures:
            _log.warning("upload_cleanup_deferred", count=failures)
        return deleted

    async def _delete_if_expired(self, key: str) -> bool:
        """Delete an upload if it has expired, or is half deleted: listed, but not found."""
        stored = await self._store.find(key)
        if stored and _expiry(stored) > self._now():
            return False
        await self._store.delete(key)
        return True

    async def run_cleanup(
        self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> NoReturn:
        """Delete expired uploads periodically. Ends by cancellation alone."""
        while True:
            try:
                if deleted := await self.delete_expired():
                    _log.info("expired_uploads_erased", count=deleted)
            except StorageFailed as failed:
                _log.warning("upload_cleanup_aborted", cause=failed.failure.metadata["cause"])
            except Exception as error:  # noqa: BLE001 - the next cleanup may succeed
                report_bug(BackgroundJob.UPLOAD_CLEANUP, error)
            await sleep(_CLEANUP_INTERVAL)


def _metadata(upload: Upload, tenant: str) -> dict[str, str]:
    return {
        "tenant": tenant,
        "expires_at": upload.expires_at.isoformat(),
        **upload.info.to_metadata(),
    }


def _upload_id(key: str) -> str:
    return key.removeprefix(f"{_KEY_PREFIX}/")


def _expiry(stored: StoredFile) -> datetime:
    return datetime.fromisoformat(stored.metadata["expires_at"])
