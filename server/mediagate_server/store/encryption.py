"""What must not lie on disk in clear: sealed with a key that lies beside the data, not in it.

A copy of the database, a backup or a page that SQLite has not overwritten yet shows nothing of a
prompt. Whoever can read the whole data folder can open it: that is what the folder's mode is for.
"""

import os
import secrets
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class DecryptionFailed(Exception):
    """What was sealed cannot be opened: another key, another place, or damaged."""


class EncryptionKeyError(RuntimeError):
    """The key file cannot be used. The text is for people."""


class Cipher:
    """AES-256-GCM under one key. `about` says whose it is: it opens nowhere else."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """Under the key kept in a file, which is drawn where there is none (mode 0600)."""
        if not path.exists():
            _write_durably(path, secrets.token_bytes(KEY_BYTES))
        key = path.read_bytes()
        if len(key) != KEY_BYTES:
            raise EncryptionKeyError(f"{path} does not hold a key of {KEY_BYTES} bytes")
        return cls(key)

    def encrypt(self, plain: bytes, about: str) -> bytes:
        """Sealed, with the nonce in front."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, about.encode())

    def decrypt(self, sealed: bytes, about: str) -> bytes:
        """What was sealed. Raises DecryptionFailed."""
        nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, rest, about.encode())
        except (InvalidTag, ValueError):
            raise DecryptionFailed(about) from None


def _write_durably(path: Path, content: bytes) -> None:
    """All or nothing, also through a loss of power: what it sealed would be lost with it."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
