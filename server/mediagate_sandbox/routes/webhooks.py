"""Endpoints of the webhook secret: read with a token, rotated by tests without."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from mediagate_sandbox.api_errors import bad_request
from mediagate_sandbox.clock import Clock
from mediagate_sandbox.json_response import respond_json
from mediagate_sandbox.webhook_signing import WebhookSigner, new_secret

_LONGEST_OVERLAP = 86_400


class WebhookRoutes:
    """Handlers for `/v1/webhooks/default/secret` and `/sandbox/webhooks/secret`."""

    def __init__(self, clock: Clock, signer: WebhookSigner) -> None:
        """Create the handlers."""
        self._clock = clock
        self._signer = signer

    def routes(self) -> list[web.RouteDef]:
        """Replicate's own path and its handler."""
        return [web.get("/v1/webhooks/default/secret", self.secret)]

    def control_routes(self) -> list[web.RouteDef]:
        """Control path and its handler."""
        return [web.post("/sandbox/webhooks/secret", self.rotate)]

    async def secret(self, request: web.Request) -> web.Response:
        """`GET /v1/webhooks/default/secret`: the current secret."""
        return respond_json({"key": self._signer.secret})

    async def rotate(self, request: web.Request) -> web.Response:
        """`POST /sandbox/webhooks/secret`: rotate the secret.

        Body: `{"key": "whsec_...", "overlap_seconds": N}`, both optional: a new secret is drawn,
        and the old one counts no more. During the overlap webhooks are signed with both.
        """
        body = _read(await request.read())
        try:
            self._signer.rotate(
                body.get("key", new_secret()), self._clock.now(), body.get("overlap_seconds", 0)
            )
        except ValueError as error:
            raise bad_request(f"key: {error}") from None
        return await self.secret(request)


def _read(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw or b"{}")
    except orjson.JSONDecodeError:
        raise bad_request("The request body is not valid JSON.") from None
    if not isinstance(body, dict) or not set(body) <= {"key", "overlap_seconds"}:
        raise bad_request("The body takes key and overlap_seconds.")
    if not isinstance(body.get("key", ""), str):
        raise bad_request("key must be a string.")
    overlap = body.get("overlap_seconds", 0)
    number = isinstance(overlap, int | float) and not isinstance(overlap, bool)
    if not number or not 0 <= overlap <= _LONGEST_OVERLAP:
        raise bad_request(f"overlap_seconds must be a number from 0 to {_LONGEST_OVERLAP}.")
    return body
