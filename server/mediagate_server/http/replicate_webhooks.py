"""Webhooks of upstream, on the web port: who does not know the secret learns nothing here.

The order is that of what a stranger can cost us: the headers, then the size, then the signature,
and only then whose attempt it is. All who cannot sign get the same empty 401; all who can get 200,
whether we know the attempt or not. Bodies are read in a number of places; who comes to an address
that was never minted here has a few of their own, and less time, so that no stranger's slow body
takes the place of one that upstream sends.

A webhook is a hint that upstream has news: what the news is, the gate asks upstream itself, so that
nothing in a body but the prediction's id is ever used.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import StrEnum
from typing import Final

import structlog
from aiohttp import web

from mediagate_server.errors import StoreUnavailable
from mediagate_server.http.servers import mark_recognized
from mediagate_server.observability import metrics
from mediagate_server.upstream.port import NoResponse
from mediagate_server.upstream.replicate.prediction_decoding import decode_prediction
from mediagate_server.upstream.replicate.webhook_verification import (
    WEBHOOK_PATH,
    SignatureHeaders,
    SignatureInvalid,
    WebhookSecrets,
    WebhookUrls,
)

MAX_BODY_BYTES: Final = 1024 * 1024
_MOST_AT_ONCE: Final = 64
_BODY_SECONDS: Final = 10.0
_MOST_OF_ONE_ATTEMPT: Final = 24
"""Bodies at once at one address: an address may become known to others."""
_MOST_OF_STRANGERS: Final = 8
_STRANGERS_SECONDS: Final = 2.0
_HINT_SECONDS: Final = 20.0
"""How long upstream waits for what it told to be durable; then it is to come again."""

_STRANGER: Final = ""
"""In place of an attempt's id."""

OnWebhook = Callable[[str, str], Awaitable[bool]]
"""Told an attempt's id and its prediction's; False where it knows no such attempt.

What nobody but the webhook can tell is durable when it returns.
"""
IsWebhookSeen = Callable[[str], Awaitable[bool]]
"""Told a webhook's id; True where it was claimed."""
ClaimWebhook = Callable[[str, datetime], Awaitable[bool]]
"""Told a webhook's id and the time; True for the first time, also across restarts."""

_log = structlog.get_logger()


class WebhookOutcome(StrEnum):
    """What became of one webhook; the closed set of the metric's labels."""

    TAKEN = "taken"
    UNKNOWN = "unknown"
    """Signed, but the URL is not ours, or nobody knows the attempt."""
    UNREADABLE = "unreadable"
    REPLAYED = "replayed"
    UNSIGNED = "unsigned"
    STALE = "stale"
    FORGED = "forged"
    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"
    BROKEN_OFF = "broken_off"
    """Whoever sent it left before it was whole."""
    BUSY = "busy"
    """More at once than we read, or what was told is not durable yet, or the store is away:
    upstream is to come again."""


_STATUS: Final = {
    WebhookOutcome.TAKEN: 200,
    WebhookOutcome.UNKNOWN: 200,
    WebhookOutcome.UNREADABLE: 200,
    WebhookOutcome.REPLAYED: 409,
    WebhookOutcome.UNSIGNED: 401,
    WebhookOutcome.STALE: 401,
    WebhookOutcome.FORGED: 401,
    WebhookOutcome.TOO_LARGE: 413,
    WebhookOutcome.TOO_SLOW: 408,
    WebhookOutcome.BROKEN_OFF: 400,  # Nobody is there to see it.
    WebhookOutcome.BUSY: 503,
}


class _RequestAborted(Exception):
    """The connection ended in the middle of the body, or went on as no HTTP."""


class ReplicateWebhookRoutes:
    """Takes webhooks and hands on hints. `now` gives the time of day, aware."""

    def __init__(
        self,
        addresses: WebhookUrls,
        secrets: WebhookSecrets,
        seen: IsWebhookSeen,
        claim: ClaimWebhook,
        hint: OnWebhook,
        now: Callable[[], datetime],
        *,
        hint_seconds: float = _HINT_SECONDS,
    ) -> None:
        self._addresses = addresses
        self._secrets = secrets
        self._seen = seen
        self._claim = claim
        self._hint = hint
        self._now = now
        self._hint_seconds = hint_seconds
        self._reading: Counter[str] = Counter()
        self._at_work: set[str] = set()

    def routes(self) -> list[web.RouteDef]:
        """The one path, for the web port."""
        return [web.post(f"{WEBHOOK_PATH}/{{token}}", self.take)]

    async def take(self, request: web.Request) -> web.Response:
        """One webhook. The answer says no more than its status."""
        try:
            outcome = await self._take(request)
        except web.HTTPRequestEntityTooLarge:
            outcome = WebhookOutcome.TOO_LARGE
        except TimeoutError:
            outcome = WebhookOutcome.TOO_SLOW
        except _RequestAborted:
            outcome = WebhookOutcome.BROKEN_OFF
        except StoreUnavailable:
            outcome = WebhookOutcome.BUSY
        metrics.upstream_webhooks.labels(outcome.value).inc()
        _log.debug("upstream_webhook_received", outcome=outcome.value)
        return web.Response(status=_STATUS[outcome])

    async def _take(self, request: web.Request) -> WebhookOutcome:
        now = self._now()
        try:
            signed = SignatureHeaders.parse(request.headers, now.timestamp())
        except SignatureInvalid as error:
            return WebhookOutcome(str(error))
        attempt_id = self._addresses.parse_attempt(request.match_info["token"])
        if attempt_id is not None:
            mark_recognized(request)
        if not self._has_place(attempt_id):
            return WebhookOutcome.BUSY
        body = await self._signed_body(request, signed, attempt_id)
        if body is None:
            return WebhookOutcome.FORGED
        if attempt_id is None:
            return WebhookOutcome.UNKNOWN
        prediction_id = _prediction_id(body)
        if prediction_id is None:
            return WebhookOutcome.UNREADABLE
        return await self._hand_on(signed.id, now, attempt_id, prediction_id)

    async def _hand_on(
        self, webhook_id: str, now: datetime, attempt_id: str, prediction_id: str
    ) -> WebhookOutcome:
        """Hand the hint on, once for each webhook."""
        if webhook_id in self._at_work:
            return WebhookOutcome.REPLAYED
        self._at_work.add(webhook_id)
        try:
            if await self._seen(webhook_id):
                return WebhookOutcome.REPLAYED
            try:
                async with asyncio.timeout(self._hint_seconds):
                    known = await self._hint(attempt_id, prediction_id)
            except TimeoutError:
                return WebhookOutcome.BUSY
            # Claimed when its work is done: upstream comes again to a gate that died over it.
            await self._claim(webhook_id, now)
        finally:
            self._at_work.remove(webhook_id)
        return WebhookOutcome.TAKEN if known else WebhookOutcome.UNKNOWN

    def _has_place(self, attempt_id: str | None) -> bool:
        """Whether there is a place left to read a body in."""
        strangers = self._reading[_STRANGER]
        if attempt_id is None:
            return strangers < _MOST_OF_STRANGERS
        known = self._reading.total() - strangers
        return known < _MOST_AT_ONCE and self._reading[attempt_id] < _MOST_OF_ONE_ATTEMPT

    async def _signed_body(
        self, request: web.Request, signed: SignatureHeaders, attempt_id: str | None
    ) -> bytes | None:
        """The body, in a place of its own until its signature was looked at; None: it is forged."""
        place = attempt_id or _STRANGER
        self._reading[place] += 1
        try:
            body = await _body(request, _BODY_SECONDS if attempt_id else _STRANGERS_SECONDS)
            return body if await self._is_signed(signed, body) else None
        finally:
            self._reading[place] -= 1
            if not self._reading[place]:
                del self._reading[place]

    async def _is_signed(self, signed: SignatureHeaders, body: bytes) -> bool:
        return signed.is_signed_by(await self._secrets.keys(), body) or signed.is_signed_by(
            await self._secrets.refresh(), body
        )


async def _body(request: web.Request, seconds: float) -> bytes:
    """The raw body, which may take so long. Raises HTTPRequestEntityTooLarge before it has been
    read, where it says so; TimeoutError; _RequestAborted.
    """
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, request.content_length or 0)
    try:
        async with asyncio.timeout(seconds):
            return await request.read()
    except (ConnectionResetError, web.RequestPayloadError) as error:
        raise _RequestAborted from error


def _prediction_id(body: bytes) -> str | None:
    try:
        return decode_prediction(body).id
    except NoResponse:
        return None
