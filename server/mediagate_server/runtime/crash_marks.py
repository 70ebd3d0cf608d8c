"""Crash marks: which generation's data the process was handling when it died (poison detection).

While a prediction's answer is decoded, checked or converted on the event loop, the id of its
generation is in a small memory-mapped file: setting and clearing it are two copies in memory, and
it survives the process however that dies (but not a power loss). The next process counts one crash
for each mark it finds. A process that dies for another reason leaves none, unless a `kill -9` falls
into the handling; the count is dropped when the generation ends.

Marks protect the server and must not stop it: where the disk is full, or the folder cannot be read,
that is logged and the server runs without them.
"""

import errno
import json
import mmap
import os
import re
import stat
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

import structlog

from mediagate_server.runtime.private_files import (
    list_tree,
    make_private,
    make_private_folder,
    write_private_file,
)

_ID_BYTES: Final = 64
"""Bytes of an id, padded with zeros. Handling is synchronous: there is one at a time."""
_FILE_BYTES: Final = 4096
_ID: Final = re.compile(rb"[0-9A-Za-z_-]{1,64}")
_PRIVATE: Final = 0o600
_MARK_FILES: Final = "*.mark"
_COUNTS_FILE: Final = "blames.json"
_MAX_READ_BYTES: Final = 4 * 1024 * 1024
"""Most bytes that are read; a generation has some 50."""

_log = structlog.get_logger()


class CrashMark:
    """Context manager that sets the mark of one generation. Not to be nested.

    `skips_output`: of an answer the output is not read, as it has crashed the server before.
    """

    __slots__ = ("_map", "_mark", "skips_output")

    def __init__(self, mapped: mmap.mmap | None, generation_id: str) -> None:
        self._map = mapped
        self._mark = generation_id.encode()[:_ID_BYTES].ljust(_ID_BYTES, b"\0")
        self.skips_output = False

    def __enter__(self) -> None:
        if self._map is not None:
            self._map[:_ID_BYTES] = self._mark

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._map is not None:
            self._map[0] = 0


CURRENT_MARK: Final[ContextVar[CrashMark | None]] = ContextVar("handling", default=None)
"""Mark of the generation that this task works on; None: of none, or in a worker process."""

_UNMARKED: Final = nullcontext()


def crash_marked() -> AbstractContextManager[None]:
    """Set the mark of the current generation within a block, which must not await."""
    return CURRENT_MARK.get() or _UNMARKED


def skips_output() -> bool:
    """Whether the output in answers about the current generation must be skipped."""
    mark = CURRENT_MARK.get()
    return mark is not None and mark.skips_output


class CrashMarks:
    """The mark file of this process, and the crash counts by marks of earlier processes.

    A context manager; entered once this process owns the data folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._crash_counts: dict[str, int] = {}
        self._counted: set[str] = set()
        """Names of mark files that are still there, and must not be counted again."""
        self._map: mmap.mmap | None = None
        self._file = folder / f"{os.getpid()}-{uuid4().hex}.mark"

    def __enter__(self) -> Self:
        try:
            make_private_folder(self._folder)
            make_private(list_tree(self._folder))
            self._count_crashes()
            self._map = self._create_map()
        except OSError as error:
            _log.error("crash_marks_unavailable", error=error.strerror)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A task's context may still hold a view of the map, which is freed with the last of them.
        self._map = None
        with suppress(OSError):
            self._file.unlink()

    def mark(self, generation_id: str) -> CrashMark:
        """The mark of a generation."""
        return CrashMark(self._map, generation_id)

    def crash_count(self, generation_id: str) -> int:
        """How many processes have died while they handled its data."""
        return self._crash_counts.get(generation_id, 0)

    def forget(self, generation_id: str) -> None:
        """Drop the count of a generation that has ended."""
        if self._crash_counts.pop(generation_id, None) is not None:
            self._write()

    def retain(self, generation_ids: Collection[str]) -> None:
        """Drop the counts of all generations but these, which have not ended."""
        ended = self._crash_counts.keys() - set(generation_ids)
        for generation_id in ended:
            del self._crash_counts[generation_id]
        if ended:
            self._write()

    def _create_map(self) -> mmap.mmap:
        """Create and map the file of this process. Raises OSError."""
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_EXCL, _PRIVATE)
        try:
            # A full disk must be noticed now, not by a fault at the first write to the map.
            if os.write(descriptor, bytes(_FILE_BYTES)) < _FILE_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return mmap.mmap(descriptor, _FILE_BYTES)
        except OSError:
            self._file.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    def _count_crashes(self) -> None:
        """Count each mark once, also where this process dies before it has removed the file."""
        counted, self._crash_counts = _read_counts(self._folder / _COUNTS_FILE)
        files = [file for file in sorted(self._folder.glob(_MARK_FILES)) if _is_file(file)]
        for file in files:
            if file.name not in counted:
                self._count(file)
        self._counted = {file.name for file in files}
        if files and self._write():
            for file in files:
                with suppress(OSError):
                    file.unlink()
                    self._counted.remove(file.name)

    def _count(self, file: Path) -> None:
        mark = _read(file, _ID_BYTES).rstrip(b"\0")
        if _ID.fullmatch(mark):
            generation_id = mark.decode()
            self._crash_counts[generation_id] = self.crash_count(generation_id) + 1

    def _write(self) -> bool:
        """Write the counts durably, before counted files are removed. False where it failed."""
        new = self._folder / f"{_COUNTS_FILE}.new"
        document = json.dumps({"counted": sorted(self._counted), "blames": self._crash_counts})
        try:
            write_private_file(new, document.encode())
            new.replace(self._folder / _COUNTS_FILE)
        except OSError as error:
            _log.error("crash_marks_not_written", error=error.strerror)
            return False
        return True


def _read_counts(file: Path) -> tuple[set[str], dict[str, int]]:
    """Read the counted file names and the crash counts; what is malformed is left out."""
    try:
        document: Any = json.loads(_read(file, _MAX_READ_BYTES))
    except (ValueError, RecursionError):
        document = None
    values = document if isinstance(document, dict) else {}
    counted, blames = values.get("counted"), values.get("blames")
    return (
        {name for name in counted if isinstance(name, str)} if isinstance(counted, list) else set(),
        {name: count for name, count in blames.items() if type(count) is int and count > 0}
        if isinstance(blames, dict)
        else {},
    )


def _read(file: Path, size: int) -> bytes:
    """The beginning of a file; empty where it cannot be read."""
    try:
        with file.open("rb") as stream:
            return stream.read(size)
    except OSError:
        return b""


def _is_file(path: Path) -> bool:
    """Whether it is a regular file: reading a pipe would block."""
    return stat.S_ISREG(path.lstat().st_mode)
