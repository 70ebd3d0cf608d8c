"""What every commit that reserves or settles does to budgets: it fits in, or nothing is written.

A call counts in the day and month in which it was accepted, whenever it ends; its later attempts do
too. Only growth is refused: what is closed in the same commit makes room first.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mediagate_server.config.tenants import Budget
from mediagate_server.errors import MediagateError
from mediagate_server.store.budgets import (
    THRESHOLDS,
    BudgetsOfTenant,
    BudgetUpdate,
    BudgetUsage,
    Reservation,
    matches_labels,
    period_of,
)
from mediagate_server.store.records import LARGEST_NANOS, Generation, LedgerEntry, LedgerEntryKind
from mediagate_server.store.sqlite import budget_rows
from mediagate_server.store.sqlite.budget_rows import BudgetRowKey, Key
from mediagate_server.store.sqlite.generation_rows import list_entries
from mediagate_server.store.sqlite.writer_cache import Written
from mediagate_server.structs import replace

_PERIODS: Final = ("day", "month", "total")


@dataclass(frozen=True, slots=True)
class BudgetResult:
    """What became of some entries. With a `refusal` nothing may be written of them."""

    moved: tuple[BudgetUpdate, ...] = ()
    refusal: MediagateError | None = None


NO_BUDGET_CHANGES: Final = BudgetResult()


@dataclass(frozen=True, slots=True)
class _Sums:
    """What entries do together, in nano-dollars. `reserves`: some ask for more.

    `unpriced` is the model of an attempt that may cost nobody knows what.
    """

    spent: int = 0
    held: int = 0
    reserves: bool = False
    unpriced: str = ""

    @property
    def growth(self) -> Reservation:
        """How much more of a budget is used than before."""
        return Reservation(self.spent + self.held, self.unpriced)


class BudgetUpdater:
    """Called by the writing thread alone, within its transaction, before entries are written.

    What it was told within a transaction that was taken back is wrong: then it must `forget`.
    """

    def __init__(self, configured: BudgetsOfTenant) -> None:
        self._configured = configured
        self._tenants: set[str] | None = None

    def forget(self) -> None:
        """Ask the file anew which tenants have rows."""
        self._tenants = None

    def affects(self, written: Written, generation: Generation) -> bool:
        """Whether anything is to be entered for a generation."""
        return bool(self._of(generation)) or generation.tenant in self._with_rows(written)

    def apply(
        self,
        connection: sqlite3.Connection,
        generation: Generation,
        entries: tuple[LedgerEntry, ...],
    ) -> BudgetResult:
        """Let the entries count, or say why they may not."""
        tenant = generation.tenant
        budgets = self._of(generation)
        now = latest_event_time(generation)
        uses = [self._use(connection, generation, budget, now) for budget in budgets]
        sums = _sums(connection, generation, entries)
        over = [use for use in uses if sums.reserves and sums.growth.exceeds(use)]
        for use in over:
            if not use.budget.shadow:
                refusal = sums.growth.refusal(tenant, use)
                return BudgetResult((BudgetUpdate(tenant, use, refused=True),), refusal)
        self._move(connection, generation, uses, sums)
        moved = [
            replace(self._moved(connection, tenant, use, sums, now), refused=use in over)
            for use in uses
        ]
        return BudgetResult(tuple(moved))

    def _of(self, generation: Generation) -> list[Budget]:
        configured = self._configured(generation.tenant)
        return [one for one in configured if matches_labels(one, generation.labels)]

    def _with_rows(self, written: Written) -> set[str]:
        if self._tenants is None:
            rows = written().execute("SELECT DISTINCT tenant FROM budget_use").fetchall()
            self._tenants = {tenant for (tenant,) in rows}
        return self._tenants

    def _use(
        self, connection: sqlite3.Connection, generation: Generation, budget: Budget, now: datetime
    ) -> BudgetUsage:
        span = period_of(budget.period, generation.created_at)
        scope = BudgetRowKey.of(generation.tenant, budget, span)
        row = budget_rows.read_usage(connection, scope)
        if row is None:
            row = budget_rows.create_row(connection, scope)
            self._with_rows(lambda: connection).add(generation.tenant)
        limit = budget_rows.effective_limit(connection, generation.tenant, budget, now)
        return BudgetUsage(budget, span, limit, *row)

    def _move(
        self,
        connection: sqlite3.Connection,
        generation: Generation,
        uses: Iterable[BudgetUsage],
        sums: _Sums,
    ) -> None:
        limits: dict[Key, int] = {}
        if sums.reserves and sums.growth.nanos > 0:
            for use in uses:
                if not use.budget.shadow:
                    key = BudgetRowKey.of(generation.tenant, use.budget, use.span).key
                    limits[key] = min(use.limit, limits.get(key, use.limit))
        spans = [period_of(period, generation.created_at) for period in _PERIODS]
        rows = budget_rows.find_rows(connection, generation.tenant, spans, generation.labels)
        for key in rows:
            fits = budget_rows.add_to_row(
                connection, key, spent=sums.spent, held=sums.held, limit=limits.get(key)
            )
            if not fits:
                raise AssertionError("another writer moved a budget within our transaction")

    def _moved(
        self,
        connection: sqlite3.Connection,
        tenant: str,
        use: BudgetUsage,
        sums: _Sums,
        now: datetime,
    ) -> BudgetUpdate:
        use = replace(
            use,
            spent=min(use.spent + sums.spent, LARGEST_NANOS),
            held=min(use.held + sums.held, LARGEST_NANOS),
        )
        reached = (
            percent
            for percent in THRESHOLDS
            if sums.spent > 0 and use.limit > 0 and 100 * use.spent >= percent * use.limit
        )
        crossed = [
            one
            for one in reached
            if budget_rows.record_threshold(connection, tenant, use, one, now)
        ]
        return BudgetUpdate(tenant, use, tuple(crossed))


def latest_event_time(generation: Generation) -> datetime:
    """The time of the newest thing that its attempts know of."""
    times = [attempt.completed_at or attempt.created_at for attempt in generation.attempts]
    return max(generation.created_at, *times)


def _sums(
    connection: sqlite3.Connection, generation: Generation, entries: tuple[LedgerEntry, ...]
) -> _Sums:
    sums = _Sums()
    for number, entry in enumerate(entries):
        amount = entry.amount_nanos
        if entry.kind is LedgerEntryKind.RESERVE:
            known = amount is not None
            model = "" if known else _model(generation, entry.attempt_id)
            sums = replace(
                sums,
                held=sums.held + (amount or 0),
                reserves=True,
                unpriced=sums.unpriced or model,
            )
            continue
        before = (
            *list_entries(connection, entry.attempt_id),
            *(one for one in entries[:number] if one.attempt_id == entry.attempt_id),
        )
        if amount is not None:
            # What ended without a known cost may have cost all that was held: it stays held.
            sums = replace(sums, held=sums.held - _still_held(before), spent=sums.spent + amount)
    return sums


def _still_held(before: Iterable[LedgerEntry]) -> int:
    """What an attempt holds by these lines."""
    held = 0
    for entry in before:
        if entry.kind is LedgerEntryKind.RESERVE:
            held = entry.amount_nanos or 0
        elif entry.amount_nanos is not None:
            held = 0
    return held


def _model(generation: Generation, attempt_id: str) -> str:
    return next(one.model for one in generation.attempts if one.id == attempt_id)
