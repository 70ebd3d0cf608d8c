"""A disk that remembers what was written and what was synced, and can lose power or be full.

After a loss of power a file holds what it held at its last sync. Of what was written since, each
write is there, or not, or in part: disks write sectors of 512 bytes, in any order.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import apsw

SECTOR = 512


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes that were handed to the system."""

    file: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    """A file that was cut, or deleted (size None)."""

    file: str
    size: int | None


@dataclass(frozen=True, slots=True)
class Sync:
    """What was written to this file before is on the disk."""

    file: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The store has said that this is durable."""

    fact: Any


Event = Write | Truncate | Sync | Acknowledged
Fault = Callable[[str, str], Exception | None]
"""Asked before each `write` or `sync` of a file: what it fails with, if it is to fail."""


class Disk(apsw.VFS):
    """A VFS over the usual one that writes down everything. `name` must be its own."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "")
        self.name = name
        self.events: list[Event] = []
        self.fault: Fault = lambda _operation, _file: None

    def acknowledge(self, fact: Any) -> None:
        """Whatever happens from here on, this must not be lost."""
        self.events.append(Acknowledged(fact))

    def xOpen(self, name: Any, flags: list[int]) -> "_File":
        return _File(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self.events.append(Truncate(_short(filename), None))
        super().xDelete(filename, syncdir)


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._disk = disk
        named = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._name = _short(named or "a temporary file")

    def xWrite(self, data: bytes, offset: int) -> None:
        self._may("write")
        self._disk.events.append(Write(self._name, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:
        self._disk.events.append(Truncate(self._name, size))
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:
        self._may("sync")
        super().xSync(flags)
        self._disk.events.append(Sync(self._name))

    def _may(self, operation: str) -> None:
        fault = self._disk.fault(operation, self._name)
        if fault is not None:
            raise fault


def _short(name: Any) -> str:
    return Path(str(name)).name


@dataclass(slots=True)
class _Content:
    """`synced` None: there is no such file."""

    synced: bytearray | None = None
    since: list[Write | Truncate] = field(default_factory=list)
    is_entered: bool = False
    """Whether the folder on the disk has it: that is synced with a new file's first sync."""

    def settle(self, number: int) -> None:
        """The first of what was done since the last sync are on the disk."""
        for event in self.since[:number]:
            self.synced = _applied(self.synced, event)
        del self.since[:number]


def after_power_loss(
    events: list[Event], moment: int, random: Random
) -> tuple[dict[str, bytes], list[Any]]:
    """What the files hold if power goes after the first `moment` events, and what was promised."""
    files: dict[str, _Content] = {}
    promised = []
    for event in events[:moment]:
        if isinstance(event, Acknowledged):
            promised.append(event.fact)
            continue
        content = files.setdefault(event.file, _Content())
        if isinstance(event, Sync):
            content.settle(len(content.since))
            if not content.is_entered:
                content.is_entered = True
                _sync_folder(files)
        else:
            content.since.append(event)
            content.is_entered = content.is_entered and not _is_deletion(event)
    left = {name: _torn(content, random) for name, content in files.items()}
    return {
        name: bytes(restored) for name, restored in left.items() if restored is not None
    }, promised


def _sync_folder(files: dict[str, _Content]) -> None:
    """What was deleted before is gone for good."""
    for content in files.values():
        deletions = [n for n, event in enumerate(content.since, 1) if _is_deletion(event)]
        content.settle(deletions[-1] if deletions else 0)


def _is_deletion(event: Write | Truncate) -> bool:
    return isinstance(event, Truncate) and event.size is None


def _torn(content: _Content, random: Random) -> bytearray | None:
    restored = None if content.synced is None else bytearray(content.synced)
    for event in content.since:
        match random.choice(("all", "none", "part")):
            case "all":
                restored = _applied(restored, event)
            case "part" if isinstance(event, Write):
                for start in range(0, len(event.data), SECTOR):
                    if random.random() < 0.5:
                        sector = event.data[start : start + SECTOR]
                        restored = _applied(
                            restored, Write(event.file, event.offset + start, sector)
                        )
            case _:
                pass
    return restored


def _applied(restored: bytearray | None, event: Write | Truncate) -> bytearray | None:
    if _is_deletion(event):
        return None
    restored = bytearray() if restored is None else restored
    if isinstance(event, Truncate):
        del restored[event.size :]
        return restored
    end = event.offset + len(event.data)
    if len(restored) < end:
        restored.extend(bytes(end - len(restored)))
    restored[event.offset : end] = event.data
    return restored
