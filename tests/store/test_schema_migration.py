"""A file of before generations had numbers is brought up to date with all that it holds."""

import contextlib
import sqlite3
from dataclasses import dataclass
from datetime import timedelta
from importlib.resources import files
from pathlib import Path

from mediagate_server.store.encryption import Cipher
from mediagate_server.store.records import Generation, GenerationFilter, State
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.store.sqlite.generation_rows import microseconds, to_document
from mediagate_server.structs import replace
from tests.store.records import NOON, advance, generation_record, reservation, settlement
from tests.store_rows import ledger_entries

BEFORE = 8
REUSE_KEY = "0123456789abcdef" * 4


@dataclass(frozen=True)
class Old:
    """What a file of the schema of before holds."""

    running: Generation
    ended: Generation
    erased: Generation


def numbered_from(number: int) -> Old:
    """Three, the newest of which comes first by its id."""
    running = generation_record("a", created_at=NOON + timedelta(minutes=2))
    ended = generation_record(
        "b", created_at=NOON + timedelta(minutes=1), version=number, tenant="local"
    )
    erased = generation_record("c", erased_at=NOON, state=State.SUCCEEDED)
    return Old(running, replace(ended, state=State.SUCCEEDED), erased)


def write_old(folder: Path, old: Old) -> None:
    """The file, as the process of before left it."""
    seal = Cipher.of_file(folder / "sealing.key")
    with contextlib.closing(sqlite3.connect(folder / "mediagate.sqlite3")) as file:
        steps = files("mediagate_server.store.sqlite").joinpath("migrations").iterdir()
        for step in sorted(steps, key=lambda path: path.name):
            if int(step.name.split("_")[0]) <= BEFORE:
                file.executescript(step.read_text())
        file.execute("PRAGMA foreign_keys = ON")
        for change, generation in enumerate((old.erased, old.ended, old.running), 1):
            _write(file, generation, change)
        sealed = seal.encrypt(b"to be sent", f"pending {old.running.id}")
        file.execute("INSERT INTO pending VALUES (?, ?)", (old.running.id, sealed))
        file.execute(f"PRAGMA user_version = {BEFORE}")
        file.commit()
        file.execute("PRAGMA journal_mode = WAL")


def _write(file: sqlite3.Connection, generation: Generation, change: int) -> None:
    created = microseconds(generation.created_at)
    erased = int(generation.erased_at is not None)
    _insert(
        file,
        "generations",
        id=generation.id,
        version=generation.version,
        tenant=generation.tenant,
        state=generation.state,
        terminal=int(generation.state.is_terminal),
        modality=generation.modality,
        model=generation.model,
        labels="{}",
        created_us=created,
        document=to_document(generation),
        changed_seq=change,
        erased=erased,
    )
    key = {"tenant": generation.tenant, "generation_id": generation.id}
    _insert(
        file,
        "request_ids",
        **key,
        request_id=generation.request_id,
        fingerprint=generation.fingerprint,
    )
    _insert(
        file,
        "attempts",
        id=generation.attempt.id,
        generation_id=generation.id,
        ordinal=1,
        state=generation.attempt.state,
        prediction_id=f"p_{generation.id}",
        created_us=created,
    )
    _insert(
        file,
        "ledger",
        attempt_id=generation.attempt.id,
        kind="reserve",
        amount_nanos=5,
        state="estimated",
        price_as_of="2026",
    )
    if not erased:
        _insert(file, "likenesses", **key, likeness=REUSE_KEY, created_us=created)


def _insert(file: sqlite3.Connection, table: str, **row: object) -> None:
    columns, marks = ", ".join(row), ", ".join("?" * len(row))
    file.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", tuple(row.values()))  # noqa: S608


async def test_a_migration_keeps_all_data(tmp_path: Path) -> None:
    old = numbered_from(3)
    write_old(tmp_path, old)
    async with SqliteStore(tmp_path) as store:
        newest_first = (old.running, old.ended, old.erased)
        assert await store.list_generations("local", GenerationFilter(), 9, None) == newest_first
        changes = await store.changed_since("local", GenerationFilter(), 0, 9)
        assert [(change.sequence, change.generation) for change in changes] == [
            (1, old.erased),
            (2, old.ended),
            (3, old.running),
        ]
        assert await store.list_unfinished() == (old.running,)
        assert await store.in_flight("local") == 1
        assert await store.pending_input(old.running.id) == b"to be sent"
        assert await store.history.find_reusable("local", REUSE_KEY, NOON) == (old.ended,)
        assert (
            await store.history.find_reusable("local", REUSE_KEY, NOON + timedelta(hours=1)) == ()
        )
        soon = NOON + timedelta(hours=1)
        assert await store.history.find_expired(("text",), soon, 9) == (old.ended,)
        assert await ledger_entries(store, old.ended.attempt.id) == reservation(old.ended)


async def test_a_migrated_database_can_be_written(tmp_path: Path) -> None:
    """What ran is saved, what is new comes after it, and nothing refers to what is not there."""
    old = numbered_from(1)
    write_old(tmp_path, old)
    async with SqliteStore(tmp_path) as store:
        ended = advance(old.running, State.SUCCEEDED)
        assert await store.save(ended, settlement(ended)) == 4
        assert await store.pending_input(ended.id) is None
        new = generation_record("d", created_at=NOON + timedelta(minutes=3))
        assert await store.accept(new, reservation(new), 0, reuse_key=REUSE_KEY) == 5
        alike = (ended, old.ended)
        assert await store.history.find_reusable("local", REUSE_KEY, NOON) == alike
        await store.history.erase(advance(ended, State.SUCCEEDED))
        assert await store.history.find_reusable("local", REUSE_KEY, NOON) == (old.ended,)
    with contextlib.closing(sqlite3.connect(tmp_path / "mediagate.sqlite3")) as file:
        assert file.execute("PRAGMA foreign_key_check").fetchall() == []
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        generation_ids = [
            generation_id
            for (generation_id,) in file.execute("SELECT id FROM generations ORDER BY number")
        ]
        assert generation_ids == [old.erased.id, old.ended.id, old.running.id, new.id]
