"""Control endpoints for tests: state, reset, stream cuts.

None of them exists on Replicate, and none needs a token.
"""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from mediagate_sandbox.api_errors import bad_request
from mediagate_sandbox.json_response import respond_json
from mediagate_sandbox.reset import SandboxReset
from mediagate_sandbox.settings import SandboxSettings
from mediagate_sandbox.stream_cuts import StreamCut


class ControlRoutes:
    """Handlers for everything under `/sandbox`."""

    def __init__(self, settings: SandboxSettings, reset: SandboxReset) -> None:
        """Create the handlers."""
        self._settings = settings
        self._beginning = reset
        self._store = reset.store
        self._cuts = reset.cuts
        self._request_log = reset.request_log

    def routes(self) -> list[web.RouteDef]:
        """Paths and their handlers."""
        return [
            web.get("/sandbox/state", self.state),
            web.post("/sandbox/reset", self.reset),
            web.post("/sandbox/streams/cut", self.cut),
            web.delete("/sandbox/streams/cut", self.uncut),
        ]

    async def state(self, request: web.Request) -> web.Response:
        """`GET /sandbox/state`: the request log."""
        predictions = [
            {"id": each.id, "model": each.request.model.slug, "status": each.status}
            for each in self._store.newest_first()
        ]
        document = {
            "seed": self._settings.seed,
            "time_scale": self._settings.time_scale,
            **self._request_log.document(),
            "predictions": predictions,
            "streams": {"cut": self._cuts.active, "cuts_made": self._cuts.count},
        }
        return respond_json(document)

    async def reset(self, request: web.Request) -> web.Response:
        """`POST /sandbox/reset`: the initial state, but the bill stays."""
        self._beginning.apply()
        return respond_json({})

    async def cut(self, request: web.Request) -> web.Response:
        """`POST /sandbox/streams/cut`: cut streams once they have sent `after_bytes` bytes.

        Body: `{"after_bytes": N, "times": M or "always", "how": "abrupt" or "clean"}`; `times` is
        1 and `how` is `abrupt` unless told.
        """
        self._cuts.set_cut(_read_cut(await request.read()))
        return respond_json({"cut": self._cuts.active})

    async def uncut(self, request: web.Request) -> web.Response:
        """`DELETE /sandbox/streams/cut`: stop cutting streams."""
        self._cuts.set_cut(None)
        return respond_json({"cut": None})


def _read_cut(raw: bytes) -> StreamCut:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise bad_request("The request body is not valid JSON.") from None
    if not isinstance(body, dict) or not set(body) <= {"after_bytes", "times", "how"}:
        raise bad_request("The body takes after_bytes, times and how.")
    times, how = body.get("times", 1), body.get("how", "abrupt")
    if not _is_integer(body.get("after_bytes"), 0):
        raise bad_request("after_bytes must be a whole number of bytes.")
    if times != "always" and not _is_integer(times, 1):
        raise bad_request('times must be a whole number from 1, or "always".')
    if how not in ("abrupt", "clean"):
        raise bad_request('how must be "abrupt" or "clean".')
    return StreamCut(body["after_bytes"], None if times == "always" else times, how)


def _is_integer(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
