"""How many generations run is kept by the database, and is always what counting would say."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from mediagate_server.store.records import AttemptState, State
from mediagate_server.store.sqlite import SqliteStore
from tests.store.samples import made, moved, reservation


@contextmanager
def opened(folder: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(folder / "mediagate.sqlite3", isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def kept(connection: sqlite3.Connection) -> dict[str, int]:
    rows = connection.execute("SELECT tenant, generations FROM running WHERE generations <> 0")
    return dict(rows.fetchall())


def counted(connection: sqlite3.Connection) -> dict[str, int]:
    rows = connection.execute(
        "SELECT tenant, count(*) FROM generations WHERE terminal = 0 GROUP BY tenant"
    )
    return dict(rows.fetchall())


async def test_it_is_what_counting_says(tmp_path: Path) -> None:
    """Through every kind of change: accepted, moved, ended, ended twice, and erased."""
    async with SqliteStore(tmp_path) as store:
        live = [made(str(n), tenant=random.choice(["a", "b", "c"])) for n in range(60)]
        for generation in live:
            await store.accept(generation, reservation(generation), 0)
        for _ in range(200):
            at = random.randrange(len(live))
            state = random.choice([State.RUNNING, State.SUCCEEDED, State.FAILED, State.STARTING])
            live[at] = moved(live[at], state, AttemptState.ACCEPTED)
            await store.save(live[at])
        with opened(tmp_path) as connection:
            assert kept(connection) == counted(connection) != {}
    with opened(tmp_path) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("DROP TRIGGER ledger_loses_no_line")
        for generation in random.sample(live, 20):
            connection.execute("DELETE FROM generations WHERE id = ?", (generation.id,))
        assert kept(connection) == counted(connection)


async def test_a_file_of_before_is_counted_once(tmp_path: Path) -> None:
    """What ran when the table came is in it."""
    migrations = files("mediagate_server.store.sqlite").joinpath("migrations")
    with opened(tmp_path) as connection:
        for step in ("0001_first.sql", "0002_ownership.sql"):
            connection.executescript(migrations.joinpath(step).read_text())
        connection.executemany(
            "INSERT INTO generations (id, version, tenant, state, terminal, modality, model,"
            " labels, created_us, document) VALUES (?, 1, ?, 'x', ?, 'text', 'm', '{}', 0, '{}')",
            [("1", "a", 0), ("2", "a", 0), ("3", "a", 1), ("4", "b", 1), ("5", "c", 0)],
        )
        connection.execute("PRAGMA user_version = 2")
        connection.execute("PRAGMA journal_mode = WAL")
    async with SqliteStore(tmp_path):
        with opened(tmp_path) as connection:
            assert kept(connection) == {"a": 2, "c": 1} == counted(connection)
