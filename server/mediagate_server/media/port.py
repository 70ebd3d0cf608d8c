"""The port: what the server needs of whatever keeps its files. A folder, or object storage.

A file is made whole on this machine first (`temp_files.py`), where it is measured, hashed and
looked into; a store only has to take it, give it back in pieces and forget it.
"""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, Self

from mediagate_server.errors import Failure, MediagateError, Reason

_KEY: Final = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
CHUNK_BYTES: Final = 256 * 1024
"""How much of a file is in memory at once, wherever it is read or written."""


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What a file is. `seconds` is how long it plays; None and empty: not known."""

    size: int
    sha256: str
    media_type: str
    width: int | None = None
    height: int | None = None
    seconds: float | None = None

    def to_metadata(self) -> dict[str, str]:
        """As words to be kept with the file; its size it tells itself."""
        return {
            "media_type": self.media_type,
            "sha256": self.sha256,
            "width": _to_text(self.width),
            "height": _to_text(self.height),
            "seconds": _to_text(self.seconds),
        }

    @classmethod
    def from_file(cls, stored: "StoredFile") -> Self:
        """The facts that are kept with a file. KeyError where they are not."""
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
    """A file that is kept: how long it is, and the words that were kept with it.

    Words that were empty may be missing.
    """

    size: int
    metadata: Mapping[str, str]


class MediaStore(Protocol):
    """Keeps files by key. A key is words of [A-Za-z0-9_-] with slashes between.

    Every method raises StorageFailed where the storage does not do its work.
    """

    async def put(self, key: str, file: Path, metadata: Mapping[str, str]) -> None:
        """Take the file, which is gone from where it was, with a few words about it.

        Durable on return. Until then there is nothing under the key, or what was there before.
        """
        ...

    async def find(self, key: str) -> StoredFile | None:
        """What is kept under a key, if anything."""
        ...

    def read(
        self, key: str, offset: int, length: int, piece_bytes: int = CHUNK_BYTES
    ) -> AsyncIterator[bytes]:
        """`length` bytes from `offset` on, in pieces of at most `piece_bytes`.

        Fewer where the file ends before. Raises StorageFailed where there is none.
        """
        ...

    async def delete(self, key: str) -> None:
        """Forget what is kept under a key, or under keys below it. Nothing there: nothing to do."""
        ...

    async def keys(self, below: str) -> tuple[str, ...]:
        """All keys right below a key."""
        ...

    async def link(self, key: str, seconds: float) -> str:
        """A link by which anybody who has it reads the file for so long; empty: it gives none.

        Whether there is such a file is not looked up.
        """
        ...


def validate_key(key: str) -> str:
    """The key, which is one. ValueError: it would be a bug of ours."""
    if not _KEY.fullmatch(key):
        raise ValueError("that is no key of a medium")
    return key


class StorageFailed(MediagateError):
    """The storage is full, broken or has lost the file. Says nothing of where it is."""

    reason = Reason.OUTPUT_STORE_FAILED


def storage_failed(what: str) -> StorageFailed:
    """`what` is one of our own words."""
    return StorageFailed(f"the storage of media failed: {what}", metadata={"cause": what})


def archive_failure(cause: str) -> Failure:
    """Why an output is not kept, as a fact for its record. `cause` is one of our own words."""
    return StorageFailed(f"the output was not kept: {cause}", metadata={"cause": cause}).failure


def _to_text(number: float | None) -> str:
    return "" if number is None else str(number)


def output_key(generation_id: str, index: int) -> str:
    """Where an output is kept."""
    return f"{outputs_key(generation_id)}/{index}"


def document_key(generation_id: str, name: str) -> str:
    """Where a document of it is kept: its "output" as a text or JSON, or its "logs"."""
    return f"{outputs_key(generation_id)}/{name}"


def outputs_key(generation_id: str) -> str:
    """Where all outputs of a generation are kept."""
    return f"outputs/{generation_id}"
