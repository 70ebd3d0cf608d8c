"""Webhooks as Replicate sends them: whether one is Replicate's, and whose attempt it is about.

Signed as Standard Webhooks has it, under what follows `whsec_` in the account's secret, in base64.
The library of the standard computes the signatures. What is compared with them is read here: its
own reading takes the time from the clock, numbers that are none, and bodies of any form, and fails
with errors of many kinds. The secret is the account's, so that it says nothing about which attempt
a webhook belongs to: that is in the URL, under a key of our own. Knows no HTTP.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook

PATH: Final = "/webhooks/replicate"
TOLERANCE_SECONDS: Final = 300
_PREFIX: Final = "whsec_"
_VERSION: Final = "v1,"
_ID: Final = re.compile(r"[!-~]{1,256}")
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")
_TOKEN: Final = re.compile(r"([A-Za-z0-9_-]{1,64})\.([0-9a-f]{64})")
_MOST_SIGNATURES: Final = 16


class NotSigned(Exception):
    """The headers are not those of a webhook that was signed now."""


@dataclass(frozen=True, slots=True)
class Signed:
    """What the headers claim: an id, the same however often it is sent, and signatures."""

    id: str
    sent_at: datetime
    signatures: tuple[str, ...]

    @classmethod
    def of(cls, headers: Mapping[str, str], now: float) -> "Signed":
        """Read from the headers. `now` is Unix seconds.

        Raises NotSigned for headers that are missing or no such headers, and for a time that is
        more than five minutes away: what was recorded long ago could be played back.
        """
        message_id = headers.get("webhook-id", "")
        timestamp = headers.get("webhook-timestamp", "")
        given = headers.get("webhook-signature", "").split(" ")[:_MOST_SIGNATURES]
        signatures = tuple(one for one in given if one.startswith(_VERSION) and one.isascii())
        if not (_ID.fullmatch(message_id) and _TIMESTAMP.fullmatch(timestamp) and signatures):
            raise NotSigned("unsigned")
        if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
            raise NotSigned("stale")
        return cls(message_id, datetime.fromtimestamp(int(timestamp), UTC), signatures)

    def by(self, keys: Iterable[bytes], body: bytes) -> bool:
        """Whether one of the keys signed it. Every key and signature is compared, found or not.

        What is no UTF-8 is signed by nobody: the library signs texts, and upstream sends JSON.
        """
        try:
            text = body.decode()
        except UnicodeDecodeError:
            return False
        found = False
        for key in keys:
            expected = Webhook(key).sign(self.id, self.sent_at, text)
            for signature in self.signatures:
                found |= hmac.compare_digest(expected, signature)
        return found


def key_of(secret: str) -> bytes:
    """The key in a secret: what follows `whsec_`. ValueError, without its text, for no secret."""
    encoded = secret.removeprefix(_PREFIX)
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if encoded == secret or not key:
        raise ValueError(f"a webhook secret is {_PREFIX} and base64")
    return key


class WebhookAddresses:
    """The URL by which upstream tells of one attempt. `base` is how the web port is reached."""

    def __init__(self, base: str, key: bytes) -> None:
        self._base = base.rstrip("/")
        self._key = key

    def of(self, attempt_id: str) -> str:
        """The URL of an attempt."""
        return f"{self._base}{PATH}/{attempt_id}.{self._mac(attempt_id)}"

    def attempt_of(self, token: str) -> str | None:
        """The attempt that the last part of one of our URLs names; None: it is none of ours."""
        parts = _TOKEN.fullmatch(token)
        if parts is None or not hmac.compare_digest(parts[2], self._mac(parts[1])):
            return None
        return parts[1]

    def _mac(self, attempt_id: str) -> str:
        return hmac.digest(self._key, attempt_id.encode(), "sha256").hex()
