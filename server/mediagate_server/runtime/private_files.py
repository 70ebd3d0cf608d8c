"""Private files and folders: readable by their owner alone, whatever the umask is.

The umask is the operator's choice: it also decides who may use a socket. So all that the server
stores is created with an explicit mode, and what an earlier version, a copy or a backup has left
readable to others is fixed at the start.
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
    """Create a private folder, and missing parents, private too. Raises OSError."""
    try:
        folder.mkdir(mode=FOLDER_MODE)
    except FileNotFoundError:
        make_private_folder(folder.parent)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    except FileExistsError:
        if not folder.is_dir():
            raise


def write_private_file(path: Path, content: bytes) -> None:
    """Write a private file durably, replacing its content. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def create_private_file(path: Path) -> None:
    """Create an empty private file. An existing file is not opened."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
    except FileExistsError:
        return


def make_private(paths: Iterable[Path]) -> None:
    """Remove all permissions of group and others. Symbolic links are not followed.

    What belongs to another user cannot be changed: that is logged, and no reason not to start.
    """
    failed = [path for path in paths if not _make_private(path)]
    if failed:
        _log.warning("file_permissions_too_open", first=str(failed[0]), files=len(failed))


def list_tree(folder: Path) -> Iterator[Path]:
    """A folder and all files and folders below it."""
    yield folder
    for inner, folders, names in os.walk(folder):
        for name in (*folders, *names):
            yield Path(inner) / name


def _make_private(path: Path) -> bool:
    """False where it stays accessible to others."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode) or not mode & _OTHERS:
            return True
        path.chmod(stat.S_IMODE(mode) & ~_OTHERS)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
