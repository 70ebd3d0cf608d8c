"""Thresholds of budgets: each is told once in its period, for each limit that there was."""

import contextlib
import sqlite3
from collections.abc import Sequence
from datetime import timedelta
from importlib.resources import files
from pathlib import Path

from mediagate_server.store.sqlite import SqliteStore
from tests.store_rows import ThresholdEvent, threshold_events

from .budget_records import accept, budget, opened, settle
from .records import NOON


async def spend(store: SqliteStore, name: str, cost: int) -> None:
    """A call that costs so much, whatever it was thought to cost."""
    await settle(store, await accept(store, name, 0), cost)


def facts(events: Sequence[ThresholdEvent]) -> list[tuple[int, int, int]]:
    """The limit of each, the percent of it, and what was spent then."""
    return [(event.limit_nanos, event.percent, event.spent_nanos) for event in events]


async def test_each_threshold_is_reported_once_per_period(tmp_path: Path) -> None:
    """By what is spent, in the commit that spends it."""
    bound = budget("b", 100, "day")
    async with opened(tmp_path, bound) as store:
        for name, cost in (("a", 49), ("b", 1), ("c", 1), ("d", 48), ("e", 1)):
            await settle(store, await accept(store, name, cost), cost)
        later = await accept(store, "f", 90, created_at=NOON + timedelta(days=1))
        await settle(store, later, 85)
        events = await threshold_events(store)
    seen = [(event.budget, event.span, event.percent, event.spent_nanos) for event in events]
    assert seen == [
        ("b", "2026-01-02", 50, 50),
        ("b", "2026-01-02", 80, 99),
        ("b", "2026-01-02", 100, 100),
        ("b", "2026-01-03", 50, 85),
        ("b", "2026-01-03", 80, 85),
    ]
    assert [event.sequence for event in events] == sorted({event.sequence for event in events})
    assert events[0].tenant == "local"
    assert events[0].limit_nanos == 100


async def test_a_raised_limit_has_its_own_thresholds(tmp_path: Path) -> None:
    """By a reload, as one is read at each commit; the old limit's are not told again."""
    bound = budget("b", 10)
    async with SqliteStore(tmp_path, budgets=lambda _: (bound,)) as store:
        await spend(store, "a", 10)
        bound = budget("b", 100)
        for name, cost in (("b", 39), ("c", 1), ("d", 1), ("e", 49)):
            await spend(store, name, cost)
        bound = budget("b", 10)
        await spend(store, "f", 1)
        bound = budget("b", 100)
        await spend(store, "g", 1)
        events = await threshold_events(store)
    assert facts(events) == [
        *((10, percent, 10) for percent in (50, 80, 100)),
        *((100, percent, spent) for percent, spent in ((50, 50), (80, 100), (100, 100))),
    ]
    assert [event.sequence for event in events] == sorted({event.sequence for event in events})


async def test_an_override_does_not_replace_the_budgets_own_thresholds(tmp_path: Path) -> None:
    """One that is lower for an hour is told of, and so is the budget itself after it; each once."""
    bound = budget("b", 100)
    async with opened(tmp_path, bound) as store:
        await store.override_budget("local", "b", 10, NOON + timedelta(hours=1))
        await spend(store, "a", 10)
        later = await accept(store, "b", 70, created_at=NOON + timedelta(hours=1))
        await settle(store, later, 70)
        await store.override_budget("local", "b", 10, NOON + timedelta(hours=2))
        await spend(store, "c", 1)
        events = await threshold_events(store)
    assert facts(events) == [
        *((10, percent, 10) for percent in (50, 80, 100)),
        *((100, percent, 80) for percent in (50, 80)),
    ]


def before_limits_counted(folder: Path) -> None:
    """A file of the schema of before, whose budget of 100 is at 60: 50 percent was told."""
    with contextlib.closing(sqlite3.connect(folder / "mediagate.sqlite3")) as file:
        steps = files("mediagate_server.store.sqlite").joinpath("migrations").iterdir()
        for step in sorted(steps, key=lambda path: path.name):
            if step.name < "0010":
                file.executescript(step.read_text())
        file.execute("INSERT INTO budget_use VALUES ('local', 'total', '', '', 60, 0)")
        file.execute(
            "INSERT INTO budget_crossings (sequence, tenant, budget, span, percent, spent_nanos,"
            " limit_nanos, crossed_us) VALUES (7, 'local', 'b', 'total', 50, 55, 100, 1000000)"
        )
        file.execute("PRAGMA user_version = 9")
        file.commit()


async def test_thresholds_reported_before_an_upgrade_are_not_repeated(tmp_path: Path) -> None:
    """It keeps its number and its limit; others count on from it."""
    before_limits_counted(tmp_path)
    async with opened(tmp_path, budget("b", 100)) as store:
        (old,) = await threshold_events(store)
        assert (old.sequence, old.tenant, old.budget, old.span) == (7, "local", "b", "total")
        assert facts([old]) == [(100, 50, 55)]
        assert old.crossed_us == 1_000_000
        await spend(store, "a", 30)
        assert facts(await threshold_events(store, 7)) == [(100, 80, 90)]
    async with opened(tmp_path, budget("b", 150)) as store:
        await spend(store, "b", 1)
        assert facts(await threshold_events(store)) == [
            (100, 50, 55),
            (100, 80, 90),
            (150, 50, 91),
        ]
