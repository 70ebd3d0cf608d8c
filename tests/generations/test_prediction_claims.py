"""Whose predictions are: of one attempt each, asked at once or one after the other."""

import asyncio
from pathlib import Path

import pytest

from mediagate_server.errors import StoreUnavailable
from mediagate_server.generations.execution.prediction_claims import PredictionClaims
from mediagate_server.store.generations import PredictionAlreadyClaimed
from mediagate_server.store.records import AttemptState, State
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.structs import replace
from tests.store.records import advance, generation_record, reservation


class QueriedStore(SqliteStore):
    """A store that notes what it is asked about, and may be away."""

    requests = 0
    is_away = False

    async def claimed_predictions(self, prediction_ids: object) -> frozenset[str]:
        self.requests += 1
        if self.is_away:
            raise StoreUnavailable("away", retry_after=1.0)
        return await super().claimed_predictions(prediction_ids)  # type: ignore[arg-type]


async def has(store: SqliteStore, name: str, *predictions: str) -> None:
    """Let the store hold these, each of a generation of its own."""
    for prediction in predictions:
        generation = generation_record(f"{name}{prediction}")
        await store.accept(generation, reservation(generation), 0)
        await store.save(advance(generation, State.STARTING, AttemptState.ACCEPTED, prediction))


async def test_a_prediction_belongs_to_its_first_claimant(tmp_path: Path) -> None:
    """Whether it is on its way to the store, or there, also from an earlier process."""
    async with QueriedStore(tmp_path) as store:
        await has(store, "a", "old")
        claims = PredictionClaims(store)
        assert not await claims.claim("att_1", "old")
        assert await claims.claim("att_1", "new")
        assert await claims.claim("att_1", "new")
        assert not await claims.claim("att_2", "new")
        assert store.requests == 2
        assert list(claims.pending) == ["new"]
        await has(store, "b", "new")
        claims.forget([replace(generation_record("x").attempt, id="att_1", prediction_id="new")])
        assert not list(claims.pending)
        assert not await claims.claim("att_2", "new")


async def test_one_of_two_concurrent_claims_succeeds(tmp_path: Path) -> None:
    """The other one is turned away before the store has answered the first."""
    async with QueriedStore(tmp_path) as store:
        claims = PredictionClaims(store)
        both = await asyncio.gather(claims.claim("att_1", "p"), claims.claim("att_2", "p"))
        assert list(both) == [True, False]
        assert store.requests == 1
        assert await claims.claim("att_1", "p")


async def test_a_claim_is_held_while_its_commit_is_pending(tmp_path: Path) -> None:
    """A batch that the writer has not committed is seen by no look-up: memory knows it."""
    async with QueriedStore(tmp_path) as store:
        generation = generation_record("a")
        await store.accept(generation, reservation(generation), 0)
        claims = PredictionClaims(store)
        assert await claims.claim("att_1", "p")
        written = store.save(advance(generation, State.STARTING, AttemptState.ACCEPTED, "p"))
        assert not await claims.claim("att_2", "p")
        await written
        assert not await claims.claim("att_2", "p")


async def test_an_unwritten_claim_is_released_on_restart_of_its_generation(tmp_path: Path) -> None:
    """After a bug it goes on from what is stored: its prediction is looked for, and found."""
    async with QueriedStore(tmp_path) as store:
        claims = PredictionClaims(store)
        for attempt, prediction in (("att_1", "lost"), ("att_2", "kept"), ("att_3", "other")):
            assert await claims.claim(attempt, prediction)
        first = replace(generation_record("x").attempt, id="att_1")
        claims.release_unrecorded([first, replace(first, id="att_2", prediction_id="kept")])
        assert list(claims.pending) == ["kept", "other"]
        assert await claims.claim("att_1", "lost")


async def test_a_claim_that_was_never_committed_ends_with_its_process(tmp_path: Path) -> None:
    """Killed in between: the next process may claim it, for whichever attempt it finds it to be."""
    async with QueriedStore(tmp_path) as store:
        assert await PredictionClaims(store).claim("att_1", "p")
    async with QueriedStore(tmp_path) as store:
        assert await PredictionClaims(store).claim("att_2", "p")


async def test_the_commit_of_a_claim_decides(tmp_path: Path) -> None:
    """What came to the store past the claims, after the look-up, refuses it."""
    async with QueriedStore(tmp_path) as store:
        late = generation_record("b")
        await store.accept(late, reservation(late), 0)
        assert await PredictionClaims(store).claim("att_1", "p")
        await has(store, "a", "p")
        adopted = advance(late, State.STARTING, AttemptState.ACCEPTED, "p")
        with pytest.raises(PredictionAlreadyClaimed):
            await store.save(adopted, claims=("p",))


async def test_a_failed_lookup_leaves_the_prediction_unclaimed(tmp_path: Path) -> None:
    """Asked again, it may be claimed; meanwhile only one can."""
    async with QueriedStore(tmp_path) as store:
        claims = PredictionClaims(store)
        store.is_away = True
        with pytest.raises(StoreUnavailable):
            await claims.claim("att_1", "p")
        store.is_away = False
        both = await asyncio.gather(claims.claim("att_1", "p"), claims.claim("att_2", "p"))
    assert list(both) == [True, False]


async def test_a_refused_claim_is_released(tmp_path: Path) -> None:
    """A claim that the commit refused is given up: nothing of it stays for the process's life."""
    async with QueriedStore(tmp_path) as store:
        claims = PredictionClaims(store)
        assert await claims.claim("att_1", "taken")
        await has(store, "b", "taken")
        claims.release_claim("att_2", "taken")
        assert not await claims.claim("att_2", "taken")
        claims.release_claim("att_1", "taken")
        assert not list(claims.pending)
        assert not await claims.claim("att_1", "taken")
        assert not await claims.claim("att_2", "taken")
