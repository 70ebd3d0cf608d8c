"""Webhooks as Replicate sends them: whether one is Replicate's, and whose attempt it is about.

Signed as Standard Webhooks has it, under what follows `whsec_` in the account's secret, in base64.
The library of the standard computes the signatures. What is compared with them is read here: its
own reading takes the time from the clock, numbers that are none, and bodies of any form, and fails
with errors of many kinds. The secret is the account's, so that it says nothing about which attempt
a webhook belongs to: that is in the URL, under a key of our own. Knows no HTTP.

The secrets that webhooks may be signed with: the account's, asked for, and those configured.
"""

import asyncio
import base64
import binascii
import hmac
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog
from standardwebhooks import Webhook

from mediagate_server.upstream.port import UpstreamError

WEBHOOK_PATH: Final = "/webhooks/replicate"
TOLERANCE_SECONDS: Final = 300
_PREFIX: Final = "whsec_"
_VERSION: Final = "v1,"
_ID: Final = re.compile(r"[!-~]{1,256}")
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")
_TOKEN: Final = re.compile(r"([A-Za-z0-9_-]{1,64})\.([0-9a-f]{64})")
_MOST_SIGNATURES: Final = 16


class SignatureInvalid(Exception):
    """The headers are not those of a webhook that was signed now."""


@dataclass(frozen=True, slots=True)
class SignatureHeaders:
    """What the headers claim: an id, the same however often it is sent, and signatures."""

    id: str
    sent_at: datetime
    signatures: tuple[str, ...]

    @classmethod
    def parse(cls, headers: Mapping[str, str], now: float) -> "SignatureHeaders":
        """Read from the headers. `now` is Unix seconds.

        Raises SignatureInvalid for headers that are missing or no such headers, and for a time that
        is more than five minutes away: what was recorded long ago could be played back.
        """
        message_id = headers.get("webhook-id", "")
        timestamp = headers.get("webhook-timestamp", "")
        given = headers.get("webhook-signature", "").split(" ")[:_MOST_SIGNATURES]
        signatures = tuple(one for one in given if one.startswith(_VERSION) and one.isascii())
        if not (_ID.fullmatch(message_id) and _TIMESTAMP.fullmatch(timestamp) and signatures):
            raise SignatureInvalid("unsigned")
        if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
            raise SignatureInvalid("stale")
        return cls(message_id, datetime.fromtimestamp(int(timestamp), UTC), signatures)

    def is_signed_by(self, keys: Iterable[bytes], body: bytes) -> bool:
        """Whether one of the keys signed it. Every key and signature is compared, found or not.

        What is no UTF-8 is signed by nobody: the library signs texts, and upstream sends JSON.
        """
        try:
            text = body.decode()
        except UnicodeDecodeError:
            return False
        is_valid = False
        for key in keys:
            expected = Webhook(key).sign(self.id, self.sent_at, text)
            for signature in self.signatures:
                is_valid |= hmac.compare_digest(expected, signature)
        return is_valid


def decode_webhook_secret(secret: str) -> bytes:
    """The key in a secret: what follows `whsec_`. ValueError, without its text, for no secret."""
    encoded = secret.removeprefix(_PREFIX)
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if encoded == secret or not key:
        raise ValueError(f"a webhook secret is {_PREFIX} and base64")
    return key


class WebhookUrls:
    """The URL by which upstream tells of one attempt. `base` is how the web port is reached."""

    def __init__(self, base: str, key: bytes) -> None:
        self._base = base.rstrip("/")
        self._key = key

    def url_for(self, attempt_id: str) -> str:
        """The URL of an attempt."""
        return f"{self._base}{WEBHOOK_PATH}/{attempt_id}.{self._mac(attempt_id)}"

    def parse_attempt(self, token: str) -> str | None:
        """The attempt that the last part of one of our URLs names; None: it is none of ours."""
        match = _TOKEN.fullmatch(token)
        if match is None or not hmac.compare_digest(match[2], self._mac(match[1])):
            return None
        return match[1]

    def _mac(self, attempt_id: str) -> str:
        return hmac.digest(self._key, attempt_id.encode(), "sha256").hex()


_FRESH_SECONDS: Final = 60.0
"""How long the account's secret is used unasked: after a rotation the old one counts no longer."""
_PAUSE_SECONDS: Final = 1.0
"""Between two questions, however many webhooks come whose signature is not known."""
_MOST_WAITING: Final = 32
_log = structlog.get_logger()


class WebhookSecrets:
    """Keys to check signatures with.

    `fetch` asks upstream for the account's secret; `configured` gives those of the operator, as
    they are now. The account's is asked for when the first webhook comes, again after a minute,
    and when a signature is not known: then it may have been rotated.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[str]],
        configured: Callable[[], Sequence[str]],
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: float = _PAUSE_SECONDS,
    ) -> None:
        self._fetch = fetch
        self._configured = configured
        self._clock = clock
        self._pause = pause
        self._account: bytes | None = None
        self._requested_at = self._fetched_at = float("-inf")
        self._fetch_count = 0
        self._fetch_lock = asyncio.Lock()
        self._waiting = 0

    async def keys(self) -> tuple[bytes, ...]:
        """All that count now."""
        if self._is_expired():
            async with self._fetch_lock:
                if self._is_expired():
                    await self._refetch()
        return self._all_keys()

    async def refresh(self) -> tuple[bytes, ...]:
        """All that count, asked for after this call; the same as before where too many ask.

        Those who wait for the answer share it, and questions are at least a second apart, so that
        forged webhooks cannot use up the account's rate.
        """
        if self._waiting >= _MOST_WAITING:
            return self._all_keys()
        self._waiting += 1
        try:
            before = self._fetch_count
            async with self._fetch_lock:
                if self._fetch_count == before:
                    await self._refetch()
        finally:
            self._waiting -= 1
        return self._all_keys()

    def _all_keys(self) -> tuple[bytes, ...]:
        account = () if self._account is None else (self._account,)
        return account + tuple(decode_webhook_secret(secret) for secret in self._configured())

    def _is_expired(self) -> bool:
        return self._clock() - self._fetched_at > _FRESH_SECONDS

    async def _refetch(self) -> None:
        wait = self._requested_at + self._pause - self._clock()
        if wait > 0:
            await asyncio.sleep(wait)
        self._fetch_count += 1
        self._requested_at = self._clock()
        try:
            self._account = decode_webhook_secret(await self._fetch())
        except (UpstreamError, ValueError) as error:
            # The one known before goes on to count; without any, polling finds every end.
            _log.warning("upstream_webhook_secret_unavailable", error=type(error).__name__)
        self._fetched_at = self._clock()
