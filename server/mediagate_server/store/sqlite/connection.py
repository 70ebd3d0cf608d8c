"""Connections to the file, and its schema.

WAL with synchronous=FULL: with NORMAL, which many guides advise, a loss of power loses commits that
were acknowledged.
"""

import sqlite3
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Final

_PAGES_TO_A_CHECKPOINT: Final = 4_000
"""A checkpoint writes a page once, however often it was changed since the last one, and syncs."""

Connect = Callable[[Path], sqlite3.Connection]


def connect(path: Path) -> sqlite3.Connection:
    """A connection with our settings; used by one thread at a time."""
    return apply_settings(
        sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    )


def apply_settings(
    connection: sqlite3.Connection, *, synchronous: str = "FULL"
) -> sqlite3.Connection:
    """The same connection with our settings; closed where the file does not take them."""
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
    # What is deleted is overwritten, so that what was erased is in no page of the file.
    connection.execute("PRAGMA secure_delete = ON").fetchone()
    connection.execute(f"PRAGMA wal_autocheckpoint = {_PAGES_TO_A_CHECKPOINT}").fetchone()
    # What a savepoint may have to undo is nothing that a disk needs to see.
    connection.execute("PRAGMA temp_store = MEMORY")


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to the newest schema, one numbered step at a time."""
    steps = sorted(
        (step for step in files(__package__).joinpath("migrations").iterdir()),
        key=lambda step: step.name,
    )
    (done,) = connection.execute("PRAGMA user_version").fetchone()
    # A table is made anew by dropping the old one, whose name others refer to.
    connection.execute("PRAGMA foreign_keys = OFF")
    for step in steps:
        number = int(step.name.split("_")[0])
        if step.name.endswith(".sql") and number > done:
            script = f"BEGIN; {step.read_text()} PRAGMA user_version = {number}; COMMIT;"
            connection.executescript(script)
    connection.execute("PRAGMA foreign_keys = ON")
