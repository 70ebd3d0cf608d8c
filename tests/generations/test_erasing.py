"""What is erased by itself, and when."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mediagate_server.errors import Failure, Reason, Violation
from mediagate_server.generations.doors import NoKeeper, Surroundings
from mediagate_server.generations.erasing import Eraser, Retention, erased, is_whole
from mediagate_server.outputs.port import storage_failed
from mediagate_server.replacing import replace
from mediagate_server.store.port import Store
from mediagate_server.store.records import Generation, Output, State, StoredMedia
from mediagate_server.store.sqlite import SqliteStore
from tests.outputs.clocks import Jumping
from tests.store.samples import made

DAY = 86_400.0


class Kept(NoKeeper):
    """Remembers whose media were erased; fails while `broken`."""

    def __init__(self) -> None:
        self.erased: list[str] = []
        self.broken = False

    async def delete(self, generation_id: str) -> None:
        if self.broken:
            raise storage_failed("away")
        self.erased.append(generation_id)


def surroundings(store: Store, keeper: Kept, clock: Any) -> Surroundings:
    """No upstream: none is asked."""
    nobody: Any = None
    return Surroundings(store, nobody, nobody, keeper=keeper, clock=clock)


async def accept(store: SqliteStore, clock: Jumping, name: str, modality: str) -> Generation:
    """A generation that has ended with an output."""
    record = made(name, created_at=clock.now(), modality=modality)
    await store.accept(record, (), 0, request=b"asked", likeness="like")
    ended = replace(record, version=2, state=State.SUCCEEDED, output=Output(text="said"))
    await store.save(ended)
    return ended


async def test_each_kind_goes_when_its_own_time_has_come(tmp_path: Path) -> None:
    """Requests, texts and media; what runs still stays, whatever its age."""
    clock, keeper = Jumping(), Kept()
    async with SqliteStore(tmp_path) as store:
        life = Retention(requests=DAY, texts=2 * DAY, media=4 * DAY)
        eraser = Eraser(surroundings(store, keeper, clock), lambda: life)
        text = await accept(store, clock, "text", "text")
        image = await accept(store, clock, "image", "image")
        running = made("running", created_at=clock.now())
        await store.accept(running, (), 0)

        async def left() -> tuple[bool, bool, bool]:
            await eraser.clean()
            records = [await store.get("local", one.id) for one in (text, image, running)]
            assert records[2] == running
            return (
                await store.past.request(text.id) is not None,
                records[0] is not None and records[0].output is not None,
                records[1] is not None and records[1].output is not None,
            )

        assert await left() == (True, True, True)
        await clock.sleep(DAY + 1)
        assert await left() == (False, True, True)
        await clock.sleep(DAY)
        assert await left() == (False, False, True)
        await clock.sleep(2 * DAY)
        assert await left() == (False, False, False)
        assert keeper.erased == [text.id, image.id]
        assert await eraser.clean() == 0


async def test_for_ever(tmp_path: Path) -> None:
    """0: nothing goes by itself."""
    clock, keeper = Jumping(), Kept()
    async with SqliteStore(tmp_path) as store:
        eraser = Eraser(surroundings(store, keeper, clock), Retention)
        record = await accept(store, clock, "1", "text")
        await clock.sleep(10_000 * DAY)
        assert await eraser.clean() == 0
        assert await store.past.request(record.id) == b"asked"


async def test_media_that_could_not_be_erased_are_asked_for_again(tmp_path: Path) -> None:
    """The record tells of them until they are gone."""
    clock, keeper = Jumping(), Kept()
    async with SqliteStore(tmp_path) as store:
        eraser = Eraser(surroundings(store, keeper, clock), Retention)
        record = await accept(store, clock, "1", "image")
        keeper.broken = True
        with pytest.raises(Exception, match="away"):
            await eraser.erase("local", record.id)
        assert await store.get("local", record.id) == record
        keeper.broken = False
        await eraser.erase("local", record.id)
        assert await store.get("local", record.id) == erased(record, clock.now())
        assert await store.past.alike("local", "like", record.created_at) == ()


def test_no_word_is_left_in_a_record() -> None:
    """Whatever field it stood in."""
    clock = Jumping()
    failure = Failure(Reason.RUN_FAILED, "word", {"word": "word"}, (Violation("word", "word"),))
    full = made(
        "1",
        state=State.FAILED,
        parameters=({"requested": "word"},),
        output=Output(text="word", media=(StoredMedia("word", "a/b"),), value="word"),
        failure=failure,
        logs="word",
        fingerprint="word",
    )
    left = erased(full, clock.now())
    assert "word" not in str(left)
    assert left.failure is not None
    assert left.failure.reason is Reason.RUN_FAILED
    assert (left.version, left.labels, left.cost) == (full.version + 1, full.labels, full.cost)


def test_what_is_whole() -> None:
    """All media kept, or to be had from upstream still."""
    clock = Jumping()
    kept = StoredMedia("", "image/png", kept=True)
    linked = StoredMedia("https://x.example", "image/png", clock.now() + timedelta(hours=1))
    over = replace(linked, expires_at=clock.now())
    for media, expected in (
        ((), True),
        ((kept, linked), True),
        ((kept, over), False),
        ((StoredMedia("", "image/png"),), False),
    ):
        record = made("1", state=State.SUCCEEDED, output=Output(media=media))
        assert is_whole(record, clock.now()) is expected
