"""The sealing key of a store as it is opened: its own, or the store is not opened.

Under another key all that lies sealed would be lost in silence: webhooks' addresses and secrets,
links to media, requests that wait, and the key of the hashes by which a create in doubt is
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
"""An operator makes this file to say that the key is gone for good; it counts once."""
_SEALED: Final = ("secrets", "pending", "checkpoints", "webhook_secrets")
"""Tables with what is sealed."""

_log = structlog.get_logger()


def open_cipher(folder: Path, connection: sqlite3.Connection) -> Cipher:
    """Under the key beside the data; drawn where nothing is sealed yet.

    Raises EncryptionKeyError where it is not the one that the data are sealed with, unless the
    operator has said that this one is gone: then what it sealed is given up, and said so.
    """
    path, lost = folder / KEY_FILE, folder / LOST_FILE
    is_given_up = lost.exists()
    if not path.exists() and not is_given_up and _is_used(connection):
        raise EncryptionKeyError(_words(path, lost, "is missing"))
    seal = Cipher.of_file(path)
    broken = _broken_secrets(connection, seal)
    if broken and not is_given_up:
        raise EncryptionKeyError(_words(path, lost, "is another key"))
    if is_given_up:
        _log.error("encryption_key_replaced", redrawn=broken)
        connection.executemany("DELETE FROM secrets WHERE name = ?", [(name,) for name in broken])
        with contextlib.suppress(FileNotFoundError):
            lost.unlink()
    return seal


def _is_used(connection: sqlite3.Connection) -> bool:
    """Whether anything is sealed."""
    return any(
        connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()  # noqa: S608 - our own names
        for table in _SEALED
    )


def _broken_secrets(connection: sqlite3.Connection, seal: Cipher) -> list[str]:
    """Names of the secret keys that this one does not open."""
    broken = []
    for name, sealed in connection.execute("SELECT name, sealed FROM secrets").fetchall():
        try:
            seal.decrypt(sealed, f"secret {name}")
        except DecryptionFailed:
            broken.append(name)
    return broken


def _words(path: Path, lost: Path, what: str) -> str:
    return (
        f"{path} {what}: the data beside it were sealed with the one that was there. Put that one "
        "back, as it was saved with the data. If it is gone for good, what it sealed is lost: "
        "secrets and addresses of webhooks, links to media, stored requests, calls that wait to be "
        "sent, and the recognition of creates whose answer was lost, which may be paid for again. "
        f"To go on without all that, make an empty file {lost} and start again"
    )
