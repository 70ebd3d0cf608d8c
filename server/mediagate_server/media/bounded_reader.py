"""Bounded reader: a read-only file with limits on bytes, calls and time, for parsers of headers.

A parser that reads a hostile file byte by byte, or follows an endless chain of empty blocks, is
ended by an exception.
"""

import time
from collections.abc import Callable
from typing import BinaryIO, Final

MAX_BYTES: Final = 2 * 1024 * 1024
MAX_CALLS: Final = 32_768
MAX_SECONDS: Final = 2.0
"""Seconds."""


class ReadLimitReached(BaseException):
    """A parser has read more of a file than its header can need.

    Not an `Exception`: libraries catch those to go on with the next block.
    """


class BoundedFile:
    """Read-only file with limits on bytes, calls and time. For one parser and one pass."""

    def __init__(self, file: BinaryIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._bytes = MAX_BYTES
        self._calls = MAX_CALLS
        self._deadline = clock() + MAX_SECONDS

    def read(self, size: int = -1) -> bytes:
        """Read bytes. Raises ReadLimitReached beyond the limits."""
        self._count_call()
        count = self._bytes + 1 if size < 0 else min(size, self._bytes + 1)
        return self._count_bytes(self._file.read(count))

    def readline(self, size: int = -1) -> bytes:
        """Read up to the end of the line. Raises ReadLimitReached beyond the limits."""
        self._count_call()
        count = self._bytes + 1 if size < 0 else min(size, self._bytes + 1)
        return self._count_bytes(self._file.readline(count))

    def seek(self, offset: int, whence: int = 0) -> int:
        """Seek, as of any file; positions are not limited."""
        self._count_call()
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Position in the file."""
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
