"""A read-only file that stops its reader: no more bytes, calls or time than a header needs.

Whoever reads a hostile file byte by byte, or follows a chain of empty blocks for as long as there
are some, is ended by an exception in the middle of it.
"""

import time
from collections.abc import Callable
from typing import BinaryIO, Final

MAX_BYTES: Final = 2 * 1024 * 1024
MAX_CALLS: Final = 32_768
MAX_SECONDS: Final = 2.0
"""Seconds."""


class ReadLimitReached(BaseException):
    """More was asked of a file than its header can need.

    No `Exception`: libraries catch those to go on with the next block.
    """


class BoundedFile:
    """An open file, for one reader, one pass and a short time. Positions may be anywhere in it."""

    def __init__(self, file: BinaryIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._bytes = MAX_BYTES
        self._calls = MAX_CALLS
        self._deadline = clock() + MAX_SECONDS

    def read(self, size: int = -1) -> bytes:
        """Some bytes. Raises ReadLimitReached where there were enough already."""
        self._count_call()
        count = self._bytes + 1 if size < 0 else min(size, self._bytes + 1)
        return self._count_bytes(self._file.read(count))

    def readline(self, size: int = -1) -> bytes:
        """The same, up to the end of the line."""
        self._count_call()
        count = self._bytes + 1 if size < 0 else min(size, self._bytes + 1)
        return self._count_bytes(self._file.readline(count))

    def seek(self, offset: int, whence: int = 0) -> int:
        """As every file does."""
        self._count_call()
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As every file does."""
        return self._file.tell()

    def _count_call(self) -> None:
        self._calls -= 1
        if self._calls < 0 or self._clock() > self._deadline:
            raise ReadLimitReached

    def _count_bytes(self, data: bytes) -> bytes:
        self._bytes -= len(data)
        if self._bytes < 0:
            raise ReadLimitReached
        return data
