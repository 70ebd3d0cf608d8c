"""Webhook signatures of Standard Webhooks, with a secret that can be rotated.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from datetime import datetime, timedelta

PREFIX = "whsec_"
_KEY_BYTES = 24
_SHORTEST_KEY, _LONGEST_KEY = 16, 64


def new_secret() -> str:
    """Return a random secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """Decode the key of a secret, `whsec_` and base64.

    Raises ValueError for what is no such secret, without repeating it.
    """
    encoded = secret.removeprefix(PREFIX)
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if encoded == secret or not _SHORTEST_KEY <= len(key) <= _LONGEST_KEY:
        raise ValueError(
            f"a webhook secret is {PREFIX} and {_SHORTEST_KEY} to {_LONGEST_KEY} bytes in base64"
        )
    return key


def signature(key: bytes, message_id: str, at: int, body: bytes) -> str:
    """Return `v1,<base64>` over id, Unix seconds and body."""
    signed = f"{message_id}.{at}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


class WebhookSigner:
    """Signer with the current secret, and the previous one during an overlap."""

    def __init__(self, secret: str) -> None:
        """Sign with `secret`. Raises ValueError if it is invalid."""
        self._first = secret
        self.secret = secret
        self._key = key_of(secret)
        self._before: tuple[bytes, datetime] | None = None

    def rotate(self, secret: str, now: datetime, overlap_seconds: float = 0.0) -> None:
        """Rotate the secret; for `overlap_seconds` the old one signs, too.

        Raises ValueError if it is no secret; the old one then stays.
        """
        key = key_of(secret)
        self._before = (self._key, now + timedelta(seconds=overlap_seconds))
        self.secret, self._key = secret, key

    def restore(self) -> None:
        """Restore the first secret."""
        self.secret, self._key = self._first, key_of(self._first)
        self._before = None

    def headers(self, message_id: str, now: datetime, body: bytes) -> dict[str, str]:
        """Return the three headers of one request; two signatures during an overlap."""
        keys = [self._key]
        if self._before is not None and now < self._before[1]:
            keys.append(self._before[0])
        return _headers(keys, message_id, now, body)

    def forged_headers(self, message_id: str, now: datetime, body: bytes) -> dict[str, str]:
        """Return headers signed with another secret."""
        return _headers([secrets.token_bytes(_KEY_BYTES)], message_id, now, body)


def _headers(keys: list[bytes], message_id: str, now: datetime, body: bytes) -> dict[str, str]:
    at = int(now.timestamp())
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(signature(key, message_id, at, body) for key in keys),
    }
