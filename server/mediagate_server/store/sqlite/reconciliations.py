"""Passes over upstream's list as rows; each function works within the caller's transaction."""

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from mediagate_server.store.reconciliations import (
    Discrepancy,
    DueCharges,
    Findings,
    Mismatch,
    Reconciliation,
    Settlement,
)
from mediagate_server.store.sqlite.generations import microseconds

KEPT: Final = timedelta(days=90)
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


def due(
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
) -> tuple[Settlement, ...]:
    """The first of them above a line, at most `limit`."""
    rows = connection.execute(
        f"{_UNPRICED} WHERE charges.line > ? AND charges.line <= ?"
        " AND (charges.line > ? OR charges.settled_us >= ?) ORDER BY charges.line LIMIT ?",
        (max(above, due.start), due.end, due.after, microseconds(due.since), limit),
    ).fetchall()
    return _settlements(rows)


def at_lines(connection: sqlite3.Connection, lines: Iterable[int]) -> tuple[Settlement, ...]:
    """The charges at these lines."""
    rows = connection.execute(
        f"{_UNPRICED} WHERE charges.line IN (SELECT value FROM json_each(?))",  # noqa: S608
        (orjson.dumps(list(lines)).decode(),),
    ).fetchall()
    return _settlements(rows)


def settled(
    connection: sqlite3.Connection, prediction_ids: Iterable[str]
) -> tuple[Settlement, ...]:
    """The charges of these predictions, as far as they have one."""
    rows = connection.execute(
        f"{_PRICED} WHERE attempts.prediction_id IN (SELECT value FROM json_each(?))",  # noqa: S608
        (orjson.dumps(list(prediction_ids)).decode(),),
    ).fetchall()
    return _settlements(rows)


def last(connection: sqlite3.Connection, account: str) -> Reconciliation | None:
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


def write(connection: sqlite3.Connection, made: Reconciliation) -> None:
    """A pass, with the count of what it found."""
    found = {kind.value: made.found.get(kind, 0) for kind in Mismatch}
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
    oldest = microseconds(made.ended_at - KEPT)
    connection.execute("DELETE FROM reconciliations WHERE begun_us < ?", (oldest,))
    connection.execute("DELETE FROM discrepancies WHERE found_us < ?", (oldest,))


def findings(connection: sqlite3.Connection, since: datetime, limit: int) -> Findings:
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
    return Findings(
        _pass(row) if row else None,
        matched,
        {Mismatch(kind): number for kind, number in counts},
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
            None if case.made_at is None else microseconds(case.made_at),
        ),
    )
    return written.rowcount == 1


def _settlements(rows: Sequence[Any]) -> tuple[Settlement, ...]:
    return tuple(_settlement(*row) for row in rows)


def _settlement(*row: Any) -> Settlement:
    line, prediction, attempt, generation, ordinal, tenant, model, *rest = row
    opened, settled_at, nanos, outputs, price = rest
    return Settlement(
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
        {Mismatch(kind): number for kind, number in orjson.loads(found).items()},
    )


def _case(row: Any) -> Discrepancy:
    kind, prediction_id, model, found, *of_charge, ledger, upstream, made = row
    generation, ordinal, tenant = of_charge
    made_at = None if made is None else _moment(made)
    return Discrepancy(
        Mismatch(kind),
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
