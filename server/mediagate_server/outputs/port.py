"""The port: what the gate needs of whatever keeps its files. A folder, or object storage.

A file is made whole on this machine first (`spool.py`), where it is measured, hashed and looked
into; a store only has to take it, give it back in pieces and forget it.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mediagate_server.errors import Failure, MediagateError, Reason

CHUNK_BYTES = 256 * 1024
"""How much of a file is in memory at once, wherever it is read or written."""


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """What a file is. `seconds` is how long it plays; None and empty: not known."""

    size: int
    sha256: str
    media_type: str
    width: int | None = None
    height: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that is kept: how long it is, and the words that were kept with it."""

    size: int
    notes: Mapping[str, str]


class MediaStore(Protocol):
    """Keeps files by key. A key is words of [A-Za-z0-9_-] with slashes between.

    Every method raises StorageFailed where the storage does not do its work.
    """

    async def put(self, key: str, file: Path, notes: Mapping[str, str]) -> None:
        """Take the file, which is gone from where it was, with a few words about it.

        Durable on return. Until then there is nothing under the key, or what was there before.
        """
        ...

    async def find(self, key: str) -> Stored | None:
        """What is kept under a key, if anything."""
        ...

    def read(self, key: str, offset: int, length: int) -> AsyncIterator[bytes]:
        """`length` bytes from `offset` on, in pieces of at most CHUNK_BYTES.

        Fewer where the file ends before. Raises StorageFailed where there is none.
        """
        ...

    async def delete(self, key: str) -> None:
        """Forget what is kept under a key, or under keys below it. Nothing there: nothing to do."""
        ...

    async def keys(self, below: str) -> tuple[str, ...]:
        """All keys right below a key."""
        ...


class StorageFailed(MediagateError):
    """The storage is full, broken or has lost the file. Says nothing of where it is."""

    reason = Reason.OUTPUT_STORE_FAILED


def storage_failed(what: str) -> StorageFailed:
    """`what` is one of our own words."""
    return StorageFailed(f"the storage of media failed: {what}", metadata={"cause": what})


def not_kept(cause: str) -> Failure:
    """Why an output is not kept, as a fact for its record. `cause` is one of our own words."""
    return StorageFailed(f"the output was not kept: {cause}", metadata={"cause": cause}).failure
