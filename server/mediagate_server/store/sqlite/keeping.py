"""What is kept sealed, and webhook ids; each function works within the caller's transaction."""

import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from mediagate_server.store.records import Checkpoint, Resumption
from mediagate_server.store.sealing import KEY_BYTES, Seal, SealBroken
from mediagate_server.store.sqlite.generations import microseconds
from mediagate_server.store.sqlite.rows import Kind, Rows

WEBHOOK_IDS_LIVE: Final = timedelta(hours=25)
"""Longer than the day that is promised, and far longer than a signature is taken for fresh."""

_Sealed = tuple[int, int, str, bytes]
"""Of a piece of text: sequence, start, event id, and the piece."""

_log = structlog.get_logger()


def keep_pending(rows: Rows, seal: Seal, generation_id: str, plain: bytes) -> None:
    """Keep what is needed to send a generation."""
    rows.put(Kind.PENDING, (seal.close(plain, f"pending {generation_id}"), generation_id))


def pending(connection: sqlite3.Connection, seal: Seal, generation_id: str) -> bytes | None:
    """What was kept; None where nothing was, or where the key that sealed it is gone."""
    row = connection.execute(
        "SELECT sealed FROM generations JOIN pending USING (number) WHERE id = ?",
        (generation_id,),
    ).fetchone()
    return None if row is None else _opened(seal, row[0], generation_id)


def _opened(seal: Seal, sealed: bytes, generation_id: str) -> bytes | None:
    try:
        return seal.open(sealed, f"pending {generation_id}")
    except SealBroken:
        _log.warning("pending input cannot be opened: its key is gone", id=generation_id)
        return None


def keep_checkpoint(
    connection: sqlite3.Connection, seal: Seal, generation_id: str, piece: Checkpoint
) -> bool:
    """Keep a piece of text, unless the generation has ended meanwhile. True where it is kept."""
    sealed = seal.close(piece.piece.encode(), f"text {generation_id} {piece.sequence}")
    kept = connection.execute(
        "INSERT INTO checkpoints (generation_id, sequence, start, event_id, sealed)"
        " SELECT id, ?, ?, ?, ? FROM generations WHERE id = ? AND terminal = 0"
        " ON CONFLICT DO UPDATE SET start = excluded.start, event_id = excluded.event_id,"
        " sealed = excluded.sealed",
        (piece.sequence, piece.start, piece.event_id, sealed, generation_id),
    )
    return kept.rowcount == 1


def resumptions(
    connection: sqlite3.Connection, seal: Seal, generation_ids: Sequence[str]
) -> dict[str, Resumption]:
    """What is kept of each of these. Of what cannot be opened nothing is."""
    # Only question marks are put together here; every value is bound.
    marks = ",".join("?" * len(generation_ids))
    unsent: dict[str, bytes] = {}
    for generation_id, sealed in connection.execute(
        "SELECT id, sealed FROM generations JOIN pending USING (number)"  # noqa: S608
        f" WHERE id IN ({marks})",
        tuple(generation_ids),
    ):
        opened = _opened(seal, sealed, generation_id)
        if opened is not None:
            unsent[generation_id] = opened
    pieces: dict[str, list[_Sealed]] = {}
    for generation_id, *piece in connection.execute(
        "SELECT generation_id, sequence, start, event_id, sealed FROM checkpoints"  # noqa: S608
        f" WHERE generation_id IN ({marks}) ORDER BY generation_id, sequence",
        tuple(generation_ids),
    ):
        pieces.setdefault(generation_id, []).append((piece[0], piece[1], piece[2], piece[3]))
    return {
        one: Resumption(unsent.get(one), _in_order(seal, one, pieces.get(one, ())))
        for one in generation_ids
    }


def _in_order(seal: Seal, generation_id: str, rows: Iterable[_Sealed]) -> tuple[Checkpoint, ...]:
    """The pieces in order that follow on each other, up to the first that cannot be opened."""
    pieces: list[Checkpoint] = []
    reached = 0
    for sequence, start, event_id, sealed in rows:
        if start != reached:
            continue  # Of a process whose pieces have a gap; the next one went on before it.
        try:
            piece = seal.open(sealed, f"text {generation_id} {sequence}").decode()
        except SealBroken:
            _log.warning("text cannot be opened: its key is gone", id=generation_id)
            break
        pieces.append(Checkpoint(start, sequence, event_id, piece))
        reached = sequence
    return tuple(pieces)


def erase_pending(rows: Rows, generation_id: str) -> None:
    """An ended generation's input is needed no more."""
    rows.put(Kind.NOT_PENDING, (generation_id,))


def erase_checkpoints(connection: sqlite3.Connection, generation_id: str) -> None:
    """An ended generation has its text whole."""
    connection.execute("DELETE FROM checkpoints WHERE generation_id = ?", (generation_id,))


def claim_webhook(connection: sqlite3.Connection, webhook_id: str, now: datetime) -> bool:
    """True for the first to claim the id. Forgets those that are old."""
    oldest = microseconds(now - WEBHOOK_IDS_LIVE)
    connection.execute("DELETE FROM webhooks WHERE seen_us < ?", (oldest,))
    inserted = connection.execute(
        "INSERT INTO webhooks VALUES (?, ?) ON CONFLICT DO NOTHING", (webhook_id, microseconds(now))
    )
    return inserted.rowcount == 1


def saw_webhook(connection: sqlite3.Connection, webhook_id: str) -> bool:
    """Whether the id was claimed."""
    row = connection.execute("SELECT 1 FROM webhooks WHERE id = ?", (webhook_id,)).fetchone()
    return row is not None


def key(connection: sqlite3.Connection, seal: Seal, name: str) -> bytes:
    """The secret key of this name, drawn where there is none.

    Raises SealBroken where there is one that cannot be opened: whoever was given something that
    was made with it would find it void, without a word.
    """
    row = connection.execute("SELECT sealed FROM secrets WHERE name = ?", (name,)).fetchone()
    if row:
        return seal.open(row[0], f"secret {name}")
    drawn = secrets.token_bytes(KEY_BYTES)
    connection.execute(
        "INSERT INTO secrets VALUES (?, ?)",
        (name, seal.close(drawn, f"secret {name}")),
    )
    return drawn
