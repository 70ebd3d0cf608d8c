"""Processes that race for one budget on one file; run by test_budget_race.py.

The store's lease lets one process own a file. Here eight write to it regardless, so that what keeps
a budget is the statements themselves and nobody's manners.
"""

import multiprocessing
import sqlite3
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Final

from mediagate_server.config import Budget
from mediagate_server.store.budgets import BudgetUsage, period_of
from mediagate_server.store.records import CostState, LedgerEntry, LedgerEntryKind
from mediagate_server.store.sqlite import budget_rows, generation_rows
from mediagate_server.store.sqlite.batch_insert import RowBatch
from mediagate_server.store.sqlite.budget_rows import BudgetRowKey
from mediagate_server.store.sqlite.budget_updates import BudgetUpdater
from mediagate_server.store.sqlite.connection import apply_settings
from mediagate_server.structs import replace

from .records import NOON, generation_record

RACERS: Final = 8
UNITS: Final = 200
UNIT: Final = 1_000
TURNS: Final = UNITS // RACERS + 25
"""Of each racer: enough for one to take what the others leave."""
BUDGET: Final = Budget(name="b", period="total", limit_usd=Decimal(UNITS * UNIT).scaleb(-9))
SCOPE: Final = BudgetRowKey.of("local", BUDGET, period_of("total", NOON))

Take = Callable[[sqlite3.Connection, str, Barrier], bool]
"""Takes one unit under a name. True where it was admitted."""


def opened(path: Path) -> sqlite3.Connection:
    """A connection that waits for its turn."""
    return apply_settings(
        sqlite3.connect(path, isolation_level=None, timeout=60), synchronous="OFF"
    )


def reserved(name: str) -> tuple[LedgerEntry, ...]:
    """What one unit holds."""
    return (LedgerEntry(f"att_{name}", LedgerEntryKind.RESERVE, UNIT, CostState.ESTIMATED, "2026"),)


def by_accepting(connection: sqlite3.Connection, name: str, _: Barrier) -> bool:
    """As the store accepts a generation: looked at and written in one transaction."""
    books = BudgetUpdater(lambda _: (BUDGET,))
    generation = replace(generation_record(name), request_id=name)
    connection.execute("BEGIN IMMEDIATE")
    entered = books.apply(connection, generation, reserved(name))
    if entered.refusal is None:
        generation_rows.insert_generation(
            RowBatch(connection, immediate=True), generation, reserved(name), 1
        )
    connection.execute("COMMIT")
    return entered.refusal is None


def by_statement(connection: sqlite3.Connection, _name: str, _: Barrier) -> bool:
    """The one conditional statement, with no transaction around it."""
    return budget_rows.add_to_row(
        connection, SCOPE.key, spent=0, held=UNIT, limit=BUDGET.limit_nanos
    )


def by_crossing(connection: sqlite3.Connection, name: str, together: Barrier) -> bool:
    """No unit: all of them note at once that a threshold is reached, another one at each turn."""
    turn = int(name.split("-")[1])
    use = BudgetUsage(BUDGET, SCOPE.span, limit=UNIT * (1 + turn % 2), spent=UNIT)
    together.wait()
    return budget_rows.record_threshold(connection, "local", use, turn // 2, NOON)


def naively(connection: sqlite3.Connection, name: str, together: Barrier) -> bool:
    """Look, then write: what everybody does who keeps budgets wrong."""
    spent, held = budget_rows.read_usage(connection, SCOPE) or (0, 0)
    together.wait()
    if spent + held + UNIT > BUDGET.limit_nanos:
        return False
    return budget_rows.add_to_row(connection, SCOPE.key, spent=0, held=UNIT)


def race(path: Path, take: Take) -> int:
    """Let them race until every one has been refused; how many units were admitted in all.

    One unit is taken before, so that rounds of eight do not come out even.
    """
    # Forked from a server that has imported it all once, and has neither gRPC nor threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    together = context.Barrier(RACERS)
    results: SimpleQueue[int] = context.SimpleQueue()
    with closing(opened(path)) as connection:
        budget_rows.create_row(connection, SCOPE)
        budget_rows.add_to_row(connection, SCOPE.key, spent=0, held=UNIT, limit=BUDGET.limit_nanos)
    racers = [
        context.Process(target=_run, args=(path, take, together, results, number))
        for number in range(RACERS)
    ]
    for racer in racers:
        racer.start()
    admitted = 1 + sum(results.get() for _ in racers)
    for racer in racers:
        racer.join()
        assert racer.exitcode == 0
    return admitted


def _run(
    path: Path,
    take: Take,
    together: Barrier,
    results: "SimpleQueue[int]",
    number: int,
) -> None:
    """As many rounds as it takes until nothing can be left, whoever gets it."""
    connection = opened(path)
    admitted = 0
    together.wait()
    for turn in range(TURNS):
        admitted += take(connection, f"{number}-{turn}", together)
    connection.close()
    results.put(admitted)
