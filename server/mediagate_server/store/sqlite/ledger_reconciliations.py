"""Reconciliation passes and discrepancies: their rows, and the port over the store's threads.

The functions work within the caller's transaction.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from mediagate_server.store.ledger_reconciliations import (
    Discrepancy,
    DiscrepancyKind,
    DueCharges,
    Reconciliation,
    ReconciliationFindings,
    SettledCharge,
)
from mediagate_server.store.sqlite.generation_rows import microseconds
from mediagate_server.store.sqlite.group_commit import GroupCommitWriter
from mediagate_server.store.sqlite.reader import ReadThread

RETENTION: Final = timedelta(days=90)
"""Retention of passes and discrepancies."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SELECT_CHARGES: Final = (
    "SELECT charges.line, charges.prediction_id, ledger.attempt_id, charges.generation_id,"
    " charges.ordinal, charges.tenant, charges.model, attempts.created_us, charges.settled_us,"
    " charges.amount_nanos, charges.outputs, {price}"
    " FROM charges JOIN ledger ON ledger.line = charges.line"
    " JOIN attempts ON attempts.id = ledger.attempt_id"
)
_PRICE: Final = (
    "(SELECT json_extract(attempt.value, '$.price') FROM generations,"
    " json_each(generations.document, '$.attempts') AS attempt"
    " WHERE generations.id = charges.generation_id"
    " AND json_extract(attempt.value, '$.id') = ledger.attempt_id)"
)
_SELECT_WITHOUT_PRICE, _SELECT_WITH_PRICE = (
    _SELECT_CHARGES.format(price="''"),
    _SELECT_CHARGES.format(price=_PRICE),
)
_COLUMNS: Final = (
    "account, origin_us, begun_us, ended_us, since_us, line, complete, listed, matched, found"
)
_DISCREPANCY_COLUMNS: Final = (
    "kind, prediction_id, model, found_us, generation_id, ordinal, tenant, ledger_nanos,"
    " upstream_nanos, made_us"
)


def due_charges(
    connection: sqlite3.Connection, after: int, since: datetime, settled_by: datetime
) -> DueCharges:
    """The range of charges after a line, up to the first settled after `settled_by`."""
    (end,) = connection.execute(
        "SELECT coalesce((SELECT min(line) - 1 FROM charges WHERE line > ? AND settled_us > ?),"
        " (SELECT max(line) FROM charges), 0)",
        (after, microseconds(settled_by)),
    ).fetchone()
    (start,) = connection.execute(
        "SELECT min(coalesce(min(line) - 1, ?), ?) FROM charges WHERE settled_us >= ?",
        (after, after, microseconds(since)),
    ).fetchone()
    return DueCharges(start, max(after, end), after, since)


def due_page(
    connection: sqlite3.Connection, due: DueCharges, above: int, limit: int
) -> tuple[SettledCharge, ...]:
    """A page of due charges above a line, without their prices."""
    rows = connection.execute(
        f"{_SELECT_WITHOUT_PRICE} WHERE charges.line > ? AND charges.line <= ?"
        " AND (charges.line > ? OR charges.settled_us >= ?) ORDER BY charges.line LIMIT ?",
        (max(above, due.start), due.end, due.after, microseconds(due.since), limit),
    ).fetchall()
    return _settled_charges(rows)


def at_lines(connection: sqlite3.Connection, lines: Iterable[int]) -> tuple[SettledCharge, ...]:
    """The charges at these ledger lines, without their prices."""
    rows = connection.execute(
        f"{_SELECT_WITHOUT_PRICE} WHERE charges.line IN (SELECT value FROM json_each(?))",  # noqa: S608
        (orjson.dumps(list(lines)).decode(),),
    ).fetchall()
    return _settled_charges(rows)


def charges_of_predictions(
    connection: sqlite3.Connection, prediction_ids: Iterable[str]
) -> tuple[SettledCharge, ...]:
    """The charges of these predictions that have one, with their prices."""
    rows = connection.execute(
        f"{_SELECT_WITH_PRICE} WHERE attempts.prediction_id IN (SELECT value FROM json_each(?))",  # noqa: S608
        (orjson.dumps(list(prediction_ids)).decode(),),
    ).fetchall()
    return _settled_charges(rows)


def last_pass(connection: sqlite3.Connection, account: str) -> Reconciliation | None:
    """The last complete pass of an account."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM reconciliations WHERE account = ? AND complete = 1"  # noqa: S608
        " ORDER BY number DESC LIMIT 1",
        (account,),
    ).fetchone()
    return _pass(row) if row else None


def insert_discrepancies(
    connection: sqlite3.Connection, cases: Iterable[Discrepancy]
) -> tuple[Discrepancy, ...]:
    """Insert discrepancies; returns those that are new."""
    return tuple(case for case in cases if _insert_discrepancy(connection, case))


def insert_pass(connection: sqlite3.Connection, reconciliation: Reconciliation) -> None:
    """Insert a pass with its counts; deletes what is past retention."""
    counts = {kind.value: reconciliation.counts.get(kind, 0) for kind in DiscrepancyKind}
    connection.execute(
        f"INSERT INTO reconciliations ({_COLUMNS})"  # noqa: S608
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            reconciliation.account,
            microseconds(reconciliation.origin),
            microseconds(reconciliation.begun_at),
            microseconds(reconciliation.ended_at),
            microseconds(reconciliation.since),
            reconciliation.line,
            int(reconciliation.complete),
            reconciliation.listed,
            reconciliation.matched,
            orjson.dumps(counts).decode(),
        ),
    )
    oldest = microseconds(reconciliation.ended_at - RETENTION)
    connection.execute("DELETE FROM reconciliations WHERE begun_us < ?", (oldest,))
    connection.execute("DELETE FROM discrepancies WHERE found_us < ?", (oldest,))


def read_findings(
    connection: sqlite3.Connection, since: datetime, limit: int
) -> ReconciliationFindings:
    """Passes and discrepancies since a time; at most `limit` discrepancies, newest first."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM reconciliations ORDER BY number DESC LIMIT 1"  # noqa: S608
    ).fetchone()
    begun = microseconds(since)
    (matched,) = connection.execute(
        "SELECT coalesce(sum(matched), 0) FROM reconciliations WHERE begun_us >= ?", (begun,)
    ).fetchone()
    counts = connection.execute(
        "SELECT kind, count(*) FROM discrepancies WHERE found_us >= ? GROUP BY kind", (begun,)
    ).fetchall()
    cases = connection.execute(
        f"SELECT {_DISCREPANCY_COLUMNS} FROM discrepancies WHERE found_us >= ?"  # noqa: S608
        " ORDER BY found_us DESC, prediction_id, kind LIMIT ?",
        (begun, limit),
    ).fetchall()
    return ReconciliationFindings(
        _pass(row) if row else None,
        matched,
        {DiscrepancyKind(kind): number for kind, number in counts},
        tuple(_discrepancy(case) for case in cases),
    )


def _insert_discrepancy(connection: sqlite3.Connection, case: Discrepancy) -> bool:
    """True where it is new."""
    written = connection.execute(
        f"INSERT INTO discrepancies ({_DISCREPANCY_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
        " ON CONFLICT DO NOTHING",
        (
            case.kind,
            case.prediction_id,
            case.model,
            microseconds(case.found_at),
            case.generation_id,
            case.ordinal,
            case.tenant,
            case.ledger_nanos,
            case.upstream_nanos,
            None if case.created_at is None else microseconds(case.created_at),
        ),
    )
    return written.rowcount == 1


def _settled_charges(rows: Sequence[Any]) -> tuple[SettledCharge, ...]:
    return tuple(_settled_charge(*row) for row in rows)


def _settled_charge(*row: Any) -> SettledCharge:
    line, prediction, attempt, generation, ordinal, tenant, model, *rest = row
    opened, settled_at, nanos, outputs, price = rest
    return SettledCharge(
        line,
        prediction,
        attempt,
        generation,
        ordinal,
        tenant,
        model,
        _to_datetime(opened),
        _to_datetime(settled_at),
        nanos,
        outputs,
        price or "",
    )


def _pass(row: Any) -> Reconciliation:
    account, origin, begun, ended, since, line, complete, listed, matched, counts = row
    return Reconciliation(
        account,
        _to_datetime(origin),
        _to_datetime(begun),
        _to_datetime(ended),
        _to_datetime(since),
        line,
        bool(complete),
        listed,
        matched,
        {DiscrepancyKind(kind): number for kind, number in orjson.loads(counts).items()},
    )


def _discrepancy(row: Any) -> Discrepancy:
    kind, prediction_id, model, found_us, *of_charge, ledger, upstream, created_us = row
    generation, ordinal, tenant = of_charge
    created_at = None if created_us is None else _to_datetime(created_us)
    return Discrepancy(
        DiscrepancyKind(kind),
        prediction_id,
        model,
        _to_datetime(found_us),
        generation,
        ordinal,
        tenant,
        ledger,
        upstream,
        created_at,
    )


def _to_datetime(stamp: int) -> datetime:
    return _EPOCH + timedelta(microseconds=stamp)


class SqliteReconciliationStore:
    """Reconciliation port on the store's writer and search threads. Created by the store."""

    def __init__(self, writer: GroupCommitWriter, reader: ReadThread) -> None:
        self._writer = writer
        self._reader = reader

    async def due(self, after_line: int, since: datetime, settled_by: datetime) -> DueCharges:
        return await self._reader.read(lambda c: due_charges(c, after_line, since, settled_by))

    async def due_page(self, due: DueCharges, above: int, limit: int) -> tuple[SettledCharge, ...]:
        return await self._reader.read(lambda c: due_page(c, due, above, limit))

    async def at_lines(self, lines: Iterable[int]) -> tuple[SettledCharge, ...]:
        line_numbers = tuple(lines)
        return await self._reader.read(lambda c: at_lines(c, line_numbers))

    async def save_discrepancies(self, cases: tuple[Discrepancy, ...]) -> tuple[Discrepancy, ...]:
        new: tuple[Discrepancy, ...] = await self._writer.submit(
            lambda c: insert_discrepancies(c, cases)
        )
        return new

    async def charges_of_predictions(
        self, prediction_ids: Iterable[str]
    ) -> tuple[SettledCharge, ...]:
        ids = tuple(prediction_ids)
        return await self._reader.read(lambda c: charges_of_predictions(c, ids))

    async def last_pass(self, account: str) -> Reconciliation | None:
        return await self._reader.read(lambda c: last_pass(c, account))

    async def save_pass(self, reconciliation: Reconciliation) -> None:
        await self._writer.submit(lambda c: insert_pass(c, reconciliation))

    async def findings(self, since: datetime, limit: int) -> ReconciliationFindings:
        return await self._reader.read(lambda c: read_findings(c, since, limit))
