"""APSW, which lets a test put a file system of its own under SQLite, spoken to as `sqlite3`."""

import contextlib
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import apsw


class Rows:
    """What a statement found, all of it, and how many rows it changed."""

    def __init__(self, rows: list[Any], rowcount: int) -> None:
        self._rows = rows
        self.rowcount = rowcount

    def fetchone(self) -> Any:
        return self._rows.pop(0) if self._rows else None

    def fetchall(self) -> list[Any]:
        rows, self._rows = self._rows, []
        return rows


class Connection:
    """As much of `sqlite3.Connection` as the store uses."""

    def __init__(self, path: Path, vfs: str) -> None:
        with _as_sqlite3():
            self._inner = apsw.Connection(str(path), vfs=vfs)
        self._inner.set_busy_timeout(5_000)

    @property
    def in_transaction(self) -> bool:
        return self._inner.in_transaction

    @property
    def total_changes(self) -> int:
        return self._inner.total_changes()

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Rows:
        given = parameters if isinstance(parameters, Mapping) else tuple(parameters)
        with _as_sqlite3():
            rows = self._inner.execute(sql, given).fetchall()
            return Rows(rows, self._inner.changes())

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> Rows:
        return Rows([], sum(self.execute(sql, parameters).rowcount for parameters in rows))

    def executescript(self, sql: str) -> None:
        with _as_sqlite3():
            self._inner.execute(sql).fetchall()

    def close(self) -> None:
        with _as_sqlite3():
            self._inner.close()


def connection(path: Path, vfs: str) -> sqlite3.Connection:
    """A connection for the store, over a VFS that is registered under this name."""
    return cast("sqlite3.Connection", Connection(path, vfs))


class _as_sqlite3(contextlib.AbstractContextManager[None]):  # noqa: N801 - reads as what it does
    """APSW's errors as those that the store knows."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, apsw.ConstraintError):
            raise sqlite3.IntegrityError(str(error)) from error
        if isinstance(error, apsw.Error):
            raise sqlite3.OperationalError(str(error)) from error
