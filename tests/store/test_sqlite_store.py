"""The SQLite store: one commit binds everything, stale owners cannot write."""

import asyncio
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mediagate_server.errors import Failure, Reason, StoreUnavailable, TooManyInFlight, Violation
from mediagate_server.store.charge_queries import ChargeFilter
from mediagate_server.store.generations import StaleWrite
from mediagate_server.store.records import (
    AttemptState,
    Checkpoint,
    Cost,
    CostState,
    GenerationFilter,
    LedgerEntry,
    LedgerEntryKind,
    ListPosition,
    Output,
    RequestBinding,
    State,
    StoredMedia,
    Usage,
)
from mediagate_server.store.sqlite import SqliteStore, generation_history
from mediagate_server.structs import replace
from tests.store.records import NOON, advance, generation_record, reservation, settlement
from tests.store_rows import ledger_entries


async def test_every_field_is_read_back(store: SqliteStore) -> None:
    """Every field, down to microseconds, violations and a cost that is not known."""
    first = generation_record("a", labels={"team": "x"}, seed=0)
    assert await store.accept(first, reservation(first), 0) == 1
    failure = Failure(Reason.INPUT_REJECTED, "no", {"k": "v"}, (Violation("input.a", "b"),), 1.5)
    last = replace(
        first,
        version=2,
        state=State.FAILED,
        cost=Cost(None, CostState.UNKNOWN),
        failure=failure,
        usage=Usage(input_tokens=0, run_seconds=0.25),
        output=Output(None, (StoredMedia("https://x/y.png", "image/png", NOON),)),
        completed_at=NOON,
        logs="line\n",
    )
    settled = LedgerEntry(first.attempt.id, LedgerEntryKind.SETTLE, None, CostState.UNKNOWN, "2026")
    await store.save(last, (settled,))
    assert await store.get("local", first.id) == last
    assert await ledger_entries(store, first.attempt.id) == (*reservation(first), settled)
    assert await store.get("another", first.id) is None


async def test_one_of_many_concurrent_requests_gets_the_request_id(store: SqliteStore) -> None:
    """Of many at once exactly one is bound; the rest learn whom it is bound to."""
    twins = [generation_record(str(n), request_id="same") for n in range(50)]
    outcomes = await asyncio.gather(*(store.accept(t, reservation(t), 0) for t in twins))
    (winner,) = (
        twin.id
        for twin, o in zip(twins, outcomes, strict=True)
        if not isinstance(o, RequestBinding)
    )
    assert {o.generation_id for o in outcomes if isinstance(o, RequestBinding)} == {winner}


async def test_the_in_flight_limit_is_never_exceeded(store: SqliteStore) -> None:
    """Counted in the commit that accepts; a terminal one makes room."""
    several = [generation_record(str(n)) for n in range(9)]
    outcomes = await asyncio.gather(
        *(store.accept(g, reservation(g), 3) for g in several), return_exceptions=True
    )
    assert sum(isinstance(o, TooManyInFlight) for o in outcomes) == 6
    accepted = next(g for g, o in zip(several, outcomes, strict=True) if isinstance(o, int))
    await store.save(replace(accepted, version=2, state=State.SUCCEEDED))
    late = generation_record("late")
    assert isinstance(await store.accept(late, reservation(late), 3), int)


async def test_only_the_next_version_can_be_written(store: SqliteStore) -> None:
    """Only the version after the stored one is taken, and nothing of the other is kept."""
    first = generation_record("a")
    await store.accept(first, reservation(first), 0)
    await store.save(replace(first, version=2, state=State.STARTING))
    settled = LedgerEntry(first.attempt.id, LedgerEntryKind.SETTLE, 1, CostState.SETTLED, "2026")
    with pytest.raises(StaleWrite):
        await store.save(replace(first, version=2, state=State.FAILED), (settled,))
    stored = await store.get("local", first.id)
    assert stored is not None
    assert stored.state is State.STARTING
    assert await ledger_entries(store, first.attempt.id) == reservation(first)


async def test_an_attempt_is_settled_once(store: SqliteStore) -> None:
    """A second settling of an attempt is refused with all that came with it."""
    first = generation_record("a")
    await store.accept(first, reservation(first), 0)
    settled = LedgerEntry(first.attempt.id, LedgerEntryKind.SETTLE, 1, CostState.SETTLED, "2026")
    await store.save(replace(first, version=2, state=State.RUNNING), (settled,))
    with pytest.raises(Exception, match="UNIQUE"):
        await store.save(replace(first, version=3, state=State.FAILED), (settled,))
    stored = await store.get("local", first.id)
    assert stored is not None
    assert stored.version == 2


async def test_a_released_request_id_can_be_bound_again(store: SqliteStore) -> None:
    """Where upstream took nothing the same request may be sent again."""
    first = generation_record("a", request_id="same")
    await store.accept(first, reservation(first), 0)
    await store.save(replace(first, version=2, state=State.FAILED), release_request_id=True)
    assert await store.find_binding("local", "same") is None
    second = generation_record("b", request_id="same")
    assert isinstance(await store.accept(second, reservation(second), 0), int)


async def test_pages_continue_after_the_last_item(store: SqliteStore) -> None:
    """Newest first, also among those of the same microsecond; filters hold."""
    for n in range(7):
        generation = generation_record(
            str(n), created_at=NOON + timedelta(microseconds=n // 2), labels={"n": str(n)}
        )
        await store.accept(generation, reservation(generation), 0)
    seen: list[str] = []
    after: ListPosition | None = None
    while page := await store.list_generations("local", GenerationFilter(), 2, after):
        seen += [g.id for g in page]
        after = ListPosition(page[-1].created_at, page[-1].id)
    assert seen == [f"gen_{n}" for n in (6, 5, 4, 3, 2, 1, 0)]
    (only,) = await store.list_generations("local", GenerationFilter(labels={"n": "3"}), 9, None)
    assert only.id == "gen_3"
    assert (
        await store.list_generations("local", GenerationFilter(labels={"n' OR 1": "3"}), 9, None)
        == ()
    )
    stored = await store.list_generations(
        "local",
        GenerationFilter(
            created_after=NOON + timedelta(microseconds=1), states=(State.SUBMITTING,)
        ),
        9,
        None,
    )
    assert len(stored) == 5


async def test_data_survives_a_restart(tmp_path: Path) -> None:
    """What was acknowledged is there when the file is opened again."""
    first = generation_record("a")
    async with SqliteStore(tmp_path) as opened:
        await opened.accept(first, reservation(first), 0)
    async with SqliteStore(tmp_path) as opened:
        assert await opened.list_unfinished() == (first,)


async def test_an_unwritable_database_is_store_unavailable(
    store: SqliteStore, tmp_path: Path
) -> None:
    """Nothing may be spent without a durable record: the caller gets STORE_UNAVAILABLE."""
    other = sqlite3.connect(tmp_path / "mediagate.sqlite3", isolation_level=None)
    other.execute("DROP TABLE request_ids")
    first = generation_record("a")
    with pytest.raises(StoreUnavailable):
        await store.accept(first, reservation(first), 0)
    other.close()


async def test_a_failing_job_does_not_affect_others_in_its_commit(
    store: SqliteStore,
) -> None:
    """All at once, in one commit: each has its own outcome, and what runs is counted right."""
    several = [generation_record(str(n)) for n in range(40)]
    await asyncio.gather(*(store.accept(g, reservation(g), 40) for g in several))
    # Every third writes its reservation again: a line that is there already.
    saves = [
        store.save(advance(g, State.SUCCEEDED), reservation(g) if n % 3 == 0 else settlement(g))
        for n, g in enumerate(several)
    ]
    outcomes = await asyncio.gather(*saves, return_exceptions=True)
    for n, (generation, outcome) in enumerate(zip(several, outcomes, strict=True)):
        stored = await store.get("local", generation.id)
        assert stored is not None
        if n % 3 == 0:
            assert isinstance(outcome, sqlite3.IntegrityError)
            assert stored == generation
            assert await ledger_entries(store, generation.attempt.id) == reservation(generation)
        else:
            assert isinstance(outcome, int)
            assert stored.state is State.SUCCEEDED
    running = sum(n % 3 == 0 for n in range(40))
    late = generation_record("late")
    with pytest.raises(TooManyInFlight) as raised:
        await store.accept(late, reservation(late), running)
    assert raised.value.failure.metadata == {"limit": str(running), "in_flight": str(running)}
    assert isinstance(await store.accept(late, reservation(late), running + 1), int)


async def test_a_job_that_raises_is_rolled_back_alone(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in the midst of a job: of it nothing is written, of the others in its commit all."""
    several = [generation_record(str(n)) for n in range(20)]

    def remember(*arguments: Any) -> None:
        if arguments[2] in several[::4]:
            raise KeyError("a bug")

    monkeypatch.setattr(generation_history, "insert_request", remember)
    outcomes = await asyncio.gather(
        *(
            store.accept(generation, reservation(generation), 0, request=b"asked")
            for generation in several
        ),
        return_exceptions=True,
    )
    for generation, outcome in zip(several, outcomes, strict=True):
        broke = generation in several[::4]
        assert isinstance(outcome, KeyError if broke else int)
        assert await store.get("local", generation.id) == (None if broke else generation)
        assert await ledger_entries(store, generation.attempt.id) == (
            () if broke else reservation(generation)
        )
    assert await store.in_flight("local") == 15


async def test_duplicate_request_ids_in_one_commit(store: SqliteStore) -> None:
    """Of those with one request_id the first is accepted; the others are told, and harm nobody."""
    several = [generation_record(str(n), request_id=f"request-{n % 10}") for n in range(40)]
    outcomes = await asyncio.gather(
        *(
            store.accept(g, reservation(g), 0, pending=g.id.encode(), reuse_key=g.request_id)
            for g in several
        )
    )
    changes = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert len(changes) == len(set(changes)) == 10
    for generation, outcome in zip(several, outcomes, strict=True):
        first = several[int(generation.request_id.removeprefix("request-"))]
        if generation is first:
            assert isinstance(outcome, int)
            assert await store.pending_input(generation.id) == generation.id.encode()
            assert await store.history.find_reusable("local", generation.request_id, NOON) == ()
        else:
            assert outcome == RequestBinding(first.id, "f")
            assert await store.get("local", generation.id) is None
            assert await ledger_entries(store, generation.attempt.id) == ()
    assert await store.in_flight("local") == 10


async def test_writes_of_one_generation_keep_their_order_within_a_commit(
    store: SqliteStore,
) -> None:
    """Accepted, moved, streamed, ended and bound anew, none of it awaited before the next."""
    generation = generation_record("a", request_id="same")
    accepted = asyncio.ensure_future(
        store.accept(generation, reservation(generation), 0, pending=b"x")
    )
    await asyncio.sleep(0)
    running = advance(generation, State.RUNNING, AttemptState.ACCEPTED, "p")
    ended = advance(running, State.FAILED)
    going = store.save(running)
    checkpoint_saved = store.save_checkpoint(generation.id, Checkpoint(0, 5, "1", "hello"))
    end = store.save(ended, settlement(generation), release_request_id=True)
    late = store.save_checkpoint(generation.id, Checkpoint(5, 9, "2", "late"))
    second = generation_record("b", request_id="same")
    again = asyncio.ensure_future(store.accept(second, reservation(second), 1))
    assert list(await asyncio.gather(accepted, going, end, again)) == [1, 2, 3, 4]
    await asyncio.gather(checkpoint_saved, late)
    assert await store.get("local", generation.id) == ended
    assert await ledger_entries(store, generation.attempt.id) == (
        *reservation(generation),
        *settlement(generation),
    )
    assert await store.find_binding("local", "same") == RequestBinding(second.id, "f")
    assert await store.pending_input(generation.id) is None
    assert (await store.resumptions((generation.id,)))[generation.id].checkpoints == ()
    (charge,) = await store.charges(ChargeFilter(), 9, None)
    assert (charge.generation_id, charge.prediction_id) == (generation.id, "p")


async def test_a_repeated_request_is_bound_despite_the_in_flight_limit(store: SqliteStore) -> None:
    """Whoever repeats a call adds nothing to what runs."""
    first = generation_record("a")
    await store.accept(first, reservation(first), 1)
    twin = generation_record("b", request_id=first.request_id)
    assert await store.accept(twin, reservation(twin), 1) == RequestBinding(first.id, "f")
    other = generation_record("c")
    with pytest.raises(TooManyInFlight):
        await store.accept(other, reservation(other), 1)


async def test_running_counts_are_restored_after_a_restart(tmp_path: Path) -> None:
    """By tenant, from the file."""
    async with SqliteStore(tmp_path) as opened:
        for name, tenant in (("a", "x"), ("b", "x"), ("c", "y")):
            generation = generation_record(name, tenant=tenant)
            await opened.accept(generation, reservation(generation), 0)
        await opened.save(advance(generation_record("b", tenant="x"), State.FAILED))
    async with SqliteStore(tmp_path) as opened:
        late = generation_record("d", tenant="x")
        with pytest.raises(TooManyInFlight):
            await opened.accept(late, reservation(late), 1)
        assert isinstance(await opened.accept(late, reservation(late), 2), int)
