"""Passes over upstream's list as rows; each function works within the caller's transaction.

`SqliteReconciliationStore`: the audit port over the store's own threads.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from mediagate_server.store.reconciliations import (
    Discrepancy,
    DiscrepancyKind,
    DueCharges,
    Reconciliation,
    ReconciliationFindings,
    SettledCharge,
)
from mediagate_server.store.sqlite.generation_rows import microseconds
from mediagate_server.store.sqlite.reader import ReadThread
from mediagate_server.store.sqlite.writer import GroupCommitWriter

RETENTION: Final = timedelta(days=90)
"""How long passes and what they found are kept."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SETTLEMENT: Final = (
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
_UNPRICED, _PRICED = _SETTLEMENT.format(price="''"), _SETTLEMENT.format(price=_PRICE)
_COLUMNS: Final = (
    "account, origin_us, begun_us, ended_us, since_us, line, complete, listed, matched, found"
)
_CASE: Final = (
    "kind, prediction_id, model, found_us, generation_id, ordinal, tenant, ledger_nanos,"
    " upstream_nanos, made_us"
)


def due_charges(
    connection: sqlite3.Connection, after: int, since: datetime, settled_by: datetime
) -> DueCharges:
    """The charges behind a line up to the first that is younger; see reconciliations.Audit."""
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
    """The first of them above a line, at most `limit`."""
    rows = connection.execute(
        f"{_UNPRICED} WHERE charges.line > ? AND charges.line <= ?"
        " AND (charges.line > ? OR charges.settled_us >= ?) ORDER BY charges.line LIMIT ?",
        (max(above, due.start), due.end, due.after, microseconds(due.since), limit),
    ).fetchall()
    return _settlements(rows)


def at_lines(connection: sqlite3.Connection, lines: Iterable[int]) -> tuple[SettledCharge, ...]:
    """The charges at these lines."""
    rows = connection.execute(
        f"{_UNPRICED} WHERE charges.line IN (SELECT value FROM json_each(?))",  # noqa: S608
        (orjson.dumps(list(lines)).decode(),),
    ).fetchall()
    return _settlements(rows)


def charges_of_predictions(
    connection: sqlite3.Connection, prediction_ids: Iterable[str]
) -> tuple[SettledCharge, ...]:
    """The charges of these predictions, as far as they have one."""
    rows = connection.execute(
        f"{_PRICED} WHERE attempts.prediction_id IN (SELECT value FROM json_each(?))",  # noqa: S608
        (orjson.dumps(list(prediction_ids)).decode(),),
    ).fetchall()
    return _settlements(rows)


def last_pass(connection: sqlite3.Connection, account: str) -> Reconciliation | None:
    """The last complete pass over an account's list."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM reconciliations WHERE account = ? AND complete = 1"  # noqa: S608
        " ORDER BY number DESC LIMIT 1",
        (account,),
    ).fetchone()
    return _pass(row) if row else None


def write_cases(
    connection: sqlite3.Connection, cases: Iterable[Discrepancy]
) -> tuple[Discrepancy, ...]:
    """What was found; returns what was not known before."""
    return tuple(case for case in cases if _insert(connection, case))


def insert_pass(connection: sqlite3.Connection, made: Reconciliation) -> None:
    """A pass, with the count of what it found."""
    found = {kind.value: made.counts.get(kind, 0) for kind in DiscrepancyKind}
    connection.execute(
        f"INSERT INTO reconciliations ({_COLUMNS})"  # noqa: S608
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            made.account,
            microseconds(made.origin),
            microseconds(made.begun_at),
            microseconds(made.ended_at),
            microseconds(made.since),
            made.line,
            int(made.complete),
            made.listed,
            made.matched,
            orjson.dumps(found).decode(),
        ),
    )
    oldest = microseconds(made.ended_at - RETENTION)
    connection.execute("DELETE FROM reconciliations WHERE begun_us < ?", (oldest,))
    connection.execute("DELETE FROM discrepancies WHERE found_us < ?", (oldest,))


def read_findings(
    connection: sqlite3.Connection, since: datetime, limit: int
) -> ReconciliationFindings:
    """What was found at or after a time; at most `limit` cases, the newest first."""
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
        f"SELECT {_CASE} FROM discrepancies WHERE found_us >= ?"  # noqa: S608
        " ORDER BY found_us DESC, prediction_id, kind LIMIT ?",
        (begun, limit),
    ).fetchall()
    return ReconciliationFindings(
        _pass(row) if row else None,
        matched,
        {DiscrepancyKind(kind): number for kind, number in counts},
        tuple(_case(case) for case in cases),
    )


def _insert(connection: sqlite3.Connection, case: Discrepancy) -> bool:
    """True where it was not known yet."""
    written = connection.execute(
        f"INSERT INTO discrepancies ({_CASE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
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


def _settlements(rows: Sequence[Any]) -> tuple[SettledCharge, ...]:
    return tuple(_settlement(*row) for row in rows)


def _settlement(*row: Any) -> SettledCharge:
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
        _moment(opened),
        _moment(settled_at),
        nanos,
        outputs,
        price or "",
    )


def _pass(row: Any) -> Reconciliation:
    account, origin, begun, ended, since, line, complete, listed, matched, found = row
    return Reconciliation(
        account,
        _moment(origin),
        _moment(begun),
        _moment(ended),
        _moment(since),
        line,
        bool(complete),
        listed,
        matched,
        {DiscrepancyKind(kind): number for kind, number in orjson.loads(found).items()},
    )


def _case(row: Any) -> Discrepancy:
    kind, prediction_id, model, found, *of_charge, ledger, upstream, made = row
    generation, ordinal, tenant = of_charge
    made_at = None if made is None else _moment(made)
    return Discrepancy(
        DiscrepancyKind(kind),
        prediction_id,
        model,
        _moment(found),
        generation,
        ordinal,
        tenant,
        ledger,
        upstream,
        made_at,
    )


def _moment(stamp: int) -> datetime:
    return _EPOCH + timedelta(microseconds=stamp)


class SqliteReconciliationStore:
    """Implements `reconciliations.Audit`. Made by the store."""

    def __init__(self, writer: GroupCommitWriter, reader: ReadThread) -> None:
        self._writer = writer
        self._reader = reader

    async def due(self, after_line: int, since: datetime, settled_by: datetime) -> DueCharges:
        """See reconciliations.Audit."""
        return await self._reader.read(lambda c: due_charges(c, after_line, since, settled_by))

    async def due_page(self, due: DueCharges, above: int, limit: int) -> tuple[SettledCharge, ...]:
        """See reconciliations.Audit."""
        return await self._reader.read(lambda c: due_page(c, due, above, limit))

    async def at_lines(self, lines: Iterable[int]) -> tuple[SettledCharge, ...]:
        """See reconciliations.Audit."""
        asked = tuple(lines)
        return await self._reader.read(lambda c: at_lines(c, asked))

    async def save_discrepancies(self, cases: tuple[Discrepancy, ...]) -> tuple[Discrepancy, ...]:
        """See reconciliations.Audit."""
        new: tuple[Discrepancy, ...] = await self._writer.submit(lambda c: write_cases(c, cases))
        return new

    async def charges_of_predictions(
        self, prediction_ids: Iterable[str]
    ) -> tuple[SettledCharge, ...]:
        """See reconciliations.Audit."""
        asked = tuple(prediction_ids)
        return await self._reader.read(lambda c: charges_of_predictions(c, asked))

    async def last_pass(self, account: str) -> Reconciliation | None:
        """See reconciliations.Audit."""
        return await self._reader.read(lambda c: last_pass(c, account))

    async def save_pass(self, made: Reconciliation) -> None:
        """See reconciliations.Audit."""
        await self._writer.submit(lambda c: insert_pass(c, made))

    async def findings(self, since: datetime, limit: int) -> ReconciliationFindings:
        """See reconciliations.Audit."""
        return await self._reader.read(lambda c: read_findings(c, since, limit))
