"""Rows of budget usage, overrides and thresholds, within the caller's transaction."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mediagate_server.config.tenants import Budget
from mediagate_server.store.budgets import BudgetPeriod, BudgetUsage, period_of
from mediagate_server.store.records import LARGEST_NANOS
from mediagate_server.store.sqlite.generation_rows import microseconds

Key = tuple[str, str, str, str]
"""Primary key of a row: tenant, span, label key and value."""

_SUM_LEDGER: Final = """
    WITH attempt AS (
        SELECT max(CASE l.kind WHEN 'reserve' THEN l.amount_nanos END) AS reserved,
               max(CASE l.kind WHEN 'settle' THEN l.amount_nanos END) AS settled,
               max(l.kind = 'release') AS released
        FROM generations g
        JOIN attempts a ON a.generation_id = g.id
        JOIN ledger l ON l.attempt_id = a.id
        WHERE g.tenant = :tenant AND g.created_us >= :begins AND g.created_us < :ends
            AND (:key = '' OR EXISTS (SELECT 1 FROM json_each(g.labels) AS label
                                      WHERE label.key = :key AND label.value = :value))
        GROUP BY a.id
    )
    SELECT coalesce(sum(settled / 4294967296), 0), coalesce(sum(settled % 4294967296), 0),
           coalesce(sum(open / 4294967296), 0), coalesce(sum(open % 4294967296), 0)
    FROM (
        SELECT settled, CASE WHEN settled IS NULL AND NOT released THEN reserved END AS open
        FROM attempt
    )
"""


@dataclass(frozen=True, slots=True)
class BudgetRowKey:
    """Scope of a row: tenant, period of acceptance, and label; '': any label."""

    tenant: str
    span: BudgetPeriod
    label_key: str
    label_value: str

    @classmethod
    def of(cls, tenant: str, budget: Budget, span: BudgetPeriod) -> "BudgetRowKey":
        """The scope of a budget in a period."""
        key, value = budget.label or ("", "")
        return cls(tenant, span, key, value)

    @property
    def key(self) -> Key:
        """The row's primary key."""
        return self.tenant, self.span.name, self.label_key, self.label_value


def read_usage(connection: sqlite3.Connection, scope: BudgetRowKey) -> tuple[int, int] | None:
    """Spent and held nano-dollars of a row; None where there is no row yet."""
    row: tuple[int, int] | None = connection.execute(
        "SELECT spent_nanos, held_nanos FROM budget_use"
        " WHERE tenant = ? AND span = ? AND label_key = ? AND label_value = ?",
        scope.key,
    ).fetchone()
    return row


def sum_ledger(connection: sqlite3.Connection, scope: BudgetRowKey) -> tuple[int, int]:
    """Spent and held nano-dollars summed from the ledger, capped at what a row can hold.

    Summed in halves, as SQLite fails on a sum over 64 bits.
    """
    spent_high, spent, held_high, held = connection.execute(
        _SUM_LEDGER,
        {
            "tenant": scope.tenant,
            "begins": microseconds(scope.span.begins),
            "ends": microseconds(scope.span.ends),
            "key": scope.label_key,
            "value": scope.label_value,
        },
    ).fetchone()
    return (
        min(spent_high * 2**32 + spent, LARGEST_NANOS),
        min(held_high * 2**32 + held, LARGEST_NANOS),
    )


def create_row(connection: sqlite3.Connection, scope: BudgetRowKey) -> tuple[int, int]:
    """Insert a row with the sums of the ledger."""
    spent, held = sum_ledger(connection, scope)
    connection.execute(
        "INSERT INTO budget_use VALUES (?, ?, ?, ?, ?, ?)", (*scope.key, spent, held)
    )
    return spent, held


def find_rows(
    connection: sqlite3.Connection,
    tenant: str,
    spans: Sequence[BudgetPeriod],
    labels: Mapping[str, str],
) -> list[Key]:
    """All rows that a call with these labels counts in, with a budget now or not."""
    rows: list[Key] = [
        row
        for span in spans
        for row in connection.execute(
            "SELECT tenant, span, label_key, label_value FROM budget_use"
            " WHERE tenant = ? AND span = ?",
            (tenant, span.name),
        ).fetchall()
    ]
    return [row for row in rows if not row[2] or labels.get(row[2]) == row[3]]


def add_to_row(
    connection: sqlite3.Connection, key: Key, *, spent: int, held: int, limit: int | None = None
) -> bool:
    """Add to a row if the sum stays within `limit`. False, with nothing written, if not.

    One statement that checks and writes, so it is atomic against any other writer.
    """
    tenant, span, label_key, label_value = key
    # A sum beyond 64 bits would become a float; it stays at the most that a row holds.
    changed = connection.execute(
        "UPDATE budget_use SET spent_nanos = min(spent_nanos + :spent, :largest),"
        " held_nanos = min(held_nanos + :held, :largest)"
        " WHERE tenant = :tenant AND span = :span"
        " AND label_key = :label_key AND label_value = :label_value"
        " AND (:limit IS NULL OR spent_nanos + held_nanos + :spent + :held <= :limit)",
        {
            "spent": spent,
            "held": held,
            "tenant": tenant,
            "span": span,
            "label_key": label_key,
            "label_value": label_value,
            "limit": limit,
            "largest": LARGEST_NANOS,
        },
    )
    return changed.rowcount == 1


def record_threshold(
    connection: sqlite3.Connection, tenant: str, use: BudgetUsage, percent: int, now: datetime
) -> bool:
    """Insert a reached threshold. True for the first time in its span at this limit.

    One statement that checks and writes, as in `add_to_row`: only one insert succeeds.
    """
    inserted = connection.execute(
        "INSERT INTO budget_crossings (tenant, budget, span, percent, spent_nanos, limit_nanos,"
        " crossed_us) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            tenant,
            use.budget.name,
            use.span.name,
            percent,
            use.spent,
            use.limit,
            microseconds(now),
        ),
    )
    return inserted.rowcount == 1


def write_override(
    connection: sqlite3.Connection, tenant: str, budget: str, limit: int, expires: datetime
) -> None:
    """Upsert the override of a limit."""
    connection.execute(
        "INSERT INTO budget_overrides VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
        " SET limit_nanos = excluded.limit_nanos, expires_us = excluded.expires_us",
        (tenant, budget, limit, microseconds(expires)),
    )


def effective_limit(
    connection: sqlite3.Connection, tenant: str, budget: Budget, now: datetime
) -> int:
    """The limit in force: an unexpired override, or the configured limit."""
    row = connection.execute(
        "SELECT limit_nanos FROM budget_overrides"
        " WHERE tenant = ? AND budget = ? AND expires_us > ?",
        (tenant, budget.name, microseconds(now)),
    ).fetchone()
    return int(row[0]) if row else budget.limit_nanos


def read_usages(
    connection: sqlite3.Connection, tenant: str, budgets: Sequence[Budget], now: datetime
) -> tuple[BudgetUsage, ...]:
    """Usage of budgets in the current periods."""
    usages = []
    for budget in budgets:
        span = period_of(budget.period, now)
        scope = BudgetRowKey.of(tenant, budget, span)
        spent, held = read_usage(connection, scope) or sum_ledger(connection, scope)
        limit = effective_limit(connection, tenant, budget, now)
        usages.append(BudgetUsage(budget, span, limit, spent, held))
    return tuple(usages)
