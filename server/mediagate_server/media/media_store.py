"""Media store interface: what the server needs of a folder or an object storage.

A file is complete on this machine first (`temp_files.py`), where it is measured, hashed and probed;
a store takes it, reads it back in chunks, and deletes it.
"""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, Self

from mediagate_server.errors import Failure, MediagateError, Reason

_KEY: Final = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
CHUNK_BYTES: Final = 256 * 1024
"""Bytes of a file in memory at once, wherever it is read or written."""


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """Media info of a file: size, digest, type, pixels, duration in seconds; None and empty: not
    known.
    """

    size: int
    sha256: str
    media_type: str
    width: int | None = None
    height: int | None = None
    seconds: float | None = None

    def to_metadata(self) -> dict[str, str]:
        """Metadata to be stored with the file; its size it has itself."""
        return {
            "media_type": self.media_type,
            "sha256": self.sha256,
            "width": _to_text(self.width),
            "height": _to_text(self.height),
            "seconds": _to_text(self.seconds),
        }

    @classmethod
    def from_file(cls, stored: "StoredFile") -> Self:
        """Media info from a stored file's metadata. KeyError where it has none."""
        metadata = stored.metadata
        return cls(
            stored.size,
            metadata["sha256"],
            metadata["media_type"],
            int(metadata["width"]) if metadata.get("width") else None,
            int(metadata["height"]) if metadata.get("height") else None,
            float(metadata["seconds"]) if metadata.get("seconds") else None,
        )


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A stored file: its size and metadata.

    Metadata that were empty may be missing.
    """

    size: int
    metadata: Mapping[str, str]


class MediaStore(Protocol):
    """Blob store by key. A key is words of [A-Za-z0-9_-] with slashes between.

    Every method raises StorageFailed where the storage fails.
    """

    async def put(self, key: str, file: Path, metadata: Mapping[str, str]) -> None:
        """Store a file, which is moved from where it was, with its metadata.

        Durable on return. Until then the key has no file, or the previous one.
        """
        ...

    async def find(self, key: str) -> StoredFile | None:
        """Look up a file by key; None where there is none."""
        ...

    def read(
        self, key: str, offset: int, length: int, piece_bytes: int = CHUNK_BYTES
    ) -> AsyncIterator[bytes]:
        """Read `length` bytes from `offset` on, in chunks of at most `piece_bytes`.

        Fewer where the file ends before. Raises StorageFailed where there is none.
        """
        ...

    async def delete(self, key: str) -> None:
        """Delete the file of a key, and the files of keys below it. Not an error where there is
        none.
        """
        ...

    async def keys(self, below: str) -> tuple[str, ...]:
        """List the keys directly below a key."""
        ...

    async def link(self, key: str, seconds: float) -> str:
        """Presigned URL of a file, valid for so many seconds; empty: not supported.

        Whether there is such a file is not looked up.
        """
        ...


def validate_key(key: str) -> str:
    """Return the key. ValueError where it is invalid: a bug of ours."""
    if not _KEY.fullmatch(key):
        raise ValueError("that is no key of a medium")
    return key


class StorageFailed(MediagateError):
    """Storage error: full, broken or the file is lost. Says nothing of where it is."""

    reason = Reason.OUTPUT_STORE_FAILED


def storage_failed(cause: str) -> StorageFailed:
    """`cause` is one of our own words."""
    return StorageFailed(f"the storage of media failed: {cause}", metadata={"cause": cause})


def archive_failure(cause: str) -> Failure:
    """Failure of an output that could not be stored, for its record. `cause` is one of our own
    words.
    """
    return StorageFailed(f"the output was not kept: {cause}", metadata={"cause": cause}).failure


def _to_text(number: float | None) -> str:
    return "" if number is None else str(number)


def output_key(generation_id: str, index: int) -> str:
    """Key of an output."""
    return f"{outputs_key(generation_id)}/{index}"


def document_key(generation_id: str, name: str) -> str:
    """Key of a generation's document: its "output" as a text or JSON, or its "logs"."""
    return f"{outputs_key(generation_id)}/{name}"


def outputs_key(generation_id: str) -> str:
    """Key prefix of a generation's outputs."""
    return f"outputs/{generation_id}"
