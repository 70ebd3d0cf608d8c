"""Crash marks: whose outside data a process was handling when it died, so that it can be blamed.

While a prediction's answer is decoded, checked or shaped on the event loop, the id of its
generation stands in a small file that is mapped into memory: setting and clearing it are two
copies in memory, and what stands there survives the process however that dies (not a loss of
power). The next process counts one blame for each mark left standing. A process that dies for any
other reason leaves none, but for the chance of a `kill -9` that falls into a handling; the count
is dropped when the generation ends.
"""

import json
import mmap
import os
import re
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

_SLOT: Final = 64
"""Bytes of an id, padded with zeros. Handling is synchronous: one stands at a time."""
_SIZE: Final = 4096
_ID: Final = re.compile(rb"[0-9A-Za-z_-]{1,64}")
_PRIVATE: Final = 0o600
_PATTERN: Final = "*.mark"
_BLAMES: Final = "blames.json"


class Handling:
    """The handling of one generation's outside data: `with` it the mark stands. Not to be nested.

    `passes_over_output`: all is read of an answer but the output, which has done harm before.
    """

    __slots__ = ("_map", "_mark", "passes_over_output")

    def __init__(self, mapped: mmap.mmap | None, generation_id: str) -> None:
        self._map = mapped
        self._mark = generation_id.encode()[:_SLOT].ljust(_SLOT, b"\0")
        self.passes_over_output = False

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


CURRENT: Final[ContextVar[Handling | None]] = ContextVar("handling", default=None)
"""Of the generation that this task works on; None: of none, or in a worker process."""

_UNMARKED: Final = nullcontext()


def marked() -> AbstractContextManager[None]:
    """Within it the mark of the current generation stands. For what does not await."""
    return CURRENT.get() or _UNMARKED


def passes_over_output() -> bool:
    """Whether the output in an answer about the current generation is to be passed over."""
    handling = CURRENT.get()
    return handling is not None and handling.passes_over_output


class CrashMarks:
    """The marks of this process, and the blames that those of earlier ones have come to.

    A context manager; entered once the data folder is this process's own.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._blames: dict[str, int] = {}
        self._map: mmap.mmap | None = None
        self._file = folder / f"{os.getpid()}-{uuid4().hex}.mark"

    def __enter__(self) -> Self:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._count_blames()
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_EXCL, _PRIVATE)
        try:
            os.write(descriptor, bytes(_SIZE))  # A full disk is to be noticed now, not in a store.
            self._map = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A view of the map may still be in some task's context: it is freed with the last one.
        self._map = None
        self._file.unlink(missing_ok=True)

    def handling(self, generation_id: str) -> Handling:
        """What marks this generation."""
        return Handling(self._map, generation_id)

    def blames(self, generation_id: str) -> int:
        """How many processes have died while they handled its outside data."""
        return self._blames.get(generation_id, 0)

    def forget(self, generation_id: str) -> None:
        """It has come to its end."""
        if self._blames.pop(generation_id, None) is not None:
            self._write([])

    def keep_only(self, generation_ids: Collection[str]) -> None:
        """Forget all that are not among these, which are those that have not ended."""
        gone = self._blames.keys() - set(generation_ids)
        for generation_id in gone:
            del self._blames[generation_id]
        if gone:
            self._write([])

    def _count_blames(self) -> None:
        """Each mark counts once, also where this process dies before it has removed the file."""
        try:
            known = json.loads((self._folder / _BLAMES).read_bytes())
            counted, self._blames = set(known["counted"]), dict(known["blames"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            counted = set()
        files = sorted(self._folder.glob(_PATTERN))
        for file in files:
            if file.name not in counted:
                self._count(file)
        if files:
            self._write([file.name for file in files])
        for file in files:
            file.unlink(missing_ok=True)

    def _count(self, file: Path) -> None:
        mark = file.read_bytes()[:_SLOT].rstrip(b"\0")
        if _ID.fullmatch(mark):
            generation_id = mark.decode()
            self._blames[generation_id] = self.blames(generation_id) + 1

    def _write(self, counted: list[str]) -> None:
        """Durably, before a file whose mark was counted is removed."""
        new = self._folder / f"{_BLAMES}.new"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            json.dump({"counted": counted, "blames": self._blames}, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._folder / _BLAMES)
