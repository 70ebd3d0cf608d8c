"""Charges as rows, held against sums that are made by hand: any groups, any filters, any pages."""

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, timedelta
from importlib.resources import files
from itertools import permutations
from pathlib import Path
from random import Random

import pytest

from mediagate_server.store.charge_queries import (
    Charge,
    ChargeFilter,
    ChargeTotal,
    GroupBy,
    UsageTotals,
)
from mediagate_server.store.records import (
    AttemptState,
    ChargeBasis,
    Cost,
    CostState,
    LedgerEntry,
    LedgerEntryKind,
    Purpose,
    State,
    Usage,
)
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.structs import replace

from .records import NOON, advance, generation_record, reservation

LABELS: tuple[dict[str, str], ...] = ({}, {"team": "a"}, {"team": "b", 'odd."key': "x"})
ALL = ChargeFilter()


async def settle(
    store: SqliteStore,
    name: str,
    nanos: int | None,
    state: CostState = CostState.SETTLED,
    at: datetime = NOON,
    charged: ChargeBasis | None = None,
    **facts: object,
) -> None:
    """A generation of one attempt, at its end."""
    model = str(facts.pop("charge_model", "a/b"))
    generation = generation_record(name, **facts)
    attempt = replace(generation.attempt, model=model)
    generation = replace(generation, attempts=(attempt,))
    await store.accept(generation, reservation(generation), 0)
    ended = advance(generation, State.SUCCEEDED, AttemptState.SUCCEEDED, f"p{name}")
    attempt = replace(ended.attempt, completed_at=at, charged=charged)
    line = LedgerEntry(attempt.id, LedgerEntryKind.SETTLE, nanos, state, "2026-01")
    await store.save(replace(ended, attempts=(attempt,)), (line,))


async def every_charge(store: SqliteStore, charge_filter: ChargeFilter, size: int) -> list[Charge]:
    """All pages."""
    charges: list[Charge] = []
    while page := await store.charges(charge_filter, size, charges[-1].at if charges else None):
        assert len(page) <= size
        charges += page
    return charges


def by_hand(
    charges: Sequence[Charge], group_by: Sequence[GroupBy]
) -> dict[tuple[str, ...], tuple[int, ...]]:
    """What the database should say of the same charges."""
    values = {
        GroupBy.TENANT: lambda charge: charge.tenant,
        GroupBy.MODEL: lambda charge: charge.model,
        GroupBy.MODALITY: lambda charge: charge.modality,
        GroupBy.LABEL: lambda charge: charge.labels.get("team", ""),
        GroupBy.DAY: lambda charge: charge.settled_at.date().isoformat(),
        GroupBy.TIER: lambda charge: charge.tier,
        GroupBy.PRICE_DATE: lambda charge: charge.cost.price_date,
    }
    groups: dict[tuple[str, ...], list[Charge]] = defaultdict(list)
    for charge in charges:
        groups[tuple(values[dimension](charge) for dimension in group_by)].append(charge)
    return {
        group: (
            len(members),
            sum(
                member.cost.nanos or 0
                for member in members
                if member.cost.state is CostState.SETTLED
            ),
            sum(
                member.cost.nanos or 0
                for member in members
                if member.cost.state is CostState.ASSUMED
            ),
            sum(member.cost.nanos is None for member in members),
            sum(member.used.output_tokens or 0 for member in members),
            sum(member.used.run_nanos or 0 for member in members),
        )
        for group, members in groups.items()
    }


def totals_by_group(totals: Sequence[ChargeTotal]) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Totals in the same form."""
    assert len({total.group for total in totals}) == len(totals)
    return {
        total.group: (
            total.charges,
            total.settled_nanos,
            total.assumed_nanos,
            total.unknown_charges,
            total.used.output_tokens or 0,
            total.used.run_nanos or 0,
        )
        for total in totals
    }


async def test_totals_equal_the_sums_of_single_charges(store: SqliteStore, seed: int) -> None:
    """Sixty charges of all kinds, grouped by every two dimensions and filtered in every way."""
    random = Random(seed)
    for number in range(60):
        state = random.choice((CostState.SETTLED, CostState.ASSUMED, CostState.UNKNOWN))
        tokens = random.choice((None, random.randrange(10**6)))
        usage = Usage(output_tokens=tokens, run_seconds=random.choice((None, 0.1, 1 / 3)))
        await settle(
            store,
            str(number),
            None if state is CostState.UNKNOWN else random.randrange(10**15),
            state,
            NOON + timedelta(hours=random.randrange(100), microseconds=random.randrange(10**6)),
            ChargeBasis(usage, tier=random.choice(("", "resolution is 720p"))),
            tenant=random.choice(("local", "acme")),
            modality=random.choice(("text", "video")),
            charge_model=random.choice(("a/b", "c/d", "e/f")),
            labels=random.choice(LABELS),
        )
    filters = (
        ALL,
        ChargeFilter(tenant="acme"),
        ChargeFilter(models=("a/b", "e/f", "nobody/nothing")),
        ChargeFilter(modality="video", labels={'odd."key': "x"}),
        ChargeFilter(labels={"team": "b", 'odd."key': "x"}),
        ChargeFilter(settled_from=NOON + timedelta(hours=20), settled_before=NOON + timedelta(50)),
        ChargeFilter(tenant="nobody"),
    )
    for charge_filter in filters:
        charges = await every_charge(store, charge_filter, random.randrange(1, 9))
        assert [charge.at for charge in charges] == sorted(
            (charge.at for charge in charges), key=position_of
        )[::-1]
        for group_by in ((), *permutations(GroupBy, 2)):
            totals = await store.totals(charge_filter, group_by, "team")
            assert totals_by_group(totals) == by_hand(charges, group_by)
            sums = [total.settled_nanos + total.assumed_nanos for total in totals]
            assert sums == sorted(sums, reverse=True)
    assert len(await every_charge(store, ALL, 1000)) == 60


def position_of(at: object) -> tuple[int, int]:
    return (at.settled_us, at.line)  # type: ignore[attr-defined]


async def test_time_ranges_include_their_start_and_exclude_their_end(store: SqliteStore) -> None:
    """To the microsecond."""
    tick = timedelta(microseconds=1)
    for number, at in enumerate((NOON - tick, NOON, NOON + tick)):
        await settle(store, str(number), 1, at=at)
    first, *_ = await store.totals(ChargeFilter(settled_from=NOON, settled_before=NOON + tick))
    assert first.charges == 1
    (charge,) = await store.charges(ChargeFilter(settled_from=NOON + tick), 9, None)
    assert (charge.prediction_id, charge.settled_at) == ("p2", NOON + tick)


async def test_only_settlements_are_charges(store: SqliteStore) -> None:
    """Neither what is held nor what was given back. What is settled after that is one."""
    generation = generation_record("one")
    await store.accept(generation, reservation(generation), 0)
    absent = advance(generation, State.FAILED, AttemptState.ABSENT)
    gone = LedgerEntry(generation.attempt.id, LedgerEntryKind.RELEASE, 0, CostState.SETTLED, "2026")
    await store.save(absent, (gone,))
    assert await store.totals(ALL) == ()
    charges = advance(absent, State.FAILED, AttemptState.SUCCEEDED, "p")
    line = LedgerEntry(generation.attempt.id, LedgerEntryKind.SETTLE, 7, CostState.SETTLED, "2026")
    await store.save(charges, (line,))
    (charge,) = await store.charges(ALL, 9, None)
    assert (charge.cost, charge.prediction_id) == (Cost(7, CostState.SETTLED, "2026"), "p")


async def test_a_screening_attempt_is_charged_as_safety(store: SqliteStore) -> None:
    """It counts as safety, and as the same generation."""
    generation = generation_record("both")
    screen = replace(generation.attempt, id="att_screen", purpose=Purpose.SCREEN, model="g/u")
    picture = replace(generation.attempt, id="att_picture", ordinal=2)
    generation = replace(generation, modality="image", attempts=(screen, picture))
    await store.accept(generation, (), 0)
    lines = tuple(
        LedgerEntry(name, LedgerEntryKind.SETTLE, nanos, CostState.SETTLED, "2026")
        for name, nanos in ((screen.id, 1), (picture.id, 5))
    )
    await store.save(replace(generation, version=2, state=State.SUCCEEDED), lines)
    totals = await store.totals(ALL, (GroupBy.MODALITY, GroupBy.MODEL))
    assert [(total.group, total.settled_nanos) for total in totals] == [
        (("image", "a/b"), 5),
        (("safety", "g/u"), 1),
    ]
    (total,) = await store.totals(ALL)
    assert (total.charges, total.generations) == (2, 1)


async def test_charges_are_append_only(store: SqliteStore, tmp_path: Path) -> None:
    """By nobody, as the rest of the ledger."""
    await settle(store, "one", 3)
    with closing(sqlite3.connect(tmp_path / "mediagate.sqlite3")) as connection:
        for statement in ("UPDATE charges SET amount_nanos = 1", "DELETE FROM charges"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)


async def test_a_migration_creates_charges_of_earlier_settlements(tmp_path: Path) -> None:
    """A file of an older server: brought up to date, it has the same charges."""
    usage = Usage(output_tokens=5, media_seconds=1.5, run_seconds=0.25)
    moments = (NOON, NOON.replace(microsecond=0), NOON.replace(microsecond=70))
    async with SqliteStore(tmp_path) as store:
        for number, at in enumerate(moments):
            await settle(store, str(number), 3, at=at, usage=usage, labels={"team": "a"})
        await settle(store, "unknown", None, CostState.UNKNOWN, NOON + timedelta(days=1))
    with closing(sqlite3.connect(tmp_path / "mediagate.sqlite3")) as connection:
        step = files("mediagate_server.store.sqlite") / "migrations" / "0004_charges.sql"
        connection.executescript(f"DROP TABLE charges; {step.read_text()}")
    async with SqliteStore(tmp_path) as store:
        charges = await every_charge(store, ALL, 9)
        assert [charge.settled_at for charge in charges[1:]] == sorted(moments, reverse=True)
        assert charges[0].cost == Cost(None, CostState.UNKNOWN, "2026-01")
        assert charges[0].used == UsageTotals()
        for charge in charges[1:]:
            assert charge.used == UsageTotals(
                output_tokens=5, media_nanos=1_500_000_000, run_nanos=250_000_000
            )
            assert charge.labels == {"team": "a"}
            assert charge.model == "a/b"
