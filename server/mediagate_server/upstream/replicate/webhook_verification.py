"""Verification of Replicate's webhooks: signatures, signing secrets, and the URL of an attempt.

Signed by Standard Webhooks, with the base64 key after `whsec_` in the account's secret. The library
of the standard computes the signatures; headers are parsed here, because its parser takes the time
from the clock, accepts malformed numbers and any body, and fails with errors of many kinds. The
secret is the account's, so it does not prove to which attempt a webhook belongs: that is in the
URL, authenticated with a key of our own. No HTTP.
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
    """The headers are not of a freshly signed webhook."""


@dataclass(frozen=True, slots=True)
class SignatureHeaders:
    """Signature headers: an id that is the same for all retries, time and signatures."""

    id: str
    sent_at: datetime
    signatures: tuple[str, ...]

    @classmethod
    def parse(cls, headers: Mapping[str, str], now: float) -> "SignatureHeaders":
        """Parse the headers. `now` is Unix seconds.

        Raises SignatureInvalid for missing or malformed headers, and for a time that is more than
        five minutes away, which prevents replays.
        """
        message_id = headers.get("webhook-id", "")
        timestamp = headers.get("webhook-timestamp", "")
        given = headers.get("webhook-signature", "").split(" ")[:_MOST_SIGNATURES]
        signatures = tuple(s for s in given if s.startswith(_VERSION) and s.isascii())
        if not (_ID.fullmatch(message_id) and _TIMESTAMP.fullmatch(timestamp) and signatures):
            raise SignatureInvalid("unsigned")
        if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
            raise SignatureInvalid("stale")
        return cls(message_id, datetime.fromtimestamp(int(timestamp), UTC), signatures)

    def is_signed_by(self, keys: Iterable[bytes], body: bytes) -> bool:
        """Whether one of the keys signed it. All are compared, in constant time.

        False for a body that is not UTF-8: the library signs strings, and upstream sends JSON.
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
    """Decode the key after `whsec_`. Raises ValueError, without the text."""
    encoded = secret.removeprefix(_PREFIX)
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if encoded == secret or not key:
        raise ValueError(f"a webhook secret is {_PREFIX} and base64")
    return key


class WebhookUrls:
    """Webhook URLs, one for each attempt. `base` is the public URL of the web port."""

    def __init__(self, base: str, key: bytes) -> None:
        self._base = base.rstrip("/")
        self._key = key

    def url_for(self, attempt_id: str) -> str:
        """The webhook URL of an attempt."""
        return f"{self._base}{WEBHOOK_PATH}/{attempt_id}.{self._mac(attempt_id)}"

    def parse_attempt(self, token: str) -> str | None:
        """The attempt id in the last part of a webhook URL; None: not authentic."""
        match = _TOKEN.fullmatch(token)
        if match is None or not hmac.compare_digest(match[2], self._mac(match[1])):
            return None
        return match[1]

    def _mac(self, attempt_id: str) -> str:
        return hmac.digest(self._key, attempt_id.encode(), "sha256").hex()


_FRESH_SECONDS: Final = 60.0
"""Seconds for which the account's secret is cached: after a rotation the old one is invalid."""
_PAUSE_SECONDS: Final = 1.0
"""Seconds between two fetches, however many webhooks have unknown signatures."""
_MOST_WAITING: Final = 32
_log = structlog.get_logger()


class WebhookSecrets:
    """Keys for verification: the account's secret, fetched from upstream, and configured ones.

    The account's is fetched when the first webhook comes, again after a minute, and when a
    signature is unknown, as it may have been rotated.
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
        """The valid keys."""
        if self._is_expired():
            async with self._fetch_lock:
                if self._is_expired():
                    await self._refetch()
        return self._all_keys()

    async def refresh(self) -> tuple[bytes, ...]:
        """The valid keys, fetched after this call; the cached ones where too many wait.

        Waiting callers share a fetch, and fetches are at least a second apart, so that forged
        webhooks cannot use up the account's rate.
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
            # The cached one stays valid; without any, polling finds every end.
            _log.warning("upstream_webhook_secret_unavailable", error=type(error).__name__)
        self._fetched_at = self._clock()
