"""What is erased by itself, and when."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from mediagate_server.errors import Failure, Reason, Violation
from mediagate_server.generations.dependencies import EngineDeps
from mediagate_server.generations.recovery.retention import (
    Retention,
    RetentionJob,
    erase_content,
    has_all_outputs,
)
from mediagate_server.media.media_store import storage_failed
from mediagate_server.store.port import Store
from mediagate_server.store.records import Generation, Output, State, StoredMedia
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.structs import replace
from tests.generations.no_keeper import NoKeeper
from tests.media.fake_clocks import JumpingClock
from tests.store.records import generation_record

DAY = 86_400.0


class MediaDouble(NoKeeper):
    """Remembers whose media were erased; fails while `broken`, and for what is `stuck`."""

    def __init__(self) -> None:
        self.erased: list[str] = []
        self.failed: list[str] = []
        self.broken = False
        self.stuck: set[str] = set()

    async def delete(self, generation_id: str) -> None:
        if self.broken or generation_id in self.stuck:
            self.failed.append(generation_id)
            raise storage_failed("away")
        self.erased.append(generation_id)


def surroundings(store: Store, media: MediaDouble, clock: Any) -> EngineDeps:
    """No upstream: none is asked."""
    nobody: Any = None
    return EngineDeps(store, nobody, nobody, media, clock=clock)


async def accept(store: SqliteStore, clock: JumpingClock, name: str, modality: str) -> Generation:
    """A generation that has ended with an output."""
    record = generation_record(name, created_at=clock.now(), modality=modality)
    await store.accept(record, (), 0, request=b"asked", reuse_key="like")
    ended = replace(record, version=2, state=State.SUCCEEDED, output=Output(text="said"))
    await store.save(ended)
    return ended


def _nobody(tenant: str) -> None:
    """Nobody watches."""


async def test_each_kind_of_data_expires_separately(tmp_path: Path) -> None:
    """Requests, texts and media; what runs still stays, whatever its age."""
    clock, media = JumpingClock(), MediaDouble()
    async with SqliteStore(tmp_path) as store:
        retention = Retention(requests=DAY, texts=2 * DAY, media=4 * DAY)
        lines: list[str] = []
        eraser = RetentionJob(surroundings(store, media, clock), lambda: retention, lines.append)
        text = await accept(store, clock, "text", "text")
        image = await accept(store, clock, "image", "image")
        running = generation_record("running", created_at=clock.now())
        await store.accept(running, (), 0)

        async def left() -> tuple[bool, bool, bool]:
            await eraser.erase_expired()
            records = [
                await store.get("local", generation.id) for generation in (text, image, running)
            ]
            assert records[2] == running
            return (
                await store.history.stored_request(text.id) is not None,
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
        assert media.erased == [text.id, image.id]
        assert lines == ["local"] * 2  # Those who watch the tenant's generations are to know.
        assert await eraser.erase_expired() == 0


async def test_zero_keeps_data_for_ever(tmp_path: Path) -> None:
    """0: nothing goes by itself."""
    clock, media = JumpingClock(), MediaDouble()
    async with SqliteStore(tmp_path) as store:
        eraser = RetentionJob(surroundings(store, media, clock), Retention, _nobody)
        record = await accept(store, clock, "1", "text")
        await clock.sleep(10_000 * DAY)
        assert await eraser.erase_expired() == 0
        assert await store.history.stored_request(record.id) == b"asked"


async def test_undeletable_media_are_retried(tmp_path: Path) -> None:
    """The record tells of them until they are gone."""
    clock, media = JumpingClock(), MediaDouble()
    async with SqliteStore(tmp_path) as store:
        eraser = RetentionJob(surroundings(store, media, clock), Retention, _nobody)
        record = await accept(store, clock, "1", "image")
        media.broken = True
        with pytest.raises(Exception, match="away"):
            await eraser.erase("local", record.id)
        assert await store.get("local", record.id) == record
        media.broken = False
        await eraser.erase("local", record.id)
        assert await store.get("local", record.id) == erase_content(record, clock.now())
        assert await store.history.find_reusable("local", "like", record.created_at) == ()


async def test_undeletable_data_does_not_block_others(tmp_path: Path) -> None:
    """However many there are and however old: each is tried once at each look, some are named."""
    clock, media = JumpingClock(), MediaDouble()
    async with SqliteStore(tmp_path) as store:
        eraser = RetentionJob(
            surroundings(store, media, clock), lambda: Retention(media=DAY), _nobody
        )
        # More than two pages of them, the second page within those of one moment.
        old = [await accept(store, clock, f"{n:03}", "image") for n in range(150)]
        await clock.sleep(1)
        old += [await accept(store, clock, f"{n:03}", "video") for n in range(150, 205)]
        await clock.sleep(1)
        newer = [await accept(store, clock, f"{n:03}", "image") for n in range(205, 208)]
        media.stuck = {generation.id for generation in old}
        await clock.sleep(DAY + 1)
        counts: list[int] = []
        for _ in range(2):
            media.failed.clear()
            with structlog.testing.capture_logs() as logs:
                counts.append(await eraser.erase_expired())
            assert media.failed == [generation.id for generation in old]
            named = [line for line in logs if "id" in line]
            assert [line["id"] for line in named] == [generation.id for generation in old[:20]]
            assert {line["cause"] for line in named} == {"away"}
            assert [line["count"] for line in logs if "count" in line] == [len(old)]
        assert counts == [len(newer), 0]
        assert media.erased == [generation.id for generation in newer]
        for generation in old:
            assert await store.get("local", generation.id) == generation
        media.stuck.clear()
        with structlog.testing.capture_logs() as logs:
            assert await eraser.erase_expired() == len(old)
        assert logs == []


async def test_a_concurrent_change_does_not_block_others(tmp_path: Path) -> None:
    """Its cost, say, between finding and erasing it: it goes the next time."""
    clock = JumpingClock()
    async with SqliteStore(tmp_path) as store:

        class Changing(MediaDouble):
            async def delete(self, generation_id: str) -> None:
                await super().delete(generation_id)
                if generation_id == first.id and len(self.erased) == 1:
                    await store.save(replace(first, version=3))

        media = Changing()
        eraser = RetentionJob(
            surroundings(store, media, clock), lambda: Retention(media=DAY), _nobody
        )
        first = await accept(store, clock, "1", "image")
        await clock.sleep(1)
        second = await accept(store, clock, "2", "image")
        await clock.sleep(DAY + 1)
        assert await eraser.erase_expired() == 1
        assert await store.get("local", second.id) == erase_content(second, clock.now())
        assert await store.get("local", first.id) == replace(first, version=3)
        assert await eraser.erase_expired() == 1
        assert await store.get("local", first.id) == erase_content(
            replace(first, version=3), clock.now()
        )


def test_deleted_records_hold_no_text() -> None:
    """Whatever field it stood in."""
    clock = JumpingClock()
    failure = Failure(Reason.RUN_FAILED, "word", {"word": "word"}, (Violation("word", "word"),))
    full = generation_record(
        "1",
        state=State.FAILED,
        parameters=({"requested": "word"},),
        output=Output(text="word", media=(StoredMedia("word", "a/b"),), value="word"),
        failure=failure,
        logs="word",
        fingerprint="word",
    )
    left = erase_content(full, clock.now())
    assert "word" not in str(left)
    assert left.failure is not None
    assert left.failure.reason is Reason.RUN_FAILED
    assert (left.version, left.labels, left.cost) == (full.version + 1, full.labels, full.cost)


def test_media_that_are_complete() -> None:
    """All media kept, or to be had from upstream still."""
    clock = JumpingClock()
    medium = StoredMedia("", "image/png", is_stored=True)
    linked = StoredMedia("https://x.example", "image/png", clock.now() + timedelta(hours=1))
    over = replace(linked, expires_at=clock.now())
    for media, expected in (
        ((), True),
        ((medium, linked), True),
        ((medium, over), False),
        ((StoredMedia("", "image/png"),), False),
    ):
        record = generation_record("1", state=State.SUCCEEDED, output=Output(media=media))
        assert has_all_outputs(record, clock.now()) is expected
