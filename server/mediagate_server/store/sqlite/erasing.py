"""Requests that are kept, and erasing: each function works within the caller's transaction, but
`empty_log`.
"""

import sqlite3
from datetime import datetime

import structlog

from mediagate_server.store.records import Generation
from mediagate_server.store.sealing import Seal, SealBroken
from mediagate_server.store.sqlite.generations import microseconds

_log = structlog.get_logger()


def remember(
    connection: sqlite3.Connection, seal: Seal, generation: Generation, request: bytes
) -> None:
    """Keep what was asked."""
    sealed = seal.close(request, f"request {generation.id}")
    created = microseconds(generation.created_at)
    connection.execute("INSERT INTO requests VALUES (?, ?, ?)", (generation.id, created, sealed))


def request(connection: sqlite3.Connection, seal: Seal, generation_id: str) -> bytes | None:
    """What was asked; None where it is not kept, or where the key that sealed it is gone."""
    row = connection.execute(
        "SELECT sealed FROM requests WHERE generation_id = ?", (generation_id,)
    ).fetchone()
    if row is None:
        return None
    try:
        return seal.open(row[0], f"request {generation_id}")
    except SealBroken:
        _log.warning("request cannot be opened: its key is gone", id=generation_id)
        return None


def forget(connection: sqlite3.Connection, generation_id: str) -> None:
    """Nothing is left of what was asked, nor is it found by it."""
    connection.execute("DELETE FROM requests WHERE generation_id = ?", (generation_id,))
    connection.execute("UPDATE generations SET likeness = NULL WHERE id = ?", (generation_id,))


def forget_before(connection: sqlite3.Connection, before: datetime) -> int:
    """Nothing is left of requests accepted before that time; how many there were.

    Nor of what is kept of those that are over because an attempt of theirs is in doubt still.
    """
    erased = connection.execute(
        "DELETE FROM requests WHERE created_us < ?", (microseconds(before),)
    )
    sealed = connection.execute(
        "DELETE FROM pending WHERE number IN (SELECT number FROM pending JOIN generations"
        " USING (number) WHERE terminal = 1 AND created_us < ?)",
        (microseconds(before),),
    )
    return erased.rowcount + sealed.rowcount


def empty_log(connection: sqlite3.Connection) -> None:
    """Bring all of the log into the database and cut it to nothing: old pages stand in it.

    Raises OperationalError where somebody reads or writes for too long.
    """
    (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise sqlite3.OperationalError("the log is in use")
