"""Changes by number, doubts, and predictions that are somebody's already."""

import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from mediagate_server.store.generations import PredictionAlreadyClaimed
from mediagate_server.store.records import (
    AttemptState,
    ChangeRange,
    Generation,
    GenerationFilter,
    State,
)
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.structs import replace
from tests.store.records import NOON, advance, generation_record, reservation


async def accepted(store: SqliteStore, *names: str, **changes: object) -> list[Generation]:
    """Generations of these names, accepted one after the other."""
    generations = [generation_record(name, **changes) for name in names]
    for generation in generations:
        assert isinstance(await store.accept(generation, reservation(generation), 0), int)
    return generations


async def test_every_change_gets_the_next_sequence_number(store: SqliteStore) -> None:
    """Of whatever generation; each is told as it stands, at its last number."""
    a, b = await accepted(store, "a", "b")
    assert await store.save(advance(a, State.RUNNING)) == 3
    assert await store.save(advance(b, State.FAILED)) == 4
    changes = await store.changed_since("local", GenerationFilter(), 0, 9)
    assert [(c.sequence, c.generation.id, c.generation.version) for c in changes] == [
        (3, "gen_a", 2),
        (4, "gen_b", 2),
    ]
    assert await store.changed_since("local", GenerationFilter(), 3, 9) == changes[1:]
    assert await store.changed_since("local", GenerationFilter(), 0, 1) == changes[:1]
    assert (
        await store.changed_since("local", GenerationFilter(states=(State.FAILED,)), 0, 9)
        == changes[1:]
    )
    assert await store.changed_since("another", GenerationFilter(), 0, 9) == ()
    assert await store.changed_since("local", GenerationFilter(), 4, 9) == ()


async def test_a_refused_write_does_not_break_the_sequence(store: SqliteStore) -> None:
    """Numbers only ever grow, whatever fails in between."""
    (a,) = await accepted(store, "a")
    stale = store.save(replace(a, version=7))
    good = store.save(advance(a, State.RUNNING))
    with pytest.raises(Exception, match="gen_a"):
        await stale
    number = await good
    assert number > 1
    (b,) = await accepted(store, "b")
    changes = await store.changed_since("local", GenerationFilter(), number, 9)
    assert [c.generation for c in changes] == [b]


async def test_sequence_numbers_continue_after_restart_and_deletion(tmp_path: Path) -> None:
    """What was deleted is missed: changes from before it cannot be told any more."""
    async with SqliteStore(tmp_path) as store:
        await accepted(store, "a", "b")
        assert await store.change_range() == ChangeRange(oldest=0, newest=2)
    other = sqlite3.connect(tmp_path / "mediagate.sqlite3", isolation_level=None)
    for table, column in (("request_ids", "generation_id"), ("generations", "id")):
        other.execute("DROP TRIGGER IF EXISTS ledger_loses_no_line")
        other.execute("DELETE FROM ledger WHERE attempt_id = 'att_b'")
        other.execute("DELETE FROM attempts WHERE generation_id = 'gen_b'")
        other.execute(f"DELETE FROM {table} WHERE {column} = 'gen_b'")  # noqa: S608
    other.close()
    async with SqliteStore(tmp_path) as store:
        assert await store.change_range() == ChangeRange(oldest=2, newest=2)
        c = generation_record("c")
        assert await store.accept(c, reservation(c), 0) == 3


async def test_unconfirmed_attempts_are_listed(store: SqliteStore) -> None:
    """Also of a generation that has ended; what is absent only while it may still turn up."""
    sure, unsure, absent = await accepted(store, "sure", "unsure", "absent")
    before = NOON - timedelta(hours=2)
    attempt = replace(generation_record("old").attempt, created_at=before)
    (old,) = await accepted(store, "old", created_at=before, attempts=(attempt,))
    await store.save(advance(sure, State.RUNNING, AttemptState.ACCEPTED))
    unsure = advance(unsure, State.UNCONFIRMED, AttemptState.UNCONFIRMED)
    absent = advance(absent, State.FAILED, AttemptState.ABSENT)
    for generation in (unsure, absent, advance(old, State.FAILED, AttemptState.ABSENT)):
        await store.save(generation)
    assert await store.list_unconfirmed() == (unsure,)
    assert await store.list_unconfirmed(NOON - timedelta(hours=1)) == (absent, unsure)
    assert len(await store.list_unconfirmed(NOON - timedelta(hours=3))) == 3


async def test_absence_is_timed_from_the_send(store: SqliteStore) -> None:
    """It counts from its send: upstream cannot have made it before."""
    before = NOON - timedelta(hours=2)
    attempt = replace(
        generation_record("waited").attempt, created_at=before, state=AttemptState.QUEUED
    )
    (waited,) = await accepted(store, "waited", created_at=before, attempts=(attempt,))
    sent = replace(attempt, state=AttemptState.SUBMITTING, sent_at=NOON)
    waited = replace(waited, version=2, attempts=(sent,))
    await store.save(waited)
    waited = advance(waited, State.FAILED, AttemptState.ABSENT)
    await store.save(waited)
    assert await store.list_unconfirmed(NOON) == (waited,)
    assert await store.list_unconfirmed(NOON + timedelta(seconds=1)) == ()


async def test_a_prediction_is_claimed_once(store: SqliteStore) -> None:
    """Of two that want it one is refused whole. Without a claim nothing is looked at."""
    a, b, c = await accepted(store, "a", "b", "c")
    adopted = advance(a, State.STARTING, AttemptState.ACCEPTED, "p1")
    await store.save(adopted, claims=("p1",))
    late = advance(b, State.STARTING, AttemptState.ACCEPTED, "p1")
    with pytest.raises(PredictionAlreadyClaimed):
        await store.save(late, claims=("p1",))
    assert await store.get("local", b.id) == b
    await store.save(advance(adopted, State.RUNNING), claims=("p1",))
    assert await store.claimed_predictions(("p1", "p2")) == {"p1"}
    assert await store.claimed_predictions(()) == frozenset()
    await store.save(advance(c, State.STARTING, AttemptState.ACCEPTED, "p1"))


async def test_generations_are_found_by_attempt_or_prediction_id(store: SqliteStore) -> None:
    """Whoever's it is: a webhook names no tenant."""
    (a,) = await accepted(store, "a", tenant="another")
    a = advance(a, State.STARTING, AttemptState.ACCEPTED, "p1")
    await store.save(a)
    assert await store.find_by_attempt("att_a") == a
    assert await store.find_by_attempt("att_none") is None
