"""Webhooks of upstream, on the web port: who does not know the secret learns nothing here.

The order is that of what a stranger can cost us: the headers, then the size, then the signature,
and only then whose attempt it is. All who cannot sign get the same empty 401; all who can get 200,
whether we know the attempt or not. A webhook is a hint that upstream has news: what the news is,
the gate asks upstream itself, so that nothing in a body but the prediction's id is ever used.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import StrEnum
from typing import Final

import structlog
from aiohttp import web

from mediagate_server import telemetry
from mediagate_server.errors import StoreUnavailable
from mediagate_server.replicate.decoding import decode_prediction
from mediagate_server.replicate.port import NoAnswer
from mediagate_server.replicate.webhook_secrets import WebhookSecrets
from mediagate_server.replicate.webhooks import PATH, NotSigned, Signed, WebhookAddresses

LARGEST_BODY: Final = 1024 * 1024
_MOST_AT_ONCE: Final = 64
_BODY_SECONDS: Final = 10.0

Hint = Callable[[str, str], Awaitable[bool]]
"""Told an attempt's id and its prediction's; False where it knows no such attempt.

What nobody but the webhook can tell is durable when it returns.
"""
Seen = Callable[[str], Awaitable[bool]]
"""Told a webhook's id; True where it was claimed."""
Claim = Callable[[str, datetime], Awaitable[bool]]
"""Told a webhook's id and the time; True for the first time, also across restarts."""

_log = structlog.get_logger()


class Outcome(StrEnum):
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
    """More at once than we read, or the store is away: upstream is to come again."""


_STATUS: Final = {
    Outcome.TAKEN: 200,
    Outcome.UNKNOWN: 200,
    Outcome.UNREADABLE: 200,
    Outcome.REPLAYED: 409,
    Outcome.UNSIGNED: 401,
    Outcome.STALE: 401,
    Outcome.FORGED: 401,
    Outcome.TOO_LARGE: 413,
    Outcome.TOO_SLOW: 408,
    Outcome.BROKEN_OFF: 400,  # Nobody is there to see it.
    Outcome.BUSY: 503,
}


class _BrokenOff(Exception):
    """The connection ended in the middle of the body."""


class Webhooks:
    """Takes webhooks and hands on hints. `now` gives the time of day, aware."""

    def __init__(
        self,
        addresses: WebhookAddresses,
        secrets: WebhookSecrets,
        seen: Seen,
        claim: Claim,
        hint: Hint,
        now: Callable[[], datetime],
    ) -> None:
        self._addresses = addresses
        self._secrets = secrets
        self._seen = seen
        self._claim = claim
        self._hint = hint
        self._now = now
        self._reading = 0
        self._at_work: set[str] = set()

    def routes(self) -> list[web.RouteDef]:
        """The one path, for the web port."""
        return [web.post(f"{PATH}/{{token}}", self.take)]

    async def take(self, request: web.Request) -> web.Response:
        """One webhook. The answer says no more than its status."""
        try:
            outcome = await self._take(request)
        except web.HTTPRequestEntityTooLarge:
            outcome = Outcome.TOO_LARGE
        except TimeoutError:
            outcome = Outcome.TOO_SLOW
        except _BrokenOff:
            outcome = Outcome.BROKEN_OFF
        except StoreUnavailable:
            outcome = Outcome.BUSY
        telemetry.webhooks.labels(outcome.value).inc()
        _log.debug("webhook", outcome=outcome.value)
        return web.Response(status=_STATUS[outcome])

    async def _take(self, request: web.Request) -> Outcome:
        now = self._now()
        try:
            signed = Signed.of(request.headers, now.timestamp())
        except NotSigned as error:
            return Outcome(str(error))
        if self._reading >= _MOST_AT_ONCE:
            return Outcome.BUSY
        self._reading += 1
        try:
            body = await _body(request)
            if not await self._is_signed(signed, body):
                return Outcome.FORGED
        finally:
            self._reading -= 1
        attempt_id = self._addresses.attempt_of(request.match_info["token"])
        if attempt_id is None:
            return Outcome.UNKNOWN
        prediction_id = _prediction_id(body)
        if prediction_id is None:
            return Outcome.UNREADABLE
        if signed.id in self._at_work:
            return Outcome.REPLAYED
        self._at_work.add(signed.id)
        try:
            if await self._seen(signed.id):
                return Outcome.REPLAYED
            known = await self._hint(attempt_id, prediction_id)
            # Claimed when its work is done: upstream comes again to a gate that died over it.
            await self._claim(signed.id, now)
        finally:
            self._at_work.remove(signed.id)
        return Outcome.TAKEN if known else Outcome.UNKNOWN

    async def _is_signed(self, signed: Signed, body: bytes) -> bool:
        return signed.by(await self._secrets.keys(), body) or signed.by(
            await self._secrets.newer(), body
        )


async def _body(request: web.Request) -> bytes:
    """The raw body. Raises HTTPRequestEntityTooLarge before it has been read, where it says so;
    TimeoutError; _BrokenOff.
    """
    if (request.content_length or 0) > LARGEST_BODY:
        raise web.HTTPRequestEntityTooLarge(LARGEST_BODY, request.content_length or 0)
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            return await request.read()
    except ConnectionResetError as error:
        raise _BrokenOff from error


def _prediction_id(body: bytes) -> str | None:
    try:
        return decode_prediction(body).id
    except NoAnswer:
        return None
