"""Jobs whose rows cannot be written: exactly those fail, whatever stands beside them in a batch."""

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mediagate_server.errors import StoreUnavailable, TooManyInFlight
from mediagate_server.store.generations import StaleWrite
from mediagate_server.store.records import (
    Checkpoint,
    Generation,
    GenerationFilter,
    LedgerEntry,
    RequestBinding,
    State,
)
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.store.sqlite.batch_insert import RowBatch, StatementKind
from mediagate_server.store.sqlite.connection import connect
from mediagate_server.store.sqlite.writer_cache import RECENT_BINDINGS
from mediagate_server.structs import replace
from tests.store.records import NOON, advance, generation_record, reservation, settlement
from tests.store_rows import ledger_entries

HUGE = 2**63
SURROGATE = "\ud800"


def run_sql(sql: str, *values: object) -> Callable[[RowBatch], object]:
    """A job that runs a statement after it has written something."""

    def job(rows: RowBatch) -> object:
        rows.flush().execute("INSERT INTO webhooks VALUES ('poison', 0)")
        return rows.flush().execute(sql, values).fetchall()

    return job


def put(kind: StatementKind, *row: object) -> Callable[[RowBatch], object]:
    """A job that puts down a row, which is written later."""
    return lambda rows: rows.add(kind, row)


def raise_(error: BaseException) -> Callable[[RowBatch], object]:
    """A job that has put a row down and then falls over."""

    def job(rows: RowBatch) -> object:
        rows.add(StatementKind.DELETE_PENDING, ("none",))
        raise error

    return job


POISONS: dict[str, Callable[[RowBatch], object]] = {
    "integer in a row": put(
        StatementKind.LEDGER_ENTRY, "att_none", "reserve", HUGE, "estimated", ""
    ),
    "integer in a statement": run_sql("SELECT ?", -HUGE - 1),
    "surrogate in a row": put(StatementKind.BINDING, "local", SURROGATE, "gen_none", "f"),
    "surrogate in a statement": run_sql("SELECT ?", SURROGATE),
    "no such type": put(StatementKind.PENDING, object(), "gen_none"),
    "not enough values": put(StatementKind.BINDING, "local"),
    "no such attempt": put(StatementKind.LEDGER_ENTRY, "att_none", "reserve", 1, "estimated", ""),
    "sum beyond 64 bits": run_sql(
        "SELECT sum(x) FROM (SELECT 9223372036854775807 AS x UNION SELECT 1)"
    ),
    "no JSON": run_sql("SELECT * FROM json_each('{')"),
    "too big a row": run_sql("SELECT zeroblob(2147483647) || 'x'"),
    "memory": raise_(MemoryError()),
    "value": raise_(ValueError("a word")),
    "recursion": raise_(RecursionError()),
    "end of an iterator": raise_(StopIteration()),
    "end of a task": raise_(asyncio.CancelledError()),
    "end of the process": raise_(SystemExit(3)),
    "stale": lambda rows: rows.add(
        StatementKind.NEXT_VERSION, (9, "running", 0, "a/b", "{}", 9, 0, "gen_none", 8)
    ),
}


@dataclass
class PoisonJob:
    """One of a batch; `generation` is what is durable afterwards, if it is a good one."""

    name: str
    job: Callable[[], Any]
    generation: Generation | None = None


@pytest.mark.parametrize("kind", POISONS)
async def test_a_poison_job_fails_alone(store: SqliteStore, kind: str) -> None:
    """First, in the midst and last of a batch."""
    generations = [generation_record(f"{n}") for n in range(3)]
    for position in range(4):
        jobs: list[Any] = [
            store.accept(generation, reservation(generation), 0) for generation in generations
        ]
        jobs.insert(position, store._writer.submit_rows(POISONS[kind]))
        outcomes = await asyncio.gather(*map(asyncio.ensure_future, jobs), return_exceptions=True)
        poisoned = outcomes.pop(position)
        assert isinstance(poisoned, Exception)
        assert not isinstance(poisoned, StoreUnavailable)
        assert all(isinstance(outcome, int) for outcome in outcomes), outcomes
        generations = [generation_record(f"{position}-{n}") for n in range(3)]
    assert len(await store.list_unfinished()) == 12


async def test_random_batches_lose_exactly_the_poison_jobs(tmp_path: Path, seed: int) -> None:
    """Accepts, saves and checkpoints among poison of every kind; all of it is there afterwards."""
    random = Random(seed)
    expected: dict[str, Generation] = {}
    lines: dict[str, tuple[LedgerEntry, ...]] = {}
    async with SqliteStore(tmp_path) as store:
        for number in range(60):
            attacks = batch(store, random, number, expected)
            random.shuffle(attacks)
            doing = [asyncio.ensure_future(attack.job()) for attack in attacks]
            outcomes = await asyncio.gather(*doing, return_exceptions=True)
            for attack, outcome in zip(attacks, outcomes, strict=True):
                failed = isinstance(outcome, Exception)
                assert failed is (attack.generation is None), (attack.name, outcome)
                assert not isinstance(outcome, StoreUnavailable), attack.name
                if generation := attack.generation:
                    expected[generation.id] = generation
                    end = settlement(generation) if generation.state.is_terminal else ()
                    lines[generation.id] = (*reservation(generation), *end)
    async with SqliteStore(tmp_path) as store:
        there = {
            stored.id: stored
            for stored in await store.list_generations("local", GenerationFilter(), 9_999, None)
        }
        assert there == expected
        for name, entries in lines.items():
            assert await ledger_entries(store, expected[name].attempt.id) == entries
        assert not await store.has_webhook("poison")


def batch(
    store: SqliteStore, random: Random, number: int, active: dict[str, Generation]
) -> list[PoisonJob]:
    """Some of each, poison among them."""
    attacks = [
        accepted(store, generation_record(f"{number}-{n}")) for n in range(random.randrange(1, 8))
    ]
    going = [generation for generation in active.values() if not generation.state.is_terminal]
    for generation in random.sample(going, min(len(going), random.randrange(6))):
        ended = advance(generation, random.choice([State.SUCCEEDED, State.FAILED]))
        attacks.append(PoisonJob("save", partial(store.save, ended, settlement(ended)), ended))
    attacks += [
        PoisonJob(kind, partial(store._writer.submit_rows, POISONS[kind]))
        for kind in random.sample(sorted(POISONS), random.randrange(4))
    ]
    names = [f"poison-{number}-{n}" for n in range(random.randrange(3))]
    return attacks + [poisonous_call(store, random, name) for name in names]


def accepted(store: SqliteStore, generation: Generation) -> PoisonJob:
    """A good call."""
    return PoisonJob(
        "accept", partial(store.accept, generation, reservation(generation), 0), generation
    )


def poisonous_call(store: SqliteStore, random: Random, name: str) -> PoisonJob:
    """A call of the port with a value that no row holds."""
    generation = generation_record(name)
    entry = reservation(generation)[0]
    bad, entries = generation, (entry,)
    match random.randrange(5):
        case 0:
            entries = (replace(entry, amount_nanos=HUGE),)
        case 1:
            bad = replace(generation, fingerprint=SURROGATE)
        case 2:
            bad = replace(generation, version=HUGE)
        case 3:
            bad = replace(generation, logs=SURROGATE)
        case _:
            bad = replace(generation, labels={"team": SURROGATE})
    return PoisonJob(name, partial(store.accept, bad, entries, 0))


async def test_a_poison_checkpoint_is_logged_once_and_harms_nothing(store: SqliteStore) -> None:
    """Nobody waits for it."""
    first = generation_record("a")
    await store.accept(first, reservation(first), 0)
    bad = store.save_checkpoint(first.id, Checkpoint(0, HUGE, "", "x"))
    good = store.save_checkpoint(first.id, Checkpoint(0, 1, "", "x"))
    with pytest.raises(OverflowError):
        await bad
    await good
    assert (await store.resumptions((first.id,)))[first.id].checkpoints == (
        Checkpoint(0, 1, "", "x"),
    )


async def test_a_failing_disk_fails_the_whole_batch(tmp_path: Path) -> None:
    """What the database says of itself is nobody's own fault."""
    async with SqliteStore(tmp_path) as store:
        first = generation_record("a")
        await store.accept(first, reservation(first), 0)

        def interrupted(rows: RowBatch) -> None:
            rows.flush().execute("INSERT INTO webhooks VALUES ('one', 0)")
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

        bad = store._writer.submit_rows(interrupted)
        with pytest.raises(StoreUnavailable):
            await store.save(advance(first, State.SUCCEEDED), settlement(first))
        with pytest.raises(StoreUnavailable):
            await bad
        await store.save(advance(first, State.SUCCEEDED), settlement(first))
        with pytest.raises(StaleWrite):
            await store.save(advance(first, State.SUCCEEDED))


class Traced:
    """Connections whose statements are noted."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    def connect(self, path: Path) -> sqlite3.Connection:
        """One more."""
        connection = connect(path)
        connection.set_trace_callback(self.statements.append)
        return connection

    def check_no_rollback(self) -> None:
        """No job was run twice."""
        assert not [
            statement
            for statement in self.statements
            if statement.startswith(("ROLLBACK", "SAVEPOINT"))
        ]


async def test_refusals_do_not_roll_back_a_batch(tmp_path: Path) -> None:
    """Of a tenant that runs all it may, and of many who erase the same, between others' calls."""
    traced = Traced()
    async with SqliteStore(tmp_path, connect=traced.connect) as store:
        full = generation_record("full", tenant="full")
        await store.accept(full, reservation(full), 1)
        ended = advance(generation_record("ended"), State.SUCCEEDED)
        await store.accept(generation_record("ended"), reservation(ended), 0)
        await store.save(ended, settlement(ended))
        jobs: list[Any] = []
        for n in range(30):
            generation = generation_record(f"{n}")
            jobs.append(store.accept(generation, reservation(generation), 0))
            refused = generation_record(f"more-{n}", tenant="full")
            jobs.append(store.accept(refused, reservation(refused), 1))
            jobs.append(store.history.erase(replace(ended, version=3, erased_at=NOON)))
        outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        assert all(isinstance(outcome, int) for outcome in outcomes[::3])
        assert {type(outcome) for outcome in outcomes[1::3]} == {TooManyInFlight}
        assert [outcome for outcome in outcomes[2::3] if outcome is None] == [None]
        assert {type(outcome) for outcome in outcomes[2::3]} == {type(None), StaleWrite}
    traced.check_no_rollback()


async def test_racing_repeats_do_not_roll_back_a_batch(tmp_path: Path) -> None:
    """A hundred calls of one request_id, in one batch and in later ones: nothing is taken back."""
    traced = Traced()
    async with SqliteStore(tmp_path, connect=traced.connect) as store:
        for time in range(3):
            racing = [generation_record(f"{n}-{time}", request_id="the same") for n in range(100)]
            others = [generation_record(f"other-{n}-{time}") for n in range(20)]
            outcomes = await asyncio.gather(
                *(
                    store.accept(generation, reservation(generation), 0)
                    for generation in (*racing, *others)
                )
            )
            bound = {outcome for outcome in outcomes[:100] if isinstance(outcome, RequestBinding)}
            assert bound == {RequestBinding("gen_0-0", "f")}
            assert all(isinstance(outcome, int) for outcome in outcomes[100:])
    traced.check_no_rollback()


async def test_bindings_evicted_from_the_cache_are_read_from_the_database(
    store: SqliteStore,
) -> None:
    """What the writing thread knows is bounded, and wrong of nothing that was taken back."""
    first = generation_record("first")
    await store.accept(first, reservation(first), 0)
    with pytest.raises(OverflowError):
        await store._writer.submit_rows(POISONS["integer in a row"])
    assert await store.accept(
        generation_record("b", request_id=first.request_id), (), 0
    ) == RequestBinding(first.id, "f")
    ended = advance(first, State.FAILED)
    await store.save(ended, settlement(first), release_request_id=True)
    again = generation_record("again", request_id=first.request_id)
    assert isinstance(await store.accept(again, reservation(again), 0), int)
    generations = [generation_record(f"{n}") for n in range(RECENT_BINDINGS + 1)]
    await asyncio.gather(
        *(store.accept(generation, reservation(generation), 0) for generation in generations)
    )
    assert len(store._cache._bindings) <= RECENT_BINDINGS
    late = generation_record("late", request_id=first.request_id, created_at=NOON)
    assert await store.accept(late, reservation(late), 0) == RequestBinding(again.id, "f")
