"""Error of a data folder that cannot be used: one line for people that names the file."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_PRIMARY_CODE: Final = 0xFF
"""SQLite's extended result codes have the primary one in their lowest byte."""
_PROBLEMS: Final = {
    sqlite3.SQLITE_NOTADB: "is damaged, or is no database of SQLite",
    sqlite3.SQLITE_CORRUPT: "is damaged",
    sqlite3.SQLITE_FULL: "cannot be written: the disk is full",
    sqlite3.SQLITE_READONLY: "cannot be written",
    sqlite3.SQLITE_PERM: "cannot be written",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_BUSY: "is in use by another program",
    sqlite3.SQLITE_LOCKED: "is in use by another program",
}
_DAMAGED: Final = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


class DataFolderUnusable(RuntimeError):
    """The data folder cannot be used as it is. The message is for people."""


class SchemaTooNew(Exception):
    """The database was written by a later version of this program."""


@contextmanager
def data_folder_errors(database: Path) -> Iterator[None]:
    """Context manager: what SQLite and the system say becomes DataFolderUnusable."""
    try:
        yield
    except SchemaTooNew as error:
        raise DataFolderUnusable(
            f"{database} is of a newer version of Mediagate ({error}): start that one, or set "
            "MEDIAGATE_DATA_DIR to another folder"
        ) from None
    except sqlite3.Error as error:
        raise DataFolderUnusable(_message(database, error)) from error
    except OSError as error:
        raise DataFolderUnusable(
            f"the data folder {database.parent} cannot be used: "
            f"{error.filename or database}: {error.strerror or error} (MEDIAGATE_DATA_DIR)"
        ) from error


def _message(database: Path, error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
    problem = _PROBLEMS.get(code, f"cannot be used: {error}")
    if code in _DAMAGED:
        cure = "put back a copy of the whole folder, or set MEDIAGATE_DATA_DIR to another one"
        return f"{database} {problem}: {cure}"
    return f"{database} {problem} (MEDIAGATE_DATA_DIR)"
