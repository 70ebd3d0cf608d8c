"""Batch insert: jobs add rows, the commit writes them with one executemany per statement.

A commit of twenty jobs writes a hundred rows, of eight kinds. A statement for each row costs time
in Python, and each releases the interpreter's lock several times, which wakes the event loop's
thread (docs/decisions/0017).
"""

import sqlite3
from collections import defaultdict
from enum import StrEnum
from typing import Final

from mediagate_server.store.generations import StaleWrite

_JOB_ERRORS: Final = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.DataError,
)
"""Errors of a job itself, whatever their code."""
_JOB_ERROR_CODES: Final = frozenset(
    {
        sqlite3.SQLITE_ERROR,  # A statement that cannot be done: a sum beyond 64 bits, bad JSON.
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_MISUSE,
        sqlite3.SQLITE_RANGE,
    }
)
"""So are errors with these codes; all others are of the disk or the database."""
_PRIMARY_CODE: Final = 0xFF
_NO_SUCH_TABLE: Final = "no such "
"""Begin of the message of a missing table or column, for which SQLite has no code."""


class PartialWrite(Exception):
    """A job failed after it had written something, or it is unknown which job failed."""


def is_database_error(error: BaseException, connection: sqlite3.Connection) -> bool:
    """Whether an error within a transaction is of the disk or the database, and not of a job.

    Errors of a job come from its code or its values: an integer beyond 64 bits, a text that is not
    Unicode, a row that is too large. Only that job is rolled back, unless SQLite has ended the
    whole transaction by itself.
    """
    if not connection.in_transaction:
        return True
    if not isinstance(error, sqlite3.Error) or isinstance(error, _JOB_ERRORS):
        return False
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is None or code & _PRIMARY_CODE not in _JOB_ERROR_CODES:
        return True
    return str(error).startswith(_NO_SUCH_TABLE)


class StatementKind(StrEnum):
    """The statements of a batch, in the order of their foreign keys."""

    NEW_GENERATION = (
        "INSERT INTO generations (version, state, terminal, model, document, changed_seq, erased,"
        " id, tenant, modality, labels, created_us, likeness)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    )
    NEXT_VERSION = (
        "UPDATE generations SET version = ?, state = ?, terminal = ?, model = ?, document = ?,"
        " changed_seq = ?, erased = ? WHERE id = ? AND version = ?"
    )
    BINDING = "INSERT INTO request_ids VALUES (?, ?, ?, ?)"
    # An unchanged row is not written. `created_us` is the time of the send, once it was sent: the
    # prediction was created then, and an attempt may wait for hours in the queue before.
    ATTEMPT = (
        "INSERT INTO attempts (id, generation_id, ordinal, state, prediction_id, created_us)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
        " SET state = excluded.state, prediction_id = excluded.prediction_id,"
        " created_us = excluded.created_us"
        " WHERE state <> excluded.state OR prediction_id IS NOT excluded.prediction_id"
        " OR created_us <> excluded.created_us"
    )
    LEDGER_ENTRY = (
        "INSERT INTO ledger (attempt_id, kind, amount_nanos, state, price_as_of)"
        " VALUES (?, ?, ?, ?, ?)"
    )
    CHARGE = (
        "INSERT INTO charges SELECT line, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?"
        " FROM ledger WHERE attempt_id = ? AND kind = 'settle'"
    )
    PENDING = "INSERT INTO pending SELECT number, ? FROM generations WHERE id = ?"
    DELETE_PENDING = (
        "DELETE FROM pending WHERE number = (SELECT number FROM generations WHERE id = ?)"
    )


_WRITE_ORDER: Final = tuple(StatementKind)
_ID_COLUMN: Final = 7
"""Index of the generation's id in a row of NEXT_VERSION."""


class RowBatch:
    """Rows to be written in a transaction of `connection`: in batches, or each immediately."""

    def __init__(self, connection: sqlite3.Connection, *, immediate: bool = False) -> None:
        self.immediate = immediate
        """Whether each row is written when it is added, so that its error is raised there."""
        self._connection = connection
        self._pending: defaultdict[StatementKind, list[tuple[object, ...]]] = defaultdict(list)
        self._count = 0
        self._flushed = 0

    @property
    def changes(self) -> int:
        """Count of rows added, and of rows changed by other statements.

        A flush does not count: it writes rows of other jobs as well.
        """
        return self._connection.total_changes - self._flushed + self._count

    def add(self, kind: StatementKind, row: tuple[object, ...]) -> None:
        """Add a row. If `immediate`, raises StaleWrite for a version that is not the next."""
        if self.immediate:
            self._write(kind, [row])
        else:
            self._pending[kind].append(row)
            self._count += 1

    def flush(self) -> sqlite3.Connection:
        """Write all pending rows, and return the connection.

        Raises PartialWrite where a row, of any job, cannot be written.
        """
        if self._pending:
            pending, self._pending = self._pending, defaultdict(list)
            before = self._connection.total_changes
            try:
                for kind in _WRITE_ORDER:
                    if kind in pending:
                        self._write(kind, pending[kind])
            except Exception as error:
                if is_database_error(error, self._connection):
                    raise
                raise PartialWrite from error
            self._flushed += self._connection.total_changes - before
        return self._connection

    def _write(self, kind: StatementKind, rows: list[tuple[object, ...]]) -> None:
        written = self._connection.executemany(kind, rows)
        if kind is StatementKind.NEXT_VERSION and written.rowcount != len(rows):
            raise StaleWrite(rows[-1][_ID_COLUMN])
