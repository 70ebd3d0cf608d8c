"""What is kept sealed, and webhook ids; each function works within the caller's transaction.

What tenants' webhooks are signed with; each function works within the caller's transaction.
"""

import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from mediagate_server.store.encryption import KEY_BYTES, Cipher, DecryptionFailed
from mediagate_server.store.outbox import SecretRotation
from mediagate_server.store.records import Checkpoint, Resumption
from mediagate_server.store.sqlite.generation_rows import microseconds
from mediagate_server.store.sqlite.row_batch import RowBatch, StatementKind

WEBHOOK_ID_RETENTION: Final = timedelta(hours=25)
"""Longer than the day that is promised, and far longer than a signature is taken for fresh."""
_Sealed = tuple[int, int, str, bytes]
"""Of a piece of text: sequence, start, event id, and the piece."""
_log = structlog.get_logger()


def write_pending_input(rows: RowBatch, seal: Cipher, generation_id: str, plain: bytes) -> None:
    """Keep what is needed to send a generation."""
    rows.add(
        StatementKind.PENDING, (seal.encrypt(plain, f"pending {generation_id}"), generation_id)
    )


def read_pending_input(
    connection: sqlite3.Connection, seal: Cipher, generation_id: str
) -> bytes | None:
    """What was kept; None where nothing was, or where the key that sealed it is gone."""
    row = connection.execute(
        "SELECT sealed FROM generations JOIN pending USING (number) WHERE id = ?",
        (generation_id,),
    ).fetchone()
    return None if row is None else _opened(seal, row[0], generation_id)


def _opened(seal: Cipher, sealed: bytes, generation_id: str) -> bytes | None:
    try:
        return seal.decrypt(sealed, f"pending {generation_id}")
    except DecryptionFailed:
        _log.warning("pending_input_undecryptable", id=generation_id)
        return None


def write_checkpoint(
    connection: sqlite3.Connection, seal: Cipher, generation_id: str, piece: Checkpoint
) -> bool:
    """Keep a piece of text, unless the generation has ended meanwhile. True where it is kept."""
    sealed = seal.encrypt(piece.piece.encode(), f"text {generation_id} {piece.sequence}")
    kept = connection.execute(
        "INSERT INTO checkpoints (generation_id, sequence, start, event_id, sealed)"
        " SELECT id, ?, ?, ?, ? FROM generations WHERE id = ? AND terminal = 0"
        " ON CONFLICT DO UPDATE SET start = excluded.start, event_id = excluded.event_id,"
        " sealed = excluded.sealed",
        (piece.sequence, piece.start, piece.event_id, sealed, generation_id),
    )
    return kept.rowcount == 1


def read_resumptions(
    connection: sqlite3.Connection, seal: Cipher, generation_ids: Sequence[str]
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


def _in_order(seal: Cipher, generation_id: str, rows: Iterable[_Sealed]) -> tuple[Checkpoint, ...]:
    """The pieces in order that follow on each other, up to the first that cannot be opened."""
    pieces: list[Checkpoint] = []
    reached = 0
    for sequence, start, event_id, sealed in rows:
        if start != reached:
            continue  # Of a process whose pieces have a gap; the next one went on before it.
        try:
            piece = seal.decrypt(sealed, f"text {generation_id} {sequence}").decode()
        except DecryptionFailed:
            _log.warning("checkpoint_undecryptable", id=generation_id)
            break
        pieces.append(Checkpoint(start, sequence, event_id, piece))
        reached = sequence
    return tuple(pieces)


def erase_pending(rows: RowBatch, generation_id: str) -> None:
    """An ended generation's input is needed no more."""
    rows.add(StatementKind.NOT_PENDING, (generation_id,))


def erase_checkpoints(connection: sqlite3.Connection, generation_id: str) -> None:
    """An ended generation has its text whole."""
    connection.execute("DELETE FROM checkpoints WHERE generation_id = ?", (generation_id,))


def claim_webhook(connection: sqlite3.Connection, webhook_id: str, now: datetime) -> bool:
    """True for the first to claim the id. Forgets those that are old."""
    oldest = microseconds(now - WEBHOOK_ID_RETENTION)
    connection.execute("DELETE FROM webhooks WHERE seen_us < ?", (oldest,))
    inserted = connection.execute(
        "INSERT INTO webhooks VALUES (?, ?) ON CONFLICT DO NOTHING", (webhook_id, microseconds(now))
    )
    return inserted.rowcount == 1


def has_webhook(connection: sqlite3.Connection, webhook_id: str) -> bool:
    """Whether the id was claimed."""
    row = connection.execute("SELECT 1 FROM webhooks WHERE id = ?", (webhook_id,)).fetchone()
    return row is not None


def read_or_create_key(connection: sqlite3.Connection, seal: Cipher, name: str) -> bytes:
    """The secret key of this name, drawn where there is none.

    Raises DecryptionFailed where there is one that cannot be opened: whoever was given something
    that was made with it would find it void, without a word.
    """
    row = connection.execute("SELECT sealed FROM secrets WHERE name = ?", (name,)).fetchone()
    if row:
        return seal.decrypt(row[0], f"secret {name}")
    drawn = secrets.token_bytes(KEY_BYTES)
    connection.execute(
        "INSERT INTO secrets VALUES (?, ?)",
        (name, seal.encrypt(drawn, f"secret {name}")),
    )
    return drawn


def read_secrets(
    connection: sqlite3.Connection, seal: Cipher, tenant: str, now: datetime
) -> tuple[bytes, ...]:
    """Those that count now, the newest first."""
    rows = connection.execute(
        "SELECT sealed FROM webhook_secrets WHERE tenant = ?"
        " AND (expires_us IS NULL OR expires_us > ?) ORDER BY number DESC",
        (tenant, microseconds(now)),
    ).fetchall()
    found: list[bytes] = []
    for (sealed,) in rows:
        try:
            found.append(seal.decrypt(sealed, _about(tenant)))
        except DecryptionFailed:
            _log.warning("webhook_secret_undecryptable", tenant=tenant)
    return tuple(found)


def read_or_create_secrets(
    connection: sqlite3.Connection, seal: Cipher, tenant: str, now: datetime
) -> tuple[bytes, ...]:
    """Those that count now. Where there is none, one that nobody has been shown yet."""
    found = read_secrets(connection, seal, tenant, now)
    return found or (_draw(connection, seal, tenant, shown=False),)


def rotate_secret(
    connection: sqlite3.Connection, seal: Cipher, tenant: str, now: datetime, until: datetime
) -> SecretRotation:
    """A secret that is shown now; see outbox.Outbox."""
    unshown = connection.execute(
        "SELECT number, sealed FROM webhook_secrets WHERE tenant = ? AND shown = 0"
        " AND expires_us IS NULL",
        (tenant,),
    ).fetchone()
    if unshown:
        number, sealed = unshown
        try:
            secret = seal.decrypt(sealed, _about(tenant))
        except DecryptionFailed:
            _log.warning("webhook_secret_undecryptable", tenant=tenant)
        else:
            connection.execute("UPDATE webhook_secrets SET shown = 1 WHERE number = ?", (number,))
            return SecretRotation(secret)
    had = bool(read_secrets(connection, seal, tenant, now))
    connection.execute(
        "DELETE FROM webhook_secrets WHERE tenant = ? AND expires_us <= ?",
        (tenant, microseconds(now)),
    )
    connection.execute(
        "UPDATE webhook_secrets SET expires_us = ? WHERE tenant = ? AND expires_us IS NULL",
        (microseconds(until), tenant),
    )
    made = _draw(connection, seal, tenant, shown=True)
    return SecretRotation(made, until if had else None)


def _draw(connection: sqlite3.Connection, seal: Cipher, tenant: str, *, shown: bool) -> bytes:
    made = secrets.token_bytes(KEY_BYTES)
    connection.execute(
        "INSERT INTO webhook_secrets (tenant, sealed, shown) VALUES (?, ?, ?)",
        (tenant, seal.encrypt(made, _about(tenant)), int(shown)),
    )
    return made


def _about(tenant: str) -> str:
    return f"webhook secret of {tenant}"
