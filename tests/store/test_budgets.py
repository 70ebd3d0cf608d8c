"""Budgets in the store: what fits in is accepted, what is settled is spent, and nothing else is."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mediagate_server.config import Budget
from mediagate_server.errors import BudgetExceeded, PriceUnknown
from mediagate_server.store.budgets import period_of
from mediagate_server.store.records import Generation, LedgerEntryKind, State
from mediagate_server.store.sqlite import SqliteStore, budget_rows, connect
from mediagate_server.store.sqlite.budget_rows import BudgetRowKey
from mediagate_server.structs import replace

from .budget_records import accept, budget, line, opened, settle
from .records import NOON, advance

Kind = LedgerEntryKind


async def stands(
    store: SqliteStore, *budgets: Budget, now: datetime = NOON
) -> list[tuple[int, int]]:
    """Spent and held of each."""
    uses = await store.budgets("local", budgets, now)
    return [(use.spent, use.held) for use in uses]


async def test_generations_are_accepted_up_to_the_exact_limit(tmp_path: Path) -> None:
    """And not one more; what was refused is not there, and its request_id is free."""
    bound = budget("b", 10)
    async with opened(tmp_path, bound) as store:
        await accept(store, "a", 4)
        with pytest.raises(BudgetExceeded) as raised:
            await accept(store, "b", 7)
        metadata = raised.value.failure.metadata
        assert (metadata["budget"], metadata["limit_usd_nanos"]) == ("b", "10")
        assert (metadata["reserved_usd_nanos"], metadata["spent_usd_nanos"]) == ("4", "0")
        assert (metadata["asked_usd_nanos"], metadata["period"]) == ("7", "total")
        assert await store.find_binding("local", "request-b") is None
        assert await store.get("local", "gen_b") is None
        await accept(store, "c", 6)
        assert await stands(store, bound) == [(0, 10)]


async def test_settling_releases_the_unused_reservation(tmp_path: Path) -> None:
    """A release frees all of it; a cost over what was held is spent all the same."""
    bound = budget("b", 10)
    async with opened(tmp_path, bound) as store:
        cheap, refused, dear = [await accept(store, name, 3) for name in "abc"]
        await settle(store, cheap, 1)
        await store.save(advance(refused, State.FAILED), line(refused, Kind.RELEASE, 0))
        await settle(store, dear, 9)
        assert await stands(store, bound) == [(10, 0)]
        with pytest.raises(BudgetExceeded):
            await accept(store, "d", 1)
        await accept(store, "free", 0)


async def test_an_unknown_cost_stays_reserved(tmp_path: Path) -> None:
    """Unknown is never zero: it may have cost all of it."""
    bound = budget("b", 10)
    async with opened(tmp_path, bound) as store:
        await settle(store, await accept(store, "a", 6), None)
        assert await stands(store, bound) == [(0, 6)]
        with pytest.raises(BudgetExceeded):
            await accept(store, "b", 5)


async def test_a_prediction_found_after_its_release_is_charged_once(tmp_path: Path) -> None:
    """What was held is not given back twice."""
    bound = budget("b", 10)
    async with opened(tmp_path, bound) as store:
        late = await accept(store, "a", 4)
        ended = advance(late, State.FAILED)
        await store.save(ended, line(late, Kind.RELEASE, 0))
        await store.save(advance(ended, State.FAILED), line(late, Kind.SETTLE, 3))
        assert await stands(store, bound) == [(3, 0)]


async def test_a_retry_must_fit_the_budget(tmp_path: Path) -> None:
    """What the old one gives back makes room first; a refusal leaves everything as it was."""
    bound = budget("b", 10)
    async with opened(tmp_path, bound) as store:
        first = await accept(store, "a", 6)
        await accept(store, "other", 4)
        second = replace(first.attempt, id="att_a2", ordinal=2)
        again = replace(advance(first, State.QUEUED), attempts=(first.attempt, second))
        closing = line(first, Kind.RELEASE, 0)
        with pytest.raises(BudgetExceeded):
            await store.save(again, (*closing, *line(again, Kind.RESERVE, 7)))
        assert await stands(store, bound) == [(0, 10)]
        assert await store.get("local", first.id) == first
        await store.save(again, (*closing, *line(again, Kind.RESERVE, 6)))
        assert await stands(store, bound) == [(0, 10)]


async def test_an_unpriced_generation_is_refused_under_an_enforced_budget(tmp_path: Path) -> None:
    """Under a budget that counts; a shadow counts, and lets pass."""
    async with opened(tmp_path / "a", budget("b", 10)) as store:
        with pytest.raises(PriceUnknown) as raised:
            await accept(store, "a", None)
        assert raised.value.failure.metadata["budget"] == "b"
        assert raised.value.failure.metadata["model"] == "a/b"
    async with opened(tmp_path / "b", budget("b", 10, shadow=True)) as store:
        await accept(store, "a", None)
        await accept(store, "b", 11)
        assert await stands(store, budget("b", 10)) == [(0, 11)]


async def test_a_budget_counts_by_its_label_and_period(tmp_path: Path) -> None:
    """By label and by period; a call is in the day of its acceptance, whenever it ends."""
    day, month = budget("day", 10, "day"), budget("month", 15, "month")
    team = budget("team", 3, "month", label="team=a")
    tomorrow = NOON + timedelta(days=1)
    async with opened(tmp_path, day, month, team) as store:
        a = await accept(store, "a", 2, labels={"team": "a"})
        await accept(store, "b", 8, labels={"team": "b", "other": "a"})
        with pytest.raises(BudgetExceeded, match="'day'"):
            await accept(store, "c", 1)
        await accept(store, "d", 1, created_at=tomorrow)
        with pytest.raises(BudgetExceeded, match="'team'"):
            await accept(store, "e", 2, created_at=tomorrow, labels={"team": "a"})
        with pytest.raises(BudgetExceeded, match="'month'"):
            await accept(store, "f", 5, created_at=tomorrow)
        await accept(store, "g", 10, created_at=NOON + timedelta(days=31))
        await settle(store, a, 1)
        assert await stands(store, day, month, team) == [(1, 8), (1, 9), (1, 0)]
        assert await stands(store, day, month, now=tomorrow) == [(0, 1), (1, 9)]


async def test_a_new_budget_counts_earlier_spend(tmp_path: Path) -> None:
    """And one that was taken away for a while has missed nothing."""
    bound = budget("b", 10)
    async with opened(tmp_path) as store:
        await settle(store, await accept(store, "a", 5), 4)
        running = await accept(store, "b", 3)
        assert await stands(store, bound) == [(4, 3)]
    async with opened(tmp_path, bound) as store:
        with pytest.raises(BudgetExceeded):
            await accept(store, "c", 4)
        await accept(store, "d", 1)
    async with opened(tmp_path) as store:
        await settle(store, running, 2)
        await accept(store, "e", 1)
    async with opened(tmp_path, bound) as store:
        assert await stands(store, bound) == [(6, 2)]


async def test_two_budgets_of_the_same_scope(tmp_path: Path) -> None:
    """A call counts once in what two budgets share; the narrower one refuses."""
    wide, narrow = budget("wide", 10), budget("narrow", 6)
    async with opened(tmp_path, wide, narrow) as store:
        await accept(store, "a", 6)
        with pytest.raises(BudgetExceeded, match="'narrow'"):
            await accept(store, "b", 1)
        assert await stands(store, wide, narrow) == [(0, 6), (0, 6)]


async def test_an_override_applies_until_it_expires(tmp_path: Path) -> None:
    """Up or down, by the time of the call; it outlives the process."""
    bound = budget("b", 10)
    async with opened(tmp_path, bound) as store:
        await store.override_budget("local", "b", 20, NOON + timedelta(hours=1))
        await accept(store, "a", 15)
    async with opened(tmp_path, bound) as store:
        assert (await store.budgets("local", [bound], NOON))[0].limit == 20
        with pytest.raises(BudgetExceeded):
            await accept(store, "b", 1, created_at=NOON + timedelta(hours=1))
        await store.override_budget("local", "b", 0, NOON + timedelta(hours=1))
        with pytest.raises(BudgetExceeded):
            await accept(store, "c", 1)


async def test_concurrent_accepts_in_one_commit(tmp_path: Path) -> None:
    """Hundreds at once: as many as fit, whatever they share a commit with."""
    bound = budget("b", 200)
    async with opened(tmp_path, bound) as store:
        names = [f"{number}" for number in range(500)]
        results = await asyncio.gather(
            *(accept(store, name, 1) for name in names), return_exceptions=True
        )
        accepted = [result for result in results if isinstance(result, Generation)]
        assert len(accepted) == 200
        assert all(isinstance(result, Generation | BudgetExceeded) for result in results)
        assert len({generation.id for generation in accepted}) == 200
        assert await stands(store, bound) == [(0, 200)]


@pytest.mark.parametrize(
    ("period", "moment", "name", "ends"),
    [
        ("day", datetime(2026, 2, 28, 23, 59, 59, 999999, UTC), "2026-02-28", (2026, 3, 1)),
        ("month", datetime(2026, 12, 31, 23, tzinfo=UTC), "2026-12", (2027, 1, 1)),
        ("month", datetime(2028, 2, 29, tzinfo=UTC), "2028-02", (2028, 3, 1)),
        ("total", NOON, "total", (9999, 12, 31)),
    ],
)
def test_period_boundaries_in_utc(
    period: str, moment: datetime, name: str, ends: Sequence[int]
) -> None:
    """In UTC, up to and without the next one's first moment."""
    span = period_of(period, moment)
    assert span.name == name
    assert (span.ends.year, span.ends.month, span.ends.day) == tuple(ends)
    assert span.begins <= moment < span.ends


async def test_budget_rows_equal_the_sums_of_the_ledger(tmp_path: Path) -> None:
    """After all of it: each row is the sum of the ledger's lines."""
    budgets = [budget("t", 10**6), budget("l", 10**6, "day", label="team=a")]
    async with opened(tmp_path, *budgets) as store:
        for number in range(60):
            labels = {"team": "a"} if number % 2 else {}
            generation = await accept(store, f"{number}", number, labels=labels)
            if number % 3:
                await settle(store, generation, None if number % 5 == 0 else 2 * number)
        usages = await stands(store, *budgets)
    connection = connect(tmp_path / "mediagate.sqlite3")
    for bound, uses in zip(budgets, usages, strict=True):
        scope = BudgetRowKey.of("local", bound, period_of(bound.period, NOON))
        assert budget_rows.read_usage(connection, scope) == uses
        assert budget_rows.sum_ledger(connection, scope) == uses
        assert uses[0] > 0
        assert uses[1] > 0
    connection.close()
