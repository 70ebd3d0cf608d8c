"""Connections to the SQLite file, and schema migration.

WAL with synchronous=FULL: with NORMAL, which many guides advise, a power loss loses acknowledged
commits.
"""

import sqlite3
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Final

from mediagate_server.store.sqlite.data_folder_errors import SchemaTooNew

_CHECKPOINT_PAGES: Final = 4_000
"""WAL pages between checkpoints: a checkpoint writes each changed page once, and syncs."""

Connect = Callable[[Path], sqlite3.Connection]


def connect(path: Path) -> sqlite3.Connection:
    """A connection with our settings; used by one thread at a time."""
    return apply_settings(
        sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    )


def apply_settings(
    connection: sqlite3.Connection, *, synchronous: str = "FULL"
) -> sqlite3.Connection:
    """Set our PRAGMAs on a connection; it is closed where the file refuses them."""
    try:
        _configure(connection, synchronous)
    except BaseException:
        connection.close()
        raise
    return connection


def _configure(connection: sqlite3.Connection, synchronous: str) -> None:
    connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA foreign_keys = ON")
    # Deleted content is overwritten with zeros, so that erased data is in no page of the file.
    connection.execute("PRAGMA secure_delete = ON").fetchone()
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}").fetchone()
    # Statement journals of savepoints need no disk.
    connection.execute("PRAGMA temp_store = MEMORY")


def migrate(connection: sqlite3.Connection) -> None:
    """Migrate the schema to the newest version, one numbered step at a time.

    Raises SchemaTooNew for one that this version does not know: it may mean something else by it.
    """
    steps = sorted(
        (
            step
            for step in files(__package__).joinpath("migrations").iterdir()
            if step.name.endswith(".sql")
        ),
        key=lambda step: step.name,
    )
    (done,) = connection.execute("PRAGMA user_version").fetchone()
    newest = int(steps[-1].name.split("_")[0])
    if done > newest:
        raise SchemaTooNew(f"its schema is {done}, this one knows {newest}")
    # A table is rebuilt by dropping the old one, to whose name others refer.
    connection.execute("PRAGMA foreign_keys = OFF")
    for step in steps:
        number = int(step.name.split("_")[0])
        if number > done:
            script = f"BEGIN; {step.read_text()} PRAGMA user_version = {number}; COMMIT;"
            connection.executescript(script)
    connection.execute("PRAGMA foreign_keys = ON")
