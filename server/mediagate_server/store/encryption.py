"""Encryption at rest: AES-256-GCM with a key file that lies beside the database, not in it.

A copy of the database, a backup or a page that SQLite has not overwritten yet reveals no prompt.
Whoever can read the whole data folder can decrypt it: the folder's mode protects against that.
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
    """Decryption failed: another key, another context, or damaged data."""


class EncryptionKeyError(RuntimeError):
    """The key file cannot be used. The message is for people."""


class Cipher:
    """AES-256-GCM under one key. `context` is authenticated: decryption needs the same."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """Load the key from a file, which is generated where there is none (mode 0600)."""
        if not path.exists():
            _write_durably(path, secrets.token_bytes(KEY_BYTES))
        key = path.read_bytes()
        if len(key) != KEY_BYTES:
            raise EncryptionKeyError(f"{path} does not hold a key of {KEY_BYTES} bytes")
        return cls(key)

    def encrypt(self, plain: bytes, context: str) -> bytes:
        """The ciphertext, with the nonce in front."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, context.encode())

    def decrypt(self, sealed: bytes, context: str) -> bytes:
        """The plaintext. Raises DecryptionFailed."""
        nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, rest, context.encode())
        except (InvalidTag, ValueError):
            raise DecryptionFailed(context) from None


def _write_durably(path: Path, content: bytes) -> None:
    """Atomic durable write: what is encrypted would be lost with the key."""
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
