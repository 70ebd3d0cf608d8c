"""The store at work on a disk that loses power, and what is left of its promises."""

import asyncio
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from mediagate_server.store.records import Checkpoint, State
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.store.sqlite.connection import apply_settings
from tests.store.apsw_connection import connection
from tests.store.records import NOON, advance, generation_record, reservation, settlement
from tests.store.simulated_disk import Disk, Event, after_power_loss

FILE = "mediagate.sqlite3"
_PAGES_TO_A_CHECKPOINT = 40
"""Few, so that many states lie in the midst of one."""


@dataclass(slots=True)
class Verdict:
    """How many states were looked at, and in how many something was wrong."""

    states: int = 0
    lost: int = 0
    corrupt: int = 0
    promises: int = 0


async def write_down(seed: int, synchronous: str) -> list[Event]:
    """Everything that the disk is told while several callers use the store at once."""
    random = Random(seed)
    disk = Disk(f"power-{synchronous}-{seed}")

    def connect(path: Path) -> sqlite3.Connection:
        opened = apply_settings(connection(path, disk.name), synchronous=synchronous)
        opened.execute(f"PRAGMA wal_autocheckpoint = {_PAGES_TO_A_CHECKPOINT}")
        return opened

    with TemporaryDirectory() as folder:
        async with SqliteStore(Path(folder), connect=connect) as store:
            await asyncio.gather(*(_caller(store, disk, f"{seed}_{n}", random) for n in range(3)))
    disk.unregister()
    return disk.events


async def _caller(store: SqliteStore, disk: Disk, name: str, random: Random) -> None:
    for number in range(8):
        generation = generation_record(f"{name}_{number}", logs="x" * random.randrange(5_000))
        await store.accept(generation, reservation(generation), 0, pending=random.randbytes(300))
        disk.acknowledge(("version", generation.id, 1))
        disk.acknowledge(("bound", generation.request_id, generation.id))
        disk.acknowledge(("line", generation.attempt.id, "reserve"))
        for _ in range(random.randrange(3)):
            generation = advance(generation, State.RUNNING)
            store.save_checkpoint(generation.id, Checkpoint(0, 9, "1", "x" * 200))
            await store.save(generation)
            disk.acknowledge(("version", generation.id, generation.version))
        generation = advance(generation, State.SUCCEEDED)
        await store.save(generation, settlement(generation))
        disk.acknowledge(("version", generation.id, generation.version))
        disk.acknowledge(("line", generation.attempt.id, "settle"))
        await store.claim_webhook(generation.id, NOON)
        disk.acknowledge(("webhook", generation.id, ""))


def judge(events: list[Event], states: int, random: Random, verdict: Verdict) -> None:
    """Lose power at random moments; count the states that are damaged or forget a promise."""
    for _ in range(states):
        files, promised = after_power_loss(events, random.randrange(len(events) + 1), random)
        verdict.states += 1
        verdict.promises += len(promised)
        with TemporaryDirectory() as folder:
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content)
            try:
                stored = facts_in(Path(folder) / FILE)
            except sqlite3.DatabaseError:
                verdict.corrupt += 1
                continue
        verdict.lost += any(not _contains(stored, fact) for fact in promised)


Facts = dict[tuple[str, str], int | str]


def facts_in(path: Path) -> Facts:
    """What a database holds. Raises sqlite3.DatabaseError where it is damaged."""
    database = sqlite3.connect(path, isolation_level=None)
    try:
        (sound,) = database.execute("PRAGMA integrity_check").fetchone()
        if sound != "ok":
            raise sqlite3.DatabaseError(sound)
        stored: Facts = {}
        if not database.execute("PRAGMA user_version").fetchone()[0]:
            return stored
        for generation_id, version in database.execute("SELECT id, version FROM generations"):
            stored["version", generation_id] = version
        for request_id, bound in database.execute(
            "SELECT request_id, generation_id FROM request_ids"
        ):
            stored["bound", request_id] = bound
        for attempt, kind in database.execute("SELECT attempt_id, kind FROM ledger"):
            stored["line", f"{attempt} {kind}"] = 1
        if database.execute("PRAGMA user_version").fetchone()[0] >= 2:
            for (webhook_id,) in database.execute("SELECT id FROM webhooks"):
                stored["webhook", webhook_id] = 1
        return stored
    finally:
        database.close()


def _contains(stored: Facts, fact: tuple[str, str, int | str]) -> bool:
    kind, key, value = fact
    match kind:
        case "version":
            stored_version = stored.get((kind, key), 0)
            return (
                isinstance(stored_version, int)
                and isinstance(value, int)
                and stored_version >= value
            )
        case "line":
            return (kind, f"{key} {value}") in stored
        case "bound":
            return stored.get((kind, key)) == value
        case _:
            return (kind, key) in stored
