"""A store with budgets, and what is spent of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from mediagate_server.config import Budget
from mediagate_server.store.records import (
    CostState,
    Generation,
    LedgerEntry,
    LedgerEntryKind,
    State,
)
from mediagate_server.store.sqlite import SqliteStore

from .records import advance, generation_record


def budget(name: str, limit: int, period: str = "total", **more: Any) -> Budget:
    """A budget with its limit in nano-dollars."""
    usd = Decimal(limit).scaleb(-9)
    return Budget(name=name, period=period, limit_usd=usd, **more)  # type: ignore[arg-type]


@asynccontextmanager
async def opened(folder: Path, *budgets: Budget) -> AsyncIterator[SqliteStore]:
    """A store whose only tenant has these budgets."""
    async with SqliteStore(folder, budgets=lambda _: budgets) as store:
        yield store


def line(
    generation: Generation, kind: LedgerEntryKind, amount: int | None
) -> tuple[LedgerEntry, ...]:
    """One entry for its newest attempt."""
    state = CostState.UNKNOWN if amount is None else CostState.SETTLED
    return (LedgerEntry(generation.attempt.id, kind, amount, state, "2026"),)


async def accept(store: SqliteStore, name: str, amount: int | None, **changes: Any) -> Generation:
    """Accept a generation that reserves so much."""
    generation = generation_record(name, **changes)
    await store.accept(generation, line(generation, LedgerEntryKind.RESERVE, amount), 0)
    return generation


async def settle(store: SqliteStore, generation: Generation, amount: int | None) -> None:
    """End it at this cost."""
    await store.save(
        advance(generation, State.SUCCEEDED), line(generation, LedgerEntryKind.SETTLE, amount)
    )
