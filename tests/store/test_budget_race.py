"""Eight processes race for a budget of 200 units: exactly 200 are admitted."""

import contextlib
from pathlib import Path

from mediagate_server.store.sqlite import budget_rows, connect, migrate

from . import budget_race
from .budget_race import SCOPE, TURNS, UNIT, UNITS, Take


def race_results(folder: Path, take: Take) -> tuple[int, tuple[int, int] | None, tuple[int, int]]:
    """How many were admitted, what the row says then, and what the ledger says."""
    path = folder / "race.sqlite3"
    with contextlib.closing(connect(path)) as connection:
        migrate(connection)
    admitted = budget_race.race(path, take)
    with contextlib.closing(connect(path)) as connection:
        row = budget_rows.read_usage(connection, SCOPE)
        return admitted, row, budget_rows.sum_ledger(connection, SCOPE)


def test_concurrent_accepts_never_exceed_the_budget(tmp_path: Path) -> None:
    """With all that an acceptance writes; the ledger has a line for each that was admitted."""
    admitted, row, ledger = race_results(tmp_path, budget_race.by_accepting)
    assert admitted == UNITS
    assert row == (0, UNITS * UNIT)
    assert ledger == (0, (UNITS - 1) * UNIT)  # The first unit is the race's own.


def test_a_single_update_statement_never_exceeds_the_budget(tmp_path: Path) -> None:
    """By itself, without a transaction around it."""
    admitted, row, _ = race_results(tmp_path, budget_race.by_statement)
    assert admitted == UNITS
    assert row == (0, UNITS * UNIT)


def test_read_then_write_exceeds_the_budget(tmp_path: Path) -> None:
    """The race is one: who looks and then writes overshoots in it."""
    admitted, row, _ = race_results(tmp_path, budget_race.naively)
    assert admitted > UNITS
    assert row == (0, admitted * UNIT)


def test_each_threshold_is_reported_by_exactly_one_writer(tmp_path: Path) -> None:
    """Of all who reach it at once, for each percent of each limit."""
    crossed, _, _ = race_results(tmp_path, budget_race.by_crossing)
    assert crossed - 1 == TURNS  # The first unit is the race's own.
