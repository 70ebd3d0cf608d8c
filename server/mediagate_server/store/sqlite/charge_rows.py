"""Rows of charges: inserted with the ledger's settled lines, summed in SQL."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from mediagate_server.store.charge_queries import (
    Charge,
    ChargeFilter,
    ChargePosition,
    ChargeTotal,
    GroupBy,
    UsageTotals,
)
from mediagate_server.store.records import (
    Attempt,
    ChargeBasis,
    Cost,
    CostState,
    Generation,
    LedgerEntry,
    LedgerEntryKind,
    Purpose,
    Usage,
)
from mediagate_server.store.sqlite.batch_insert import RowBatch, StatementKind
from mediagate_server.store.sqlite.generation_rows import microseconds

_GROUPS: Final = {
    GroupBy.TENANT: "tenant",
    GroupBy.MODEL: "model",
    GroupBy.MODALITY: "modality",
    GroupBy.LABEL: "coalesce((SELECT label.value FROM json_each(charges.labels) AS label"
    " WHERE label.key = ?), '')",
    GroupBy.DAY: "date(settled_us / 1000000, 'unixepoch')",
    GroupBy.TIER: "tier",
    GroupBy.PRICE_DATE: "price_as_of",
}
_USAGE: Final = (
    "input_tokens",
    "output_tokens",
    "input_characters",
    "images",
    "media_nanos",
    "run_nanos",
)
_HALF: Final = 2**32
_SUM: Final = f"sum({{0}} / {_HALF}) {{1}}, sum({{0}} % {_HALF}) {{1}}"
"""Sums in halves: SQLite fails on a sum over 64 bits, for which one absurd amount is enough."""
_NANOS: Final = 10**9
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NO_BASIS: Final = ChargeBasis(Usage())


def insert_charges(rows: RowBatch, generation: Generation, entries: Iterable[LedgerEntry]) -> None:
    """Insert a charge for each SETTLE among the entries of a generation."""
    for entry in entries:
        if entry.kind is LedgerEntryKind.SETTLE:
            attempt = next(a for a in generation.attempts if a.id == entry.attempt_id)
            rows.add(StatementKind.CHARGE, _row(generation, attempt, entry))


def _row(generation: Generation, attempt: Attempt, entry: LedgerEntry) -> tuple[object, ...]:
    charged = attempt.charged or _NO_BASIS
    used = charged.usage
    ended = attempt.completed_at or generation.completed_at or generation.created_at
    screened = attempt.purpose is Purpose.SCREEN
    return (
        generation.id,
        attempt.ordinal,
        generation.tenant,
        attempt.model,
        "safety" if screened else generation.modality,
        orjson.dumps(dict(generation.labels)).decode() if generation.labels else "{}",
        attempt.prediction_id,
        microseconds(ended),
        entry.amount_nanos,
        entry.state,
        entry.price_as_of,
        charged.tier,
        charged.outputs,
        used.input_tokens,
        used.output_tokens,
        used.input_characters,
        used.images,
        _nanos(used.media_seconds),
        _nanos(used.run_seconds),
        attempt.id,
    )


def sum_charges(
    connection: sqlite3.Connection,
    where: ChargeFilter,
    group_by: Sequence[GroupBy],
    label_key: str,
) -> tuple[ChargeTotal, ...]:
    """Totals by group, the most expensive first; none where there are no charges."""
    conditions, values = _conditions(where)
    groups = [_GROUPS[dimension] for dimension in group_by]
    keys = [label_key for dimension in group_by if dimension is GroupBy.LABEL]
    named = [f"g{number}" for number in range(len(groups))]
    selected = "".join(f"{group} AS {name}, " for group, name in zip(groups, named, strict=True))
    used = ", ".join(_SUM.format(column, "") for column in _USAGE)
    settled = _SUM.format("amount_nanos", "FILTER (WHERE state = 'settled')")
    assumed = _SUM.format("amount_nanos", "FILTER (WHERE state = 'assumed')")
    # Only fixed texts and question marks are joined here; every value is bound.
    rows = connection.execute(
        f"SELECT {selected}count(*) AS n, count(DISTINCT generation_id),"  # noqa: S608
        f" count(*) FILTER (WHERE state = 'unknown'), {settled}, {assumed}, {used}"
        f" FROM charges WHERE {' AND '.join(conditions)}"
        f"{' GROUP BY ' + ', '.join(named) if named else ' HAVING n > 0'}",
        (*keys, *values),
    ).fetchall()
    totals = [_total(row, len(groups)) for row in rows]
    return tuple(sorted(totals, key=lambda t: (-t.settled_nanos - t.assumed_nanos, t.group)))


def _total(row: Sequence[Any], depth: int) -> ChargeTotal:
    group, counts, halves = row[:depth], row[depth : depth + 3], row[depth + 3 :]
    settled, assumed, *used = map(_join_halves, halves[::2], halves[1::2])
    number, generations, unknown = counts
    return ChargeTotal(
        tuple(group), number, generations, settled or 0, assumed or 0, unknown, UsageTotals(*used)
    )


def _join_halves(high: int | None, low: int | None) -> int | None:
    """Join the halves of `_SUM`; None where there was nothing to sum."""
    return None if high is None or low is None else high * _HALF + low


def list_charges(
    connection: sqlite3.Connection, where: ChargeFilter, limit: int, after: ChargePosition | None
) -> tuple[Charge, ...]:
    """A page of charges, from below `after`."""
    conditions, values = _conditions(where)
    if after:
        conditions.append("(settled_us, line) < (?, ?)")
        values += [after.settled_us, after.line]
    rows = connection.execute(
        "SELECT settled_us, line, generation_id, ordinal, tenant, model, modality, amount_nanos,"  # noqa: S608
        f" state, price_as_of, labels, prediction_id, tier, {', '.join(_USAGE)}"
        f" FROM charges WHERE {' AND '.join(conditions)}"
        " ORDER BY settled_us DESC, line DESC LIMIT ?",
        (*values, limit),
    ).fetchall()
    return tuple(_charges(rows))


def _charges(rows: Iterable[Any]) -> Iterator[Charge]:
    for row in rows:
        settled_us, line, generation_id, ordinal, tenant, model, modality, nanos, *rest = row
        state, price_as_of, labels, prediction_id, tier, *used = rest
        yield Charge(
            ChargePosition(settled_us, line),
            generation_id,
            ordinal,
            tenant,
            model,
            modality,
            Cost(nanos, CostState(state), price_as_of),
            tier,
            UsageTotals(*used),
            _EPOCH + timedelta(microseconds=settled_us),
            orjson.loads(labels),
            prediction_id,
        )


def _conditions(where: ChargeFilter) -> tuple[list[str], list[object]]:
    conditions = ["1"]
    values: list[object] = []

    def require(condition: str, *parameters: object) -> None:
        conditions.append(condition)
        values.extend(parameters)

    if where.tenant:
        require("tenant = ?", where.tenant)
    if where.models:
        models = orjson.dumps(where.models).decode()
        require("model IN (SELECT value FROM json_each(?))", models)
    if where.modality:
        require("modality = ?", where.modality)
    for key, value in where.labels.items():
        require(
            "EXISTS (SELECT 1 FROM json_each(charges.labels) AS label"
            " WHERE label.key = ? AND label.value = ?)",
            key,
            value,
        )
    if where.settled_from:
        require("settled_us >= ?", microseconds(where.settled_from))
    if where.settled_before:
        require("settled_us < ?", microseconds(where.settled_before))
    return conditions, values


def _nanos(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * _NANOS)
