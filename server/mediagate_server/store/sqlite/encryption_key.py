"""Encryption key of a store, checked when the store is opened: another key is refused.

Under another key all encrypted data would be lost silently: webhooks' addresses and secrets,
links to media, pending requests, and the key of the hashes by which an unconfirmed create is
recognised in upstream's list. Without that one it counts as absent, and is paid for twice.
"""

import contextlib
import sqlite3
from pathlib import Path
from typing import Final

import structlog

from mediagate_server.store.encryption import Cipher, DecryptionFailed, EncryptionKeyError

KEY_FILE: Final = "sealing.key"
LOST_FILE: Final = "sealing.key.lost"
"""An operator creates this file to say that the key is lost for good; it works once."""
_ENCRYPTED_TABLES: Final = ("secrets", "pending", "checkpoints", "webhook_secrets")
"""Tables with encrypted columns."""

_log = structlog.get_logger()


def open_cipher(folder: Path, connection: sqlite3.Connection) -> Cipher:
    """The cipher with the key beside the data; generated where nothing is encrypted yet.

    Raises EncryptionKeyError where it is not the key of the data, unless the operator has said that
    this one is lost: then what it encrypted is given up, and logged.
    """
    path, lost = folder / KEY_FILE, folder / LOST_FILE
    is_given_up = lost.exists()
    if not path.exists() and not is_given_up and _is_used(connection):
        raise EncryptionKeyError(_error_text(path, lost, "is missing"))
    cipher = Cipher.of_file(path)
    undecryptable = _undecryptable_secrets(connection, cipher)
    if undecryptable and not is_given_up:
        raise EncryptionKeyError(_error_text(path, lost, "is another key"))
    if is_given_up:
        _log.error("encryption_key_replaced", redrawn=undecryptable)
        connection.executemany(
            "DELETE FROM secrets WHERE name = ?", [(name,) for name in undecryptable]
        )
        with contextlib.suppress(FileNotFoundError):
            lost.unlink()
    return cipher


def _is_used(connection: sqlite3.Connection) -> bool:
    """Whether the database has encrypted rows."""
    return any(
        connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()  # noqa: S608 - our own names
        for table in _ENCRYPTED_TABLES
    )


def _undecryptable_secrets(connection: sqlite3.Connection, cipher: Cipher) -> list[str]:
    """Names of the secret keys that this key does not decrypt."""
    undecryptable = []
    for name, sealed in connection.execute("SELECT name, sealed FROM secrets").fetchall():
        try:
            cipher.decrypt(sealed, f"secret {name}")
        except DecryptionFailed:
            undecryptable.append(name)
    return undecryptable


def _error_text(path: Path, lost: Path, what: str) -> str:
    return (
        f"{path} {what}: the data beside it were sealed with the one that was there. Put that one "
        "back, as it was saved with the data. If it is gone for good, what it sealed is lost: "
        "secrets and addresses of webhooks, links to media, stored requests, calls that wait to be "
        "sent, and the recognition of creates whose answer was lost, which may be paid for again. "
        f"To go on without all that, make an empty file {lost} and start again"
    )
