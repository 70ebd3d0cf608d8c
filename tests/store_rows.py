"""Rows of a store that the server writes and never asks for: ledger lines and thresholds."""

from dataclasses import dataclass
from typing import Any, cast

from mediagate_server.store.records import LedgerEntry
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.store.sqlite.generation_rows import list_entries


@dataclass(frozen=True, slots=True)
class ThresholdEvent:
    """A budget of which so many percent were spent; written once for each span and limit."""

    sequence: int
    tenant: str
    budget: str
    span: str
    percent: int
    spent_nanos: int
    limit_nanos: int
    crossed_us: int


async def ledger_entries(store: Any, attempt_id: str) -> tuple[LedgerEntry, ...]:
    """The ledger's lines for an attempt, in the order written."""
    reader = cast("SqliteStore", store)._reader
    return await reader.read(lambda c: list_entries(c, attempt_id))


async def threshold_events(store: SqliteStore, after: int = 0) -> tuple[ThresholdEvent, ...]:
    """Those with a sequence above `after`, in order."""
    rows = await store._reader.read(
        lambda c: c.execute(
            "SELECT sequence, tenant, budget, span, percent, spent_nanos, limit_nanos, crossed_us"
            " FROM budget_crossings WHERE sequence > ? ORDER BY sequence",
            (after,),
        ).fetchall()
    )
    return tuple(ThresholdEvent(*row) for row in rows)
