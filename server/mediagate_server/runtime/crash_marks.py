"""Crash marks: whose outside data a process was handling when it died, so that it can be blamed.

While a prediction's answer is decoded, checked or shaped on the event loop, the id of its
generation stands in a small file that is mapped into memory: setting and clearing it are two
copies in memory, and what stands there survives the process however that dies (not a loss of
power). The next process counts one blame for each mark left standing. A process that dies for any
other reason leaves none, but for the chance of a `kill -9` that falls into a handling; the count
is dropped when the generation ends.

They protect the gate and are no reason to end it: where the disk takes none, or what is in the
folder cannot be read, that is told in the log and the gate goes on without.
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

_SLOT: Final = 64
"""Bytes of an id, padded with zeros. Handling is synchronous: one stands at a time."""
_SIZE: Final = 4096
_ID: Final = re.compile(rb"[0-9A-Za-z_-]{1,64}")
_PRIVATE: Final = 0o600
_PATTERN: Final = "*.mark"
_BLAMES: Final = "blames.json"
_LARGEST: Final = 4 * 1024 * 1024
"""Bytes of what is read; of each generation there are some 50."""

_log = structlog.get_logger()


class CrashMark:
    """The handling of one generation's outside data: `with` it the mark stands. Not to be nested.

    `skips_output`: all is read of an answer but the output, which has done harm before.
    """

    __slots__ = ("_map", "_mark", "skips_output")

    def __init__(self, mapped: mmap.mmap | None, generation_id: str) -> None:
        self._map = mapped
        self._mark = generation_id.encode()[:_SLOT].ljust(_SLOT, b"\0")
        self.skips_output = False

    def __enter__(self) -> None:
        if self._map is not None:
            self._map[:_SLOT] = self._mark

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._map is not None:
            self._map[0] = 0


CURRENT_MARK: Final[ContextVar[CrashMark | None]] = ContextVar("handling", default=None)
"""Of the generation that this task works on; None: of none, or in a worker process."""

_UNMARKED: Final = nullcontext()


def crash_marked() -> AbstractContextManager[None]:
    """Within it the mark of the current generation stands. For what does not await."""
    return CURRENT_MARK.get() or _UNMARKED


def skips_output() -> bool:
    """Whether the output in an answer about the current generation is to be passed over."""
    handling = CURRENT_MARK.get()
    return handling is not None and handling.skips_output


class CrashMarks:
    """The marks of this process, and the blames that those of earlier ones have come to.

    A context manager; entered once the data folder is this process's own.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._blames: dict[str, int] = {}
        self._counted: set[str] = set()
        """Names of mark files that are still there, and are not to be counted again."""
        self._map: mmap.mmap | None = None
        self._file = folder / f"{os.getpid()}-{uuid4().hex}.mark"

    def __enter__(self) -> Self:
        try:
            make_private_folder(self._folder)
            make_private(list_tree(self._folder))
            self._count_crashes()
            self._map = self._mapped()
        except OSError as error:
            _log.error("crash_marks_unavailable", error=error.strerror)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A view of the map may still be in some task's context: it is freed with the last one.
        self._map = None
        with suppress(OSError):
            self._file.unlink()

    def mark(self, generation_id: str) -> CrashMark:
        """What marks this generation."""
        return CrashMark(self._map, generation_id)

    def crash_count(self, generation_id: str) -> int:
        """How many processes have died while they handled its outside data."""
        return self._blames.get(generation_id, 0)

    def forget(self, generation_id: str) -> None:
        """It has come to its end."""
        if self._blames.pop(generation_id, None) is not None:
            self._write()

    def retain(self, generation_ids: Collection[str]) -> None:
        """Forget all that are not among these, which are those that have not ended."""
        gone = self._blames.keys() - set(generation_ids)
        for generation_id in gone:
            del self._blames[generation_id]
        if gone:
            self._write()

    def _mapped(self) -> mmap.mmap:
        """The file of this process. Raises OSError."""
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_EXCL, _PRIVATE)
        try:
            # A full disk is to be noticed now, not in a store.
            if os.write(descriptor, bytes(_SIZE)) < _SIZE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return mmap.mmap(descriptor, _SIZE)
        except OSError:
            self._file.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    def _count_crashes(self) -> None:
        """Each mark counts once, also where this process dies before it has removed the file."""
        counted, self._blames = _known(self._folder / _BLAMES)
        files = [file for file in sorted(self._folder.glob(_PATTERN)) if _is_file(file)]
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
        mark = _read(file, _SLOT).rstrip(b"\0")
        if _ID.fullmatch(mark):
            generation_id = mark.decode()
            self._blames[generation_id] = self.crash_count(generation_id) + 1

    def _write(self) -> bool:
        """Durably, before a file whose mark was counted is removed. False: it cannot be."""
        new = self._folder / f"{_BLAMES}.new"
        document = json.dumps({"counted": sorted(self._counted), "blames": self._blames})
        try:
            write_private_file(new, document.encode())
            new.replace(self._folder / _BLAMES)
        except OSError as error:
            _log.error("crash_marks_not_written", error=error.strerror)
            return False
        return True


def _known(file: Path) -> tuple[set[str], dict[str, int]]:
    """The marks that were counted, and the blames. What is not as we write it is left out."""
    try:
        known: Any = json.loads(_read(file, _LARGEST))
    except (ValueError, RecursionError):
        known = None
    told = known if isinstance(known, dict) else {}
    counted, blames = told.get("counted"), told.get("blames")
    return (
        {name for name in counted if isinstance(name, str)} if isinstance(counted, list) else set(),
        {name: count for name, count in blames.items() if type(count) is int and count > 0}
        if isinstance(blames, dict)
        else {},
    )


def _read(file: Path, size: int) -> bytes:
    """The beginning of a file; nothing where there is none that can be read."""
    try:
        with file.open("rb") as opened:
            return opened.read(size)
    except OSError:
        return b""


def _is_file(path: Path) -> bool:
    """Not a folder, a link or a pipe, which would be waited for."""
    return stat.S_ISREG(path.lstat().st_mode)
