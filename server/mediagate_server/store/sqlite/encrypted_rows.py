"""Encrypted rows: pending input, checkpoints, secret keys, webhook secrets; and webhook ids.

The functions work within the caller's transaction.
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
from mediagate_server.store.sqlite.batch_insert import RowBatch, StatementKind
from mediagate_server.store.sqlite.generation_rows import microseconds

WEBHOOK_ID_RETENTION: Final = timedelta(hours=25)
"""Longer than the promised day, and far longer than a signature's timestamp is accepted."""
_CheckpointRow = tuple[int, int, str, bytes]
"""Sequence, start, event id, and the encrypted piece."""
_log = structlog.get_logger()


def write_pending_input(rows: RowBatch, cipher: Cipher, generation_id: str, plain: bytes) -> None:
    """Insert the pending input of a generation: what is needed to send it."""
    rows.add(
        StatementKind.PENDING, (cipher.encrypt(plain, f"pending {generation_id}"), generation_id)
    )


def read_pending_input(
    connection: sqlite3.Connection, cipher: Cipher, generation_id: str
) -> bytes | None:
    """The pending input; None where there is none, or where its encryption key is lost."""
    row = connection.execute(
        "SELECT sealed FROM generations JOIN pending USING (number) WHERE id = ?",
        (generation_id,),
    ).fetchone()
    return None if row is None else _decrypt_pending(cipher, row[0], generation_id)


def _decrypt_pending(cipher: Cipher, sealed: bytes, generation_id: str) -> bytes | None:
    try:
        return cipher.decrypt(sealed, f"pending {generation_id}")
    except DecryptionFailed:
        _log.warning("pending_input_undecryptable", id=generation_id)
        return None


def write_checkpoint(
    connection: sqlite3.Connection, cipher: Cipher, generation_id: str, piece: Checkpoint
) -> bool:
    """Insert a checkpoint unless the generation has ended. True where it was inserted."""
    sealed = cipher.encrypt(piece.piece.encode(), f"text {generation_id} {piece.sequence}")
    inserted = connection.execute(
        "INSERT INTO checkpoints (generation_id, sequence, start, event_id, sealed)"
        " SELECT id, ?, ?, ?, ? FROM generations WHERE id = ? AND terminal = 0"
        " ON CONFLICT DO UPDATE SET start = excluded.start, event_id = excluded.event_id,"
        " sealed = excluded.sealed",
        (piece.sequence, piece.start, piece.event_id, sealed, generation_id),
    )
    return inserted.rowcount == 1


def read_resumptions(
    connection: sqlite3.Connection, cipher: Cipher, generation_ids: Sequence[str]
) -> dict[str, Resumption]:
    """Pending input and checkpoints of each, without what cannot be decrypted."""
    # Only question marks are put together here; every value is bound.
    marks = ",".join("?" * len(generation_ids))
    unsent: dict[str, bytes] = {}
    for generation_id, sealed in connection.execute(
        "SELECT id, sealed FROM generations JOIN pending USING (number)"  # noqa: S608
        f" WHERE id IN ({marks})",
        tuple(generation_ids),
    ):
        plain = _decrypt_pending(cipher, sealed, generation_id)
        if plain is not None:
            unsent[generation_id] = plain
    pieces: dict[str, list[_CheckpointRow]] = {}
    for generation_id, *piece in connection.execute(
        "SELECT generation_id, sequence, start, event_id, sealed FROM checkpoints"  # noqa: S608
        f" WHERE generation_id IN ({marks}) ORDER BY generation_id, sequence",
        tuple(generation_ids),
    ):
        pieces.setdefault(generation_id, []).append((piece[0], piece[1], piece[2], piece[3]))
    return {
        generation_id: Resumption(
            unsent.get(generation_id),
            _decrypt_checkpoints(cipher, generation_id, pieces.get(generation_id, ())),
        )
        for generation_id in generation_ids
    }


def _decrypt_checkpoints(
    cipher: Cipher, generation_id: str, rows: Iterable[_CheckpointRow]
) -> tuple[Checkpoint, ...]:
    """The contiguous checkpoints in order, up to the first that cannot be decrypted."""
    pieces: list[Checkpoint] = []
    reached = 0
    for sequence, start, event_id, sealed in rows:
        if start != reached:
            continue  # By a process whose text has a gap here; the next process resumed before it.
        try:
            piece = cipher.decrypt(sealed, f"text {generation_id} {sequence}").decode()
        except DecryptionFailed:
            _log.warning("checkpoint_undecryptable", id=generation_id)
            break
        pieces.append(Checkpoint(start, sequence, event_id, piece))
        reached = sequence
    return tuple(pieces)


def delete_pending(rows: RowBatch, generation_id: str) -> None:
    """Delete the pending input of an ended generation."""
    rows.add(StatementKind.DELETE_PENDING, (generation_id,))


def delete_checkpoints(connection: sqlite3.Connection, generation_id: str) -> None:
    """Delete the checkpoints of an ended generation, whose record has the full text."""
    connection.execute("DELETE FROM checkpoints WHERE generation_id = ?", (generation_id,))


def claim_webhook(connection: sqlite3.Connection, webhook_id: str, now: datetime) -> bool:
    """Insert a webhook id: True for the first claim. Deletes expired ids."""
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


def read_or_create_key(connection: sqlite3.Connection, cipher: Cipher, name: str) -> bytes:
    """The secret key of this name, generated where there is none.

    Raises DecryptionFailed where there is one that cannot be decrypted: a new one would silently
    void all links and tokens that were made with it.
    """
    row = connection.execute("SELECT sealed FROM secrets WHERE name = ?", (name,)).fetchone()
    if row:
        return cipher.decrypt(row[0], f"secret {name}")
    key = secrets.token_bytes(KEY_BYTES)
    connection.execute(
        "INSERT INTO secrets VALUES (?, ?)",
        (name, cipher.encrypt(key, f"secret {name}")),
    )
    return key


def read_secrets(
    connection: sqlite3.Connection, cipher: Cipher, tenant: str, now: datetime
) -> tuple[bytes, ...]:
    """Webhook secrets that are valid now, the newest first."""
    rows = connection.execute(
        "SELECT sealed FROM webhook_secrets WHERE tenant = ?"
        " AND (expires_us IS NULL OR expires_us > ?) ORDER BY number DESC",
        (tenant, microseconds(now)),
    ).fetchall()
    valid: list[bytes] = []
    for (sealed,) in rows:
        try:
            valid.append(cipher.decrypt(sealed, _context(tenant)))
        except DecryptionFailed:
            _log.warning("webhook_secret_undecryptable", tenant=tenant)
    return tuple(valid)


def read_or_create_secrets(
    connection: sqlite3.Connection, cipher: Cipher, tenant: str, now: datetime
) -> tuple[bytes, ...]:
    """Webhook secrets that are valid now; where there is none, a new one not shown yet."""
    valid = read_secrets(connection, cipher, tenant, now)
    return valid or (_create_secret(connection, cipher, tenant, shown=False),)


def rotate_secret(
    connection: sqlite3.Connection, cipher: Cipher, tenant: str, now: datetime, until: datetime
) -> SecretRotation:
    """Create a webhook secret, or return the one not shown yet; old ones expire at `until`."""
    unshown = connection.execute(
        "SELECT number, sealed FROM webhook_secrets WHERE tenant = ? AND shown = 0"
        " AND expires_us IS NULL",
        (tenant,),
    ).fetchone()
    if unshown:
        number, sealed = unshown
        try:
            secret = cipher.decrypt(sealed, _context(tenant))
        except DecryptionFailed:
            _log.warning("webhook_secret_undecryptable", tenant=tenant)
        else:
            connection.execute("UPDATE webhook_secrets SET shown = 1 WHERE number = ?", (number,))
            return SecretRotation(secret)
    had = bool(read_secrets(connection, cipher, tenant, now))
    connection.execute(
        "DELETE FROM webhook_secrets WHERE tenant = ? AND expires_us <= ?",
        (tenant, microseconds(now)),
    )
    connection.execute(
        "UPDATE webhook_secrets SET expires_us = ? WHERE tenant = ? AND expires_us IS NULL",
        (microseconds(until), tenant),
    )
    secret = _create_secret(connection, cipher, tenant, shown=True)
    return SecretRotation(secret, until if had else None)


def _create_secret(
    connection: sqlite3.Connection, cipher: Cipher, tenant: str, *, shown: bool
) -> bytes:
    secret = secrets.token_bytes(KEY_BYTES)
    connection.execute(
        "INSERT INTO webhook_secrets (tenant, sealed, shown) VALUES (?, ?, ?)",
        (tenant, cipher.encrypt(secret, _context(tenant)), int(shown)),
    )
    return secret


def _context(tenant: str) -> str:
    return f"webhook secret of {tenant}"
