"""Budget enforcement in the commit: a reservation fits into all budgets, or is refused.

A call counts in the day and month in which it was accepted, whenever it ends; so do its later
attempts. Only growth is refused: entries closed in the same commit make room first.
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
from mediagate_server.store.sqlite.writer_cache import Flush
from mediagate_server.structs import replace

_PERIODS: Final = ("day", "month", "total")


@dataclass(frozen=True, slots=True)
class BudgetResult:
    """Result of applying entries to budgets. With a `refusal` they must not be written."""

    updates: tuple[BudgetUpdate, ...] = ()
    refusal: MediagateError | None = None


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums of entries, in nano-dollars. `reserves`: one of them is a reservation.

    `unpriced` is the model of an attempt whose price is unknown.
    """

    spent: int = 0
    held: int = 0
    reserves: bool = False
    unpriced: str = ""

    @property
    def growth(self) -> Reservation:
        """By how much the usage of a budget grows."""
        return Reservation(self.spent + self.held, self.unpriced)


class BudgetUpdater:
    """Applies entries to budget rows, in the writer thread's transaction, before their insert.

    After a rollback its cache of tenants is wrong: then `invalidate` it.
    """

    def __init__(self, configured: BudgetsOfTenant) -> None:
        self._configured = configured
        self._tenants: set[str] | None = None

    def invalidate(self) -> None:
        """Query again which tenants have rows."""
        self._tenants = None

    def affects(self, flush: Flush, generation: Generation) -> bool:
        """Whether a generation counts in any budget or row."""
        return bool(self._budgets_of(generation)) or generation.tenant in self._tenants_with_rows(
            flush
        )

    def apply(
        self,
        connection: sqlite3.Connection,
        generation: Generation,
        entries: tuple[LedgerEntry, ...],
    ) -> BudgetResult:
        """Add the entries to all rows, or return the refusal."""
        tenant = generation.tenant
        budgets = self._budgets_of(generation)
        now = latest_event_time(generation)
        usages = [self._usage(connection, generation, budget, now) for budget in budgets]
        sums = _sums(connection, generation, entries)
        exceeded = [use for use in usages if sums.reserves and sums.growth.exceeds(use)]
        for use in exceeded:
            if not use.budget.shadow:
                refusal = sums.growth.refusal(tenant, use)
                return BudgetResult((BudgetUpdate(tenant, use, refused=True),), refusal)
        self._add_to_rows(connection, generation, usages, sums)
        updates = [
            replace(self._update(connection, tenant, use, sums, now), refused=use in exceeded)
            for use in usages
        ]
        return BudgetResult(tuple(updates))

    def _budgets_of(self, generation: Generation) -> list[Budget]:
        configured = self._configured(generation.tenant)
        return [budget for budget in configured if matches_labels(budget, generation.labels)]

    def _tenants_with_rows(self, flush: Flush) -> set[str]:
        if self._tenants is None:
            rows = flush().execute("SELECT DISTINCT tenant FROM budget_use").fetchall()
            self._tenants = {tenant for (tenant,) in rows}
        return self._tenants

    def _usage(
        self, connection: sqlite3.Connection, generation: Generation, budget: Budget, now: datetime
    ) -> BudgetUsage:
        span = period_of(budget.period, generation.created_at)
        scope = BudgetRowKey.of(generation.tenant, budget, span)
        row = budget_rows.read_usage(connection, scope)
        if row is None:
            row = budget_rows.create_row(connection, scope)
            self._tenants_with_rows(lambda: connection).add(generation.tenant)
        limit = budget_rows.effective_limit(connection, generation.tenant, budget, now)
        return BudgetUsage(budget, span, limit, *row)

    def _add_to_rows(
        self,
        connection: sqlite3.Connection,
        generation: Generation,
        usages: Iterable[BudgetUsage],
        sums: _Sums,
    ) -> None:
        limits: dict[Key, int] = {}
        if sums.reserves and sums.growth.nanos > 0:
            for use in usages:
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

    def _update(
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
        new_thresholds = [
            percent
            for percent in reached
            if budget_rows.record_threshold(connection, tenant, use, percent, now)
        ]
        return BudgetUpdate(tenant, use, tuple(new_thresholds))


def latest_event_time(generation: Generation) -> datetime:
    """The latest time in a generation and its attempts."""
    times = [attempt.completed_at or attempt.created_at for attempt in generation.attempts]
    return max(generation.created_at, *times)


def _sums(
    connection: sqlite3.Connection, generation: Generation, entries: tuple[LedgerEntry, ...]
) -> _Sums:
    sums = _Sums()
    for number, entry in enumerate(entries):
        amount = entry.amount_nanos
        if entry.kind is LedgerEntryKind.RESERVE:
            model = "" if amount is not None else _model(generation, entry.attempt_id)
            sums = replace(
                sums,
                held=sums.held + (amount or 0),
                reserves=True,
                unpriced=sums.unpriced or model,
            )
            continue
        before = (
            *list_entries(connection, entry.attempt_id),
            *(earlier for earlier in entries[:number] if earlier.attempt_id == entry.attempt_id),
        )
        if amount is not None:
            # An end without a known cost may have cost the whole reservation: it stays held.
            sums = replace(
                sums, held=sums.held - _open_reservation(before), spent=sums.spent + amount
            )
    return sums


def _open_reservation(before: Iterable[LedgerEntry]) -> int:
    """The open reservation of an attempt, by its ledger lines."""
    held = 0
    for entry in before:
        if entry.kind is LedgerEntryKind.RESERVE:
            held = entry.amount_nanos or 0
        elif entry.amount_nanos is not None:
            held = 0
    return held


def _model(generation: Generation, attempt_id: str) -> str:
    return next(attempt.model for attempt in generation.attempts if attempt.id == attempt_id)
