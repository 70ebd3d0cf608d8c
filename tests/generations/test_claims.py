"""Whose predictions are: of one attempt each, asked at once or one after the other."""

import asyncio
from pathlib import Path

import pytest

from mediagate_server.errors import StoreUnavailable
from mediagate_server.generations import claims as room
from mediagate_server.generations.claims import Claims
from mediagate_server.replacing import replace
from mediagate_server.store.records import AttemptState, State
from mediagate_server.store.sqlite import SqliteStore
from tests.store.samples import made, moved, reservation


class Asked(SqliteStore):
    """A store that notes what it is asked about, and may be away."""

    asked = 0
    is_away = False

    async def claimed(self, prediction_ids: object) -> frozenset[str]:
        self.asked += 1
        if self.is_away:
            raise StoreUnavailable("away", retry_after=1.0)
        return await super().claimed(prediction_ids)  # type: ignore[arg-type]


async def has(store: SqliteStore, name: str, *predictions: str) -> None:
    """Let the store hold these, each of a generation of its own."""
    for prediction in predictions:
        one = made(f"{name}{prediction}")
        await store.accept(one, reservation(one), 0)
        await store.save(moved(one, State.STARTING, AttemptState.ACCEPTED, prediction))


async def test_a_new_id_is_known_to_be_new_without_asking(tmp_path: Path) -> None:
    """One that is stored is not; nor is one that was claimed since, and let go of."""
    async with Asked(tmp_path) as store:
        await has(store, "a", "old")
        claims = Claims(store)
        await claims.remember()
        assert await claims.claim("att_1", "new")
        assert await claims.claim("att_1", "new")
        assert not await claims.claim("att_2", "new")
        assert store.asked == 0
        assert not await claims.claim("att_1", "old")
        assert store.asked == 1
        await has(store, "b", "new")
        claims.release([replace(made("x").attempt, id="att_1", prediction_id="new")])
        assert not await claims.claim("att_2", "new")
        await has(store, "c", "seen")
        claims.saw("seen")
        assert not await claims.claim("att_2", "seen")


async def test_before_anything_is_known_the_store_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it holds more than is read."""
    monkeypatch.setattr(room, "_MOST", 1)
    async with Asked(tmp_path) as store:
        await has(store, "a", "p1", "p2")
        for claims in (Claims(store), Claims(store)):
            assert not await claims.claim("att_1", "p1")
            assert not await claims.claim("att_1", "p2")
            assert await claims.claim("att_1", "p3")
            await claims.remember()
            assert await claims.claim("att_1", "p4")
            assert not await claims.claim("att_2", "p4")
        assert store.asked == 8


async def test_what_could_not_be_looked_up_is_nobodys(tmp_path: Path) -> None:
    """Asked again, it may be claimed; meanwhile only one can."""
    async with Asked(tmp_path) as store:
        claims = Claims(store)
        store.is_away = True
        with pytest.raises(StoreUnavailable):
            await claims.claim("att_1", "p")
        store.is_away = False
        both = await asyncio.gather(claims.claim("att_1", "p"), claims.claim("att_2", "p"))
    assert list(both) == [True, False]


async def test_what_the_store_knows_as_anothers_is_not_held(tmp_path: Path) -> None:
    """A claim that the commit refused is given up: nothing of it stays for the process's life."""
    async with Asked(tmp_path) as store:
        claims = Claims(store)
        await claims.remember()
        assert await claims.claim("att_1", "taken")
        await has(store, "b", "taken")
        claims.give_up("att_2", "taken")
        assert not await claims.claim("att_2", "taken")
        claims.give_up("att_1", "taken")
        assert not claims._held
        assert not await claims.claim("att_1", "taken")
        assert not await claims.claim("att_2", "taken")
