"""Budgets as rows; each function works within the caller's transaction."""

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
"""Tenant, span, label and its value: the key of a row."""

_FROM_THE_LEDGER: Final = """
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
    """Whose calls a row is of, when they were accepted, and with which label; '': with any."""

    tenant: str
    span: BudgetPeriod
    label_key: str
    label_value: str

    @classmethod
    def of(cls, tenant: str, budget: Budget, span: BudgetPeriod) -> "BudgetRowKey":
        """What a budget bounds in a span."""
        key, value = budget.label or ("", "")
        return cls(tenant, span, key, value)

    @property
    def key(self) -> Key:
        """The row's primary key."""
        return self.tenant, self.span.name, self.label_key, self.label_value


def read_usage(connection: sqlite3.Connection, scope: BudgetRowKey) -> tuple[int, int] | None:
    """What is spent and held by its row; None where there is none yet."""
    row: tuple[int, int] | None = connection.execute(
        "SELECT spent_nanos, held_nanos FROM budget_use"
        " WHERE tenant = ? AND span = ? AND label_key = ? AND label_value = ?",
        scope.key,
    ).fetchone()
    return row


def sum_ledger(connection: sqlite3.Connection, scope: BudgetRowKey) -> tuple[int, int]:
    """The same, added up from every line of the ledger; at most what a row holds.

    In halves: the database gives up where a sum goes over 64 bits.
    """
    spent_high, spent, held_high, held = connection.execute(
        _FROM_THE_LEDGER,
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
    """The row, made from what the ledger holds by now."""
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
    """Every row that calls with these labels count in, whether a budget bounds it now or not."""
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
    """Add to a row, if the whole is within `limit` then. False, with nothing written, if not.

    One statement that looks and writes: it holds whoever else writes there.
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
    """Note that a threshold is reached. True for the first time in its span at this limit.

    A statement that looks and writes, as `move` is: of all who note the same, one is the first.
    """
    noted = connection.execute(
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
    return noted.rowcount == 1


def write_override(
    connection: sqlite3.Connection, tenant: str, budget: str, limit: int, expires: datetime
) -> None:
    """Another limit until then, in the place of one that was set before."""
    connection.execute(
        "INSERT INTO budget_overrides VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
        " SET limit_nanos = excluded.limit_nanos, expires_us = excluded.expires_us",
        (tenant, budget, limit, microseconds(expires)),
    )


def effective_limit(
    connection: sqlite3.Connection, tenant: str, budget: Budget, now: datetime
) -> int:
    """The limit in force: the configured one, or an override's that has not run out."""
    row = connection.execute(
        "SELECT limit_nanos FROM budget_overrides"
        " WHERE tenant = ? AND budget = ? AND expires_us > ?",
        (tenant, budget.name, microseconds(now)),
    ).fetchone()
    return int(row[0]) if row else budget.limit_nanos


def read_usages(
    connection: sqlite3.Connection, tenant: str, budgets: Sequence[Budget], now: datetime
) -> tuple[BudgetUsage, ...]:
    """How budgets stand in the spans that are running."""
    found = []
    for budget in budgets:
        span = period_of(budget.period, now)
        scope = BudgetRowKey.of(tenant, budget, span)
        spent, held = read_usage(connection, scope) or sum_ledger(connection, scope)
        limit = effective_limit(connection, tenant, budget, now)
        found.append(BudgetUsage(budget, span, limit, spent, held))
    return tuple(found)
