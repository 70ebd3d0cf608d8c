"""Object storage media store: S3, or any storage with its API, by `obstore`.

Network I/O runs in threads of its own, off the event loop. A file is uploaded in parts, one of
which is in memory at a time, and exists once the last of them is there. Parts that a crash left
stay in the bucket until a lifecycle rule of its own removes them: the library cannot list them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from mediagate_server.config import Settings
from mediagate_server.config.address import split_bucket_url
from mediagate_server.media.media_store import CHUNK_BYTES, StoredFile, storage_failed, validate_key

if TYPE_CHECKING:
    from obstore import Attributes
    from obstore.store import ClientConfig, RetryConfig, S3Config

_PART_BYTES: Final = 5 * 1024 * 1024
"""Minimum part size of S3; 10,000 parts are allowed, enough for 48 GiB. Smaller files are uploaded
at once. One part at a time: each takes twice its size in memory."""
_MAX_CONCURRENT_PARTS: Final = 1
_ABORT_TIMEOUT: Final = 5.0
"""Maximum seconds that a cancelled upload waits for its abort."""
_CONTENT_TYPE: Final = "Content-Type"
_CLIENT: Final[ClientConfig] = {
    # Total time of a download, so long that no slow reader exceeds it; read_timeout ends idle ones.
    "timeout": timedelta(hours=6),
    "read_timeout": timedelta(seconds=30),
    "connect_timeout": timedelta(seconds=10),
}
# Longer outages are errors: the caller has retries of its own.
_RETRIES: Final[RetryConfig] = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """Settings of the S3 bucket for media. `endpoint` empty: AWS. Without keys AWS's default
    credentials are used: AWS_ACCESS_KEY_ID, a role, or the machine's own.
    """

    name: str
    prefix: str = ""
    endpoint: str = ""
    region: str = "us-east-1"
    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """The configured bucket; None where there is none."""
        if not settings.storage_url:
            return None
        name, prefix = split_bucket_url(settings.storage_url)
        key_id, secret = settings.storage_access_key_id, settings.storage_secret_access_key
        return cls(
            name,
            prefix,
            settings.storage_endpoint,
            settings.storage_region,
            key_id.get_secret_value() if key_id else "",
            secret.get_secret_value() if secret else "",
        )


class ObjectStorageMediaStore:
    """A MediaStore in a bucket. A key is the object's name, below the bucket's prefix."""

    def __init__(self, bucket: BucketSettings) -> None:
        config: S3Config = {
            "region": bucket.region,
            # Not every S3-compatible storage supports bulk deletes.
            "disable_bulk_delete": True,
        }
        if bucket.endpoint:
            config["endpoint"] = bucket.endpoint
        if bucket.access_key_id:
            config["access_key_id"] = bucket.access_key_id
            config["secret_access_key"] = bucket.secret_access_key
        client: ClientConfig = {**_CLIENT, "allow_http": bucket.endpoint.startswith("http://")}
        self._store = S3Store(
            bucket.name,
            prefix=bucket.prefix or None,
            config=config,
            client_options=client,
            retry_config=_RETRIES,
        )

    async def put(self, key: str, file: Path, metadata: Mapping[str, str]) -> None:
        """Upload the file with its metadata, and delete it here."""
        attributes: Attributes = {
            _header_name(name): word for name, word in metadata.items() if word
        }
        if media_type := metadata.get("media_type"):
            attributes[_CONTENT_TYPE] = media_type
        with _translate_errors():
            size = (await asyncio.to_thread(file.stat)).st_size
            if size > _PART_BYTES:
                await self._put_in_parts(validate_key(key), file, attributes)
            else:
                await obstore.put_async(
                    self._store, validate_key(key), file, attributes=attributes, use_multipart=False
                )
            await asyncio.to_thread(file.unlink, missing_ok=True)

    async def _put_in_parts(self, key: str, file: Path, attributes: Attributes) -> None:
        """Multipart upload that is aborted on cancellation, and leaves no part behind.

        The library aborts where what it reads from fails, and not where it is cancelled itself.
        """
        abandoned = asyncio.Event()
        upload = asyncio.ensure_future(
            obstore.put_async(
                self._store,
                key,
                _read_pieces(file, abandoned),
                attributes=attributes,
                chunk_size=_PART_BYTES,
                max_concurrency=_MAX_CONCURRENT_PARTS,
                use_multipart=True,
            )
        )
        try:
            await asyncio.shield(upload)
        except asyncio.CancelledError:
            abandoned.set()
            await asyncio.gather(asyncio.wait_for(upload, _ABORT_TIMEOUT), return_exceptions=True)
            raise

    async def find(self, key: str) -> StoredFile | None:
        """Size and metadata of an object; None where there is none."""
        with _translate_errors():
            try:
                result = await obstore.get_async(
                    self._store, validate_key(key), options={"head": True}
                )
            except FileNotFoundError:
                return None
        metadata = {_metadata_name(header): word for header, word in result.attributes.items()}
        metadata.pop(_metadata_name(_CONTENT_TYPE), None)
        return StoredFile(result.meta["size"], metadata)

    async def read(
        self, key: str, offset: int, length: int, piece_bytes: int = CHUNK_BYTES
    ) -> AsyncIterator[bytes]:
        """Read a range in chunks."""
        stored = await self.find(key)
        if stored is None:
            raise storage_failed("the file is not there")
        end = min(offset + length, stored.size)
        if offset >= end:
            return  # S3 rejects an empty range.
        with _translate_errors():
            result = await obstore.get_async(
                self._store, validate_key(key), options={"range": (offset, end)}
            )
            async for chunk in result.stream(min_chunk_size=CHUNK_BYTES // 4):
                for start in range(0, len(chunk), piece_bytes):
                    yield bytes(chunk[start : start + piece_bytes])

    async def delete(self, key: str) -> None:
        """Delete an object, and the objects of keys below."""
        with _translate_errors():
            below = [
                entry["path"]
                async for page in obstore.list(self._store, prefix=validate_key(key))
                for entry in page
            ]
            try:
                await obstore.delete_async(self._store, [key, *below])
            except (BaseError, OSError):
                # The library stops at the first that fails.
                await self._delete_each([key, *below])

    async def _delete_each(self, keys: list[str]) -> None:
        """Delete one by one, as many as can be. Raises the last error."""
        last: BaseError | OSError | None = None
        for key in keys:
            try:
                await obstore.delete_async(self._store, key)
            except (BaseError, OSError) as failed:
                last = failed
        if last:
            raise last

    async def keys(self, below: str) -> tuple[str, ...]:
        """Keys directly below a key."""
        with _translate_errors():
            listing = await obstore.list_with_delimiter_async(
                self._store, prefix=validate_key(below)
            )
        return tuple(sorted(entry["path"] for entry in listing["objects"]))

    async def link(self, key: str, seconds: float) -> str:
        """Presigned URL, signed here without a request."""
        with _translate_errors():
            return await obstore.sign_async(
                self._store, "GET", validate_key(key), timedelta(seconds=seconds)
            )


class _UploadAbandoned(Exception):
    """The upload was cancelled."""


async def _read_pieces(file: Path, abandoned: asyncio.Event) -> AsyncIterator[bytes]:
    """Chunks of a file. Raises _UploadAbandoned between two of them, once `abandoned` is set."""
    with await asyncio.to_thread(file.open, "rb") as opened:
        while piece := await asyncio.to_thread(opened.read, CHUNK_BYTES):
            if abandoned.is_set():
                raise _UploadAbandoned
            yield piece


def _header_name(name: str) -> str:
    """Header name of a metadata name: proxies drop headers with underscores."""
    return name.replace("_", "-")


def _metadata_name(header: str) -> str:
    return header.lower().replace("-", "_")


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Convert the library's errors to StorageFailed: their texts name hosts, keys and more.

    Among them FileNotFoundError, which it also raises where there is no such bucket.
    """
    try:
        yield
    except (BaseError, OSError):
        raise storage_failed("the object storage does not do it") from None
