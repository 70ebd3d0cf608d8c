"""Who may write: a lock, a lease that outlives a pause, and an epoch that fences off the paused."""

import fcntl
import os
import sqlite3
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from mediagate_server.errors import StaleOwner, StoreUnavailable
from mediagate_server.store.records import Checkpoint, GenerationFilter, State
from mediagate_server.store.sqlite import DataFolderInUse, SqliteStore, connect
from mediagate_server.store.sqlite.connection import apply_settings
from tests.store.conftest import FakeMonotonicClock
from tests.store.records import NOON, advance, generation_record, reservation, settlement
from tests.store_rows import ledger_entries


async def test_a_second_process_is_refused_while_the_lease_is_valid(
    store: SqliteStore, tmp_path: Path
) -> None:
    """Two owners of one file would both believe that they alone may send; it says who and what."""
    with pytest.raises(DataFolderInUse, match=rf"\({os.getpid()}\).*MEDIAGATE_DATA_DIR"):
        async with SqliteStore(tmp_path):
            pass
    assert isinstance(
        await store.accept(generation_record("a"), reservation(generation_record("a")), 0), int
    )


async def test_a_paused_owner_is_fenced_after_its_lease_expires(
    tmp_path: Path, clock: FakeMonotonicClock
) -> None:
    """Everything that it still tries to write fails, nothing of it is there, and it is told."""
    first = generation_record("a")
    async with SqliteStore(tmp_path, clock=clock) as paused:
        await paused.accept(first, reservation(first), 0)
        clock.seconds += 14.9
        with pytest.raises(DataFolderInUse):
            await SqliteStore(tmp_path, clock=clock).__aenter__()
        clock.seconds += 0.2
        assert paused.lease_left() < 0
        async with SqliteStore(tmp_path, clock=clock) as successor:
            with pytest.raises(StaleOwner):
                await paused.save(advance(first, State.SUCCEEDED), settlement(first))
            for write in (
                paused.accept(generation_record("b"), reservation(generation_record("b")), 0),
                paused.save_checkpoint(first.id, Checkpoint(0, 1, "", "x")),
                paused.claim_webhook("w", NOON),
                paused.secret_key("k"),
            ):
                with pytest.raises(StaleOwner):
                    await write
            assert paused.lost.happened
            assert not successor.lost.happened
            assert await successor.list_unfinished() == (first,)
            assert await ledger_entries(successor, first.attempt.id) == reservation(first)
            assert (await successor.resumptions((first.id,)))[first.id].checkpoints == ()
            assert await successor.claim_webhook("w", NOON)
            await successor.save(advance(first, State.RUNNING))


async def test_a_successor_holds_its_own_lock(tmp_path: Path, clock: FakeMonotonicClock) -> None:
    """The paused one's lock proves nothing any more: only the successor's end frees the folder."""
    async with SqliteStore(tmp_path, clock=clock):
        clock.seconds += 16
        async with SqliteStore(tmp_path, clock=clock):
            with pytest.raises(DataFolderInUse):
                await SqliteStore(tmp_path, clock=clock).__aenter__()
        async with SqliteStore(tmp_path, clock=clock) as third:
            assert third.lease_left() == pytest.approx(15)


async def test_a_dead_owners_lease_is_taken_over_at_once(
    tmp_path: Path, clock: FakeMonotonicClock
) -> None:
    """Its lease has not run out, but the system has freed its lock."""
    epochs = []
    for _ in range(3):
        async with SqliteStore(tmp_path, clock=clock):
            with sqlite3.connect(tmp_path / "mediagate.sqlite3") as looking:
                epochs += looking.execute("SELECT epoch, expires FROM ownership").fetchall()
            looking.close()
    assert epochs == [(1, 1015.0), (2, 1015.0), (3, 1015.0)]


async def test_writes_renew_the_lease(tmp_path: Path, clock: FakeMonotonicClock) -> None:
    """Not before a quarter of it is over; then from the moment at which the commit began."""
    async with SqliteStore(tmp_path, clock=clock) as store:
        clock.seconds += 3
        await store.secret_key("a")
        assert store.lease_left() == pytest.approx(12)
        clock.seconds += 1
        await store.secret_key("a")
        assert store.lease_left() == pytest.approx(15)


async def test_the_writer_thread_renews_the_lease_without_writes(
    tmp_path: Path, clock: FakeMonotonicClock
) -> None:
    """By the writing thread itself, without a job and without the event loop."""
    renewed: list[float] = []

    class Watched(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if sql.startswith("UPDATE ownership SET expires"):
                renewed.append(parameters[0])
                clock.seconds += 4
            return super().execute(sql, parameters)

    def watched(path: Path) -> sqlite3.Connection:
        return apply_settings(_open(path, factory=Watched))

    async with SqliteStore(tmp_path, clock=clock, connect=watched) as store:
        clock.seconds += 4
        await store.secret_key("a")
        # Due again at once, with nothing to write; what follows waits in the same queue behind it.
        while len(renewed) < 3:
            await store.change_range()
    assert renewed[:3] == [1019.0, 1023.0, 1027.0]


async def test_a_lock_on_a_replaced_file_is_refused(
    tmp_path: Path, clock: FakeMonotonicClock
) -> None:
    """Between its lock and its transaction another one took over: both would own the folder."""

    class Late(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            if sql == "BEGIN IMMEDIATE":
                (tmp_path / "lock").rename(tmp_path / "lock.old")
                (tmp_path / "lock").write_text("1\n")
            return super().execute(sql, parameters)

    with pytest.raises(DataFolderInUse):
        await SqliteStore(
            tmp_path, clock=clock, connect=lambda path: apply_settings(_open(path, factory=Late))
        ).__aenter__()
    async with SqliteStore(tmp_path, clock=clock):
        pass


async def test_an_owner_paused_within_a_commit_is_not_taken_over(
    tmp_path: Path, clock: FakeMonotonicClock
) -> None:
    """It holds SQLite's own lock; the refusal says why."""
    async with SqliteStore(tmp_path, clock=clock):
        clock.seconds += 16
        stuck = connect(tmp_path / "mediagate.sqlite3")
        stuck.execute("BEGIN IMMEDIATE")
        with pytest.raises(DataFolderInUse, match="in the midst of a commit"):
            await SqliteStore(
                tmp_path, clock=clock, connect=lambda path: apply_settings(_open(path))
            ).__aenter__()
        stuck.close()


async def test_an_owner_without_a_lease_is_never_taken_over(
    tmp_path: Path, clock: FakeMonotonicClock
) -> None:
    """The first version has a lock and checks no epoch: it could write on."""
    database = connect(tmp_path / "mediagate.sqlite3")
    database.executescript(_first_schema())
    database.close()
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataFolderInUse):
            await SqliteStore(tmp_path, clock=clock).__aenter__()
    async with SqliteStore(tmp_path, clock=clock) as store:
        assert await store.list_unfinished() == ()


async def test_a_file_of_the_first_version_is_migrated(tmp_path: Path) -> None:
    """Its generations are numbered in the order in which they were made."""
    async with SqliteStore(tmp_path / "new") as store:
        for name in ("b", "a"):
            await store.accept(generation_record(name), reservation(generation_record(name)), 0)
    new = connect(tmp_path / "new" / "mediagate.sqlite3")
    old = connect(tmp_path / "mediagate.sqlite3")
    old.executescript(_first_schema())
    columns = "id, version, tenant, state, terminal, modality, model, labels, created_us, document"
    for row in new.execute(f"SELECT {columns} FROM generations"):  # noqa: S608
        old.execute(f"INSERT INTO generations ({columns}) VALUES (?,?,?,?,?,?,?,?,?,?)", row)  # noqa: S608
    new.close()
    old.close()
    async with SqliteStore(tmp_path) as store:
        changes = await store.changed_since("local", GenerationFilter(), 0, 9)
        assert [(c.sequence, c.generation.id) for c in changes] == [(1, "gen_a"), (2, "gen_b")]
        assert (
            await store.accept(generation_record("c"), reservation(generation_record("c")), 0) == 3
        )


async def test_callers_get_unavailable_after_ownership_is_lost() -> None:
    """They send the same again, and the new owner has it."""
    assert isinstance(StaleOwner(), StoreUnavailable)
    assert StaleOwner().failure.retry_after


def _open(path: Path, factory: type[sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
    return sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=0, factory=factory
    )


def _first_schema() -> str:
    step = files("mediagate_server.store.sqlite").joinpath("migrations/0001_first.sql").read_text()
    return f"{step} PRAGMA user_version = 1;"
