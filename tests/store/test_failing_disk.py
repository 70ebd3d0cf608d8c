"""The disk is full or broken: exactly what was to be written then fails, and the store goes on."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random

import apsw
import pytest

from mediagate_server.errors import StoreUnavailable
from mediagate_server.store.records import GenerationFilter, State
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.store.sqlite.connection import apply_settings
from tests.store.apsw_connection import connection
from tests.store.power_loss import FILE, facts_in
from tests.store.records import NOON, advance, generation_record, reservation, settlement
from tests.store.simulated_disk import Disk, after_power_loss
from tests.store_rows import ledger_entries

FAULTS = {
    "full": ("write", apsw.FullError),
    "cannot write": ("write", apsw.IOError),
    "cannot sync": ("sync", apsw.IOError),
}


@pytest.fixture
def disk(request: pytest.FixtureRequest) -> Iterator[Disk]:
    """A disk that does as the test says."""
    simulated = Disk(f"failing-{request.node.name}")
    yield simulated
    simulated.unregister()


@pytest.fixture
async def store(disk: Disk, tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """A store on that disk."""

    def connect(path: Path) -> sqlite3.Connection:
        return apply_settings(connection(path, disk.name))

    async with SqliteStore(tmp_path, connect=connect) as opened:
        yield opened


def break_down(disk: Disk, kind: str) -> None:
    """From now on every such operation fails."""
    broken, error = FAULTS[kind]
    disk.fault = lambda operation, _file: error() if operation == broken else None


def mend(disk: Disk) -> None:
    """There is room again."""
    disk.fault = lambda _operation, _file: None


@pytest.mark.parametrize("kind", FAULTS)
async def test_failed_writes_are_unavailable_and_not_stored(
    disk: Disk, store: SqliteStore, kind: str
) -> None:
    """Accepts, saves, claims and keys alike; once the disk is well the same calls work."""
    first, second = generation_record("a"), generation_record("b")
    await store.accept(first, reservation(first), 0)
    break_down(disk, kind)
    with pytest.raises(StoreUnavailable):
        await store.accept(second, reservation(second), 0)
    with pytest.raises(StoreUnavailable):
        await store.save(advance(first, State.SUCCEEDED), settlement(first))
    with pytest.raises(StoreUnavailable):
        await store.claim_webhook("msg", NOON)
    with pytest.raises(StoreUnavailable):
        await store.secret_key("k")
    assert await store.list_unfinished() == (first,)
    assert await store.find_binding("local", second.request_id) is None
    mend(disk)
    assert isinstance(await store.accept(second, reservation(second), 0), int)
    await store.save(advance(first, State.SUCCEEDED), settlement(first))
    assert await store.claim_webhook("msg", NOON)
    assert await ledger_entries(store, first.attempt.id) == (
        *reservation(first),
        *settlement(first),
    )


async def test_a_failed_commit_fails_only_its_own_batch(
    disk: Disk, store: SqliteStore, seed: int
) -> None:
    """Some of very many at once fail; what was acknowledged is there and the rest is not."""
    random = Random(seed)

    def now_and_then(operation: str, _file: str) -> Exception | None:
        fails = operation == "sync" and random.random() < 0.4
        return apsw.IOError() if fails else None

    disk.fault = now_and_then
    generations = [generation_record(f"g{n}") for n in range(300)]

    async def accept(number: int) -> int | BaseException:
        await asyncio.sleep(0)
        generation = generations[number]
        try:
            return await store.accept(generation, reservation(generation), 0)  # type: ignore[return-value]
        except StoreUnavailable as refused:
            return refused

    outcomes: list[int | BaseException] = []
    for start in range(0, 300, 20):
        outcomes += await asyncio.gather(*(accept(n) for n in range(start, start + 20)))
    mend(disk)
    there = {g.id for g in await store.list_generations("local", GenerationFilter(), 999, None)}
    acknowledged = {g.id for g, o in zip(generations, outcomes, strict=True) if isinstance(o, int)}
    assert there == acknowledged
    assert 0 < len(acknowledged) < 300


async def test_the_lease_is_renewed_after_the_disk_recovers(disk: Disk, store: SqliteStore) -> None:
    """Once the disk is well the writing thread renews by itself: sends are allowed again."""
    break_down(disk, "cannot sync")
    with pytest.raises(StoreUnavailable):
        await store.secret_key("k")
    mend(disk)
    before = store.lease_left()
    while store.lease_left() <= before:
        await store.change_range()
    assert not store.lost.happened


async def test_a_commit_that_failed_at_its_sync_is_never_replayed(
    disk: Disk, store: SqliteStore, tmp_path: Path, seed: int
) -> None:
    """A commit that failed at its sync lies whole in the log; the next write goes over it."""
    break_down(disk, "cannot sync")
    refused = generation_record("refused")
    with pytest.raises(StoreUnavailable):
        await store.accept(refused, reservation(refused), 0)
    mend(disk)
    accepted = generation_record("accepted")
    await store.accept(accepted, reservation(accepted), 0)
    files, _ = after_power_loss(disk.events, len(disk.events), Random(seed))
    for name, content in files.items():
        (tmp_path / f"copy.{name}").write_bytes(content)
    stored = facts_in(tmp_path / f"copy.{FILE}")
    assert ("version", accepted.id) in stored
    assert ("version", refused.id) not in stored
    assert await store.find_binding("local", refused.request_id) is None


async def test_a_damaged_database_is_unavailable(
    tmp_path: Path,
) -> None:
    """Reads and writes say so; nothing is answered from what is left of it."""
    async with SqliteStore(tmp_path) as store:
        first = generation_record("a")
        await store.accept(first, reservation(first), 0)
    path = tmp_path / "mediagate.sqlite3"
    async with SqliteStore(tmp_path) as store:
        size = path.stat().st_size
        path.write_bytes(path.read_bytes()[:4096] + b"\xff" * (size - 4096))
        with pytest.raises(StoreUnavailable):
            await store.get("local", first.id)
        second = generation_record("b")
        with pytest.raises(StoreUnavailable):
            await store.accept(second, reservation(second), 0)
