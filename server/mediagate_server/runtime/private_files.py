"""Files and folders that only their owner may read, whatever the umask is.

A umask is the process's, and an operator's to choose: it also decides who may use a socket. So
whatever the gate keeps is made with its mode set, and what an earlier version, a copy or a backup
has left open is closed when the gate starts.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import structlog

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
_OTHERS: Final = 0o077

_log = structlog.get_logger()


def make_private_folder(folder: Path) -> None:
    """Make the folder and those above it that are missing, all of them private. Raises OSError."""
    try:
        folder.mkdir(mode=FOLDER_MODE)
    except FileNotFoundError:
        make_private_folder(folder.parent)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    except FileExistsError:
        if not folder.is_dir():
            raise


def write_private_file(path: Path, content: bytes) -> None:
    """Write the file anew, durably. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def create_private_file(path: Path) -> None:
    """Make an empty file, unless there is one. One that is there is not opened."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
    except FileExistsError:
        return


def make_private(paths: Iterable[Path]) -> None:
    """Take from everybody but the owner what they may do with what is there.

    What belongs to somebody else cannot be changed: that is told, and no reason not to start. No
    link is followed.
    """
    left = [path for path in paths if not _tighten(path)]
    if left:
        _log.warning("file_permissions_too_open", first=str(left[0]), files=len(left))


def list_tree(folder: Path) -> Iterator[Path]:
    """A folder and all that is in it."""
    yield folder
    for inner, folders, names in os.walk(folder):
        for name in (*folders, *names):
            yield Path(inner) / name


def _tighten(path: Path) -> bool:
    """False where it stays open to others."""
    try:
        found = path.lstat().st_mode
        if stat.S_ISLNK(found) or not found & _OTHERS:
            return True
        path.chmod(stat.S_IMODE(found) & ~_OTHERS)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
