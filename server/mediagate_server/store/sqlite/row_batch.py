"""The rows that every call writes: jobs put them down, a commit writes them kind by kind.

A commit of twenty jobs writes a hundred rows, of eight kinds. A statement called anew for each of
them has its price in Python, and each lets go of the interpreter's lock several times, which wakes
the event loop's thread (docs/decisions/0017).
"""

import sqlite3
from collections import defaultdict
from enum import StrEnum
from typing import Final

from mediagate_server.store.generations import StaleWrite

_OF_THE_JOB: Final = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.DataError,
)
"""These are a job's own fault, whatever their code."""
_CODES_OF_THE_JOB: Final = frozenset(
    {
        sqlite3.SQLITE_ERROR,  # A statement that cannot be done: a sum beyond 64 bits, bad JSON.
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_MISUSE,
        sqlite3.SQLITE_RANGE,
    }
)
"""So are errors of these codes; every other one is the disk's, or the database's."""
_PRIMARY_CODE: Final = 0xFF
_NOT_OUR_SCHEMA: Final = "no such "
"""A table or column is missing: SQLite has no code of its own for that."""


class PartialWrite(Exception):
    """A job failed that had written something already, or nobody knows which one it was."""


def is_database_error(error: BaseException, connection: sqlite3.Connection) -> bool:
    """Whether an error within a transaction is the disk's or the database's, and not a job's own.

    A job's own is whatever else its code raises, or its values: an integer beyond 64 bits, a text
    that is no Unicode, a row that is too large. It takes nothing but that job back, as long as
    SQLite has not ended the whole transaction by itself.
    """
    if not connection.in_transaction:
        return True
    if not isinstance(error, sqlite3.Error) or isinstance(error, _OF_THE_JOB):
        return False
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is None or code & _PRIMARY_CODE not in _CODES_OF_THE_JOB:
        return True
    return str(error).startswith(_NOT_OUR_SCHEMA)


class StatementKind(StrEnum):
    """The statements, in the order in which their rows refer to each other."""

    NEW_GENERATION = (
        "INSERT INTO generations (version, state, terminal, model, document, changed_seq, erased,"
        " id, tenant, modality, labels, created_us, likeness)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    )
    NEXT_VERSION = (
        "UPDATE generations SET version = ?, state = ?, terminal = ?, model = ?, document = ?,"
        " changed_seq = ?, erased = ? WHERE id = ? AND version = ?"
    )
    REQUEST_ID = "INSERT INTO request_ids VALUES (?, ?, ?, ?)"
    # A row that is as it was is not written. `created_us` is when it was sent, once it was: the
    # prediction was made then, and one that waits for its turn may be opened hours before.
    ATTEMPT = (
        "INSERT INTO attempts (id, generation_id, ordinal, state, prediction_id, created_us)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
        " SET state = excluded.state, prediction_id = excluded.prediction_id,"
        " created_us = excluded.created_us"
        " WHERE state <> excluded.state OR prediction_id IS NOT excluded.prediction_id"
        " OR created_us <> excluded.created_us"
    )
    LINE = (
        "INSERT INTO ledger (attempt_id, kind, amount_nanos, state, price_as_of)"
        " VALUES (?, ?, ?, ?, ?)"
    )
    CHARGE = (
        "INSERT INTO charges SELECT line, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?"
        " FROM ledger WHERE attempt_id = ? AND kind = 'settle'"
    )
    PENDING = "INSERT INTO pending SELECT number, ? FROM generations WHERE id = ?"
    NOT_PENDING = "DELETE FROM pending WHERE number = (SELECT number FROM generations WHERE id = ?)"


_IN_ORDER: Final = tuple(StatementKind)
_ID_OF_VERSION: Final = 7
"""Where a NEXT_VERSION has the generation's id."""


class RowBatch:
    """Rows that are written with a transaction of `connection`: at once, or put together first."""

    def __init__(self, connection: sqlite3.Connection, *, at_once: bool = False) -> None:
        self.at_once = at_once
        """Whether a row that cannot be written fails where it is put."""
        self._connection = connection
        self._put: defaultdict[StatementKind, list[tuple[object, ...]]] = defaultdict(list)
        self._count = 0
        self._flushed = 0

    @property
    def changes(self) -> int:
        """Grows with all that is put down to be written, or written without that.

        Not with the writing of what was put: whoever asks for it has changed nothing by that.
        """
        return self._connection.total_changes - self._flushed + self._count

    def add(self, kind: StatementKind, row: tuple[object, ...]) -> None:
        """Write a row. At once: raises StaleWrite for a version that is not the next."""
        if self.at_once:
            self._write(kind, [row])
        else:
            self._put[kind].append(row)
            self._count += 1

    def flush(self) -> sqlite3.Connection:
        """The connection, with everything written that was put.

        Raises PartialWrite where something cannot be, whosever it is.
        """
        if self._put:
            put, self._put = self._put, defaultdict(list)
            before = self._connection.total_changes
            try:
                for kind in _IN_ORDER:
                    if kind in put:
                        self._write(kind, put[kind])
            except Exception as error:
                if is_database_error(error, self._connection):
                    raise
                raise PartialWrite from error
            self._flushed += self._connection.total_changes - before
        return self._connection

    def _write(self, kind: StatementKind, rows: list[tuple[object, ...]]) -> None:
        written = self._connection.executemany(kind, rows)
        if kind is StatementKind.NEXT_VERSION and written.rowcount != len(rows):
            raise StaleWrite(rows[-1][_ID_OF_VERSION])
