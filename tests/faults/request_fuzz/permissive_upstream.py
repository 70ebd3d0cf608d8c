"""An upstream whose models take any input, and whose predictions have ended when they are made."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import web

from mediagate_server.catalog.models.model import OutputKind
from tests.catalog.builders import shipped_catalog

MODELS: Final = ("fuzz/anything", "fuzz/closed", "fuzz/listed")
"""Models that no catalog knows."""
PNG: Final = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
)
METRICS: Final = {
    "predict_time": 1.5,
    "input_token_count": 11,
    "output_token_count": 7,
    "image_output_count": 1,
    "video_output_count": 1,
    "video_output_duration_seconds": 5,
    "audio_output_duration_seconds": 5,
}
_OPEN: Final[dict[str, Any]] = {"type": "object", "additionalProperties": True}
_SCHEMAS: Final[dict[str, dict[str, Any]]] = {
    "fuzz/closed": {
        "type": "object",
        "properties": {"prompt": {"type": "string"}, "count": {"type": "integer", "maximum": 9}},
        "required": ["prompt"],
    },
    "fuzz/listed": {**_OPEN, "properties": {"images": {"type": "array", "items": {}}}},
}


class PermissiveUpstream:
    """Answers for every model there is. One prediction is as good as another."""

    def __init__(self) -> None:
        self.url = ""
        self.created = 0
        self._numbers = itertools.count()
        self._kinds = {model.slug: model.output.kind for model in shipped_catalog().models()}

    async def model(self, request: web.Request) -> web.Response:
        """GET of a model: its schema forbids nothing, but for one of them."""
        slug = "{owner}/{name}".format(**request.match_info)
        if slug not in self._kinds and slug not in MODELS:
            return web.json_response({"detail": "nowhere"}, status=404)
        owner, name = slug.split("/")
        schemas = {"Input": _SCHEMAS.get(slug, _OPEN), "Output": {}}
        version = {"id": "a" * 64, "openapi_schema": {"components": {"schemas": schemas}}}
        document = {"owner": owner, "name": name, "is_official": True, "latest_version": version}
        return web.json_response(document)

    async def create(self, request: web.Request) -> web.Response:
        """POST of a prediction: it has succeeded."""
        self.created += 1
        await request.read()
        match = request.match_info
        slug = f"{match['owner']}/{match['name']}" if "owner" in match else ""
        return web.json_response(self._prediction(f"p{next(self._numbers):025}", slug), status=201)

    async def prediction(self, request: web.Request) -> web.Response:
        """GET of a prediction."""
        return web.json_response(self._prediction(request.match_info["id"], ""))

    async def predictions(self, _: web.Request) -> web.Response:
        """GET of the list: whatever was in doubt is not there."""
        return web.json_response({"results": [], "next": None, "previous": None})

    async def upload(self, request: web.Request) -> web.Response:
        """POST of a file."""
        await request.read()
        return web.json_response(
            {"id": "f", "urls": {"get": f"{self.url}/files/f.png"}}, status=201
        )

    async def file(self, _: web.Request) -> web.Response:
        """GET of an output."""
        return web.Response(body=PNG, content_type="image/png")

    def _prediction(self, name: str, slug: str) -> dict[str, Any]:
        return {
            "id": name,
            "status": "succeeded",
            "model": slug,
            "version": "hidden",
            "output": self._output(slug),
            "metrics": METRICS,
            "urls": {},
        }

    def _output(self, slug: str) -> Any:
        link = f"{self.url}/files/o.png"
        match self._kinds.get(slug):
            case OutputKind.TEXT_CHUNKS:
                return ["Hel", "lo"]
            case OutputKind.TEXT:
                return "Hello"
            case OutputKind.VERDICT:
                return "safe"
            case OutputKind.MEDIA:
                return link
            case OutputKind.MEDIA_LIST:
                return [link]
        return {"text": "Hello", "link": link, "number": 5}


@asynccontextmanager
async def permissive_upstream() -> AsyncIterator[PermissiveUpstream]:
    """Run it on a free port of loopback."""
    upstream = PermissiveUpstream()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/predictions", upstream.create)
    app.router.add_post("/v1/models/{owner}/{name}/predictions", upstream.create)
    app.router.add_get("/v1/predictions", upstream.predictions)
    app.router.add_get("/v1/predictions/{id}", upstream.prediction)
    app.router.add_post("/v1/predictions/{id}/cancel", upstream.prediction)
    app.router.add_get("/v1/models/{owner}/{name}", upstream.model)
    app.router.add_post("/v1/files", upstream.upload)
    app.router.add_get("/files/{name}", upstream.file)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    upstream.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield upstream
    finally:
        await runner.cleanup()
