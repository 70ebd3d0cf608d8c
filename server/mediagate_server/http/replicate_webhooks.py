"""Receiver of Replicate's webhooks: signature, replay protection, then a poll of the prediction.

Checks are ordered by what a stranger can cost us: the headers, then the size, then the signature,
and only then whose attempt it is. All who cannot sign get the same empty 401; all who can get 200,
whether we know the attempt or not. The bodies that are read at once are limited; requests to a URL
that was never issued here have a few slots of their own, and less time, so that no stranger's slow
body takes the slot of one that upstream sends.

A webhook says no more than that upstream has news: the prediction itself is read from upstream, so
that nothing in a body but its id is ever used.
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
_MAX_BODIES: Final = 64
_BODY_SECONDS: Final = 10.0
_MAX_BODIES_PER_ATTEMPT: Final = 24
"""Bodies at once at one URL: a URL may become known to others."""
_MAX_UNKNOWN_BODIES: Final = 8
_UNKNOWN_BODY_SECONDS: Final = 2.0
_HANDLER_SECONDS: Final = 20.0
"""How long a webhook waits for its result to be durable; then upstream is to send it again."""

_UNKNOWN_ATTEMPT: Final = ""
"""In place of an attempt's id."""

OnWebhook = Callable[[str, str], Awaitable[bool]]
"""Handles a webhook by the ids of attempt and prediction; False where there is no such attempt.

What only the webhook can tell is durable when it returns.
"""
IsWebhookSeen = Callable[[str], Awaitable[bool]]
"""Whether a webhook was claimed, by its id."""
ClaimWebhook = Callable[[str, datetime], Awaitable[bool]]
"""Claims a webhook's id at a time; True for the first time, also across restarts."""

_log = structlog.get_logger()


class WebhookOutcome(StrEnum):
    """Outcome of one webhook; the closed set of the metric's labels."""

    ACCEPTED = "taken"
    UNKNOWN = "unknown"
    """Signed, but the URL is not ours, or nobody knows the attempt."""
    UNREADABLE = "unreadable"
    REPLAYED = "replayed"
    UNSIGNED = "unsigned"
    STALE = "stale"
    FORGED = "forged"
    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"
    ABORTED = "broken_off"
    """The connection ended before the body was complete."""
    BUSY = "busy"
    """More at once than we read, or its result is not durable yet, or the store is away:
    upstream is to send it again."""


_STATUS: Final = {
    WebhookOutcome.ACCEPTED: 200,
    WebhookOutcome.UNKNOWN: 200,
    WebhookOutcome.UNREADABLE: 200,
    WebhookOutcome.REPLAYED: 409,
    WebhookOutcome.UNSIGNED: 401,
    WebhookOutcome.STALE: 401,
    WebhookOutcome.FORGED: 401,
    WebhookOutcome.TOO_LARGE: 413,
    WebhookOutcome.TOO_SLOW: 408,
    WebhookOutcome.ABORTED: 400,  # Nobody is there to see it.
    WebhookOutcome.BUSY: 503,
}


class _RequestAborted(Exception):
    """The connection ended in the middle of the body, or went on as no HTTP."""


class ReplicateWebhookRoutes:
    """Receives webhooks and has their predictions polled. `now`: the time of day, aware."""

    def __init__(
        self,
        urls: WebhookUrls,
        secrets: WebhookSecrets,
        is_seen: IsWebhookSeen,
        claim: ClaimWebhook,
        on_webhook: OnWebhook,
        now: Callable[[], datetime],
        *,
        handler_seconds: float = _HANDLER_SECONDS,
    ) -> None:
        self._urls = urls
        self._secrets = secrets
        self._is_seen = is_seen
        self._claim = claim
        self._on_webhook = on_webhook
        self._now = now
        self._handler_seconds = handler_seconds
        self._bodies: Counter[str] = Counter()
        self._in_progress: set[str] = set()

    def routes(self) -> list[web.RouteDef]:
        """The route, for the public port."""
        return [web.post(f"{WEBHOOK_PATH}/{{token}}", self.receive)]

    async def receive(self, request: web.Request) -> web.Response:
        """Receive one webhook. The response is a status alone."""
        try:
            outcome = await self._receive(request)
        except web.HTTPRequestEntityTooLarge:
            outcome = WebhookOutcome.TOO_LARGE
        except TimeoutError:
            outcome = WebhookOutcome.TOO_SLOW
        except _RequestAborted:
            outcome = WebhookOutcome.ABORTED
        except StoreUnavailable:
            outcome = WebhookOutcome.BUSY
        metrics.upstream_webhooks.labels(outcome.value).inc()
        _log.debug("upstream_webhook_received", outcome=outcome.value)
        return web.Response(status=_STATUS[outcome])

    async def _receive(self, request: web.Request) -> WebhookOutcome:
        now = self._now()
        try:
            signed = SignatureHeaders.parse(request.headers, now.timestamp())
        except SignatureInvalid as error:
            return WebhookOutcome(str(error))
        attempt_id = self._urls.parse_attempt(request.match_info["token"])
        if attempt_id is not None:
            mark_recognized(request)
        if not self._has_slot(attempt_id):
            return WebhookOutcome.BUSY
        body = await self._signed_body(request, signed, attempt_id)
        if body is None:
            return WebhookOutcome.FORGED
        if attempt_id is None:
            return WebhookOutcome.UNKNOWN
        prediction_id = _prediction_id(body)
        if prediction_id is None:
            return WebhookOutcome.UNREADABLE
        return await self._handle_once(signed.id, now, attempt_id, prediction_id)

    async def _handle_once(
        self, webhook_id: str, now: datetime, attempt_id: str, prediction_id: str
    ) -> WebhookOutcome:
        """Have the prediction polled, once for each webhook."""
        if webhook_id in self._in_progress:
            return WebhookOutcome.REPLAYED
        self._in_progress.add(webhook_id)
        try:
            if await self._is_seen(webhook_id):
                return WebhookOutcome.REPLAYED
            try:
                async with asyncio.timeout(self._handler_seconds):
                    attempt_exists = await self._on_webhook(attempt_id, prediction_id)
            except TimeoutError:
                return WebhookOutcome.BUSY
            # Claimed when its work is done: upstream sends it again to a server that died over it.
            await self._claim(webhook_id, now)
        finally:
            self._in_progress.remove(webhook_id)
        return WebhookOutcome.ACCEPTED if attempt_exists else WebhookOutcome.UNKNOWN

    def _has_slot(self, attempt_id: str | None) -> bool:
        """Whether one more body may be read at once."""
        unknown = self._bodies[_UNKNOWN_ATTEMPT]
        if attempt_id is None:
            return unknown < _MAX_UNKNOWN_BODIES
        ours = self._bodies.total() - unknown
        return ours < _MAX_BODIES and self._bodies[attempt_id] < _MAX_BODIES_PER_ATTEMPT

    async def _signed_body(
        self, request: web.Request, signed: SignatureHeaders, attempt_id: str | None
    ) -> bytes | None:
        """The body, counted until its signature was checked; None: it is forged."""
        key = attempt_id or _UNKNOWN_ATTEMPT
        self._bodies[key] += 1
        try:
            body = await _body(request, _BODY_SECONDS if attempt_id else _UNKNOWN_BODY_SECONDS)
            return body if await self._is_signed(signed, body) else None
        finally:
            self._bodies[key] -= 1
            if not self._bodies[key]:
                del self._bodies[key]

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
