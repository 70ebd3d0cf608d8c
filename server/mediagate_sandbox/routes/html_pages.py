"""HTML pages: start page, and one prediction with its media."""

from __future__ import annotations

from html import escape
from typing import Any

from aiohttp import web

from mediagate_sandbox.api_errors import not_found
from mediagate_sandbox.examples import ExamplePredictions
from mediagate_sandbox.middleware.auth import origin_of
from mediagate_sandbox.models import Catalog
from mediagate_sandbox.prediction_json import output
from mediagate_sandbox.settings import SandboxSettings
from mediagate_sandbox.store import Store

_FRONT = """Mediagate sandbox: a Replicate-compatible API that makes everything up.

Base URL    {origin}/v1
Try         curl -s {origin}/v1/predictions -H 'Authorization: Bearer any' -H 'Prefer: wait' \\
              -d '{{"version": "black-forest-labs/flux-schnell", "input": {{"prompt": "a boat"}}}}'
Tests       GET {origin}/sandbox/state, POST {origin}/sandbox/streams/cut
Seed        {seed}; {scale:g} real seconds per model second

Models
{models}
"""
_TAGS = {
    "png": '<img src="{0}">',
    "jpg": '<img src="{0}">',
    "webp": '<img src="{0}">',
    "mp4": '<video src="{0}" controls loop></video>',
    "wav": '<audio src="{0}" controls></audio>',
    "mp3": '<audio src="{0}" controls></audio>',
}
_PAGE = """<!doctype html><meta charset="utf-8"><title>{id}</title>
<style>body{{font:16px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
img,video{{max-width:100%}}pre{{white-space:pre-wrap}}</style>
<h1>{model}</h1><p>{id}: {status}</p>{output}
"""


class HtmlPageRoutes:
    """Handlers for `/` and `/p/{id}`."""

    def __init__(
        self,
        settings: SandboxSettings,
        catalog: Catalog,
        store: Store,
        examples: ExamplePredictions,
    ) -> None:
        """Create the handlers."""
        self._examples = examples
        self._settings = settings
        self._catalog = catalog
        self._store = store

    def routes(self) -> list[web.RouteDef]:
        """Paths and their handlers."""
        return [web.get("/", self.front), web.get("/p/{id}", self.prediction)]

    async def front(self, request: web.Request) -> web.Response:
        """`GET /`: start page with the models."""
        models = "\n".join(f"  {each.kind:<8}{each.slug}" for each in self._catalog)
        text = _FRONT.format(
            origin=origin_of(request, self._settings),
            seed=self._settings.seed,
            scale=self._settings.time_scale,
            models=models,
        )
        return web.Response(text=text, content_type="text/plain")

    async def prediction(self, request: web.Request) -> web.Response:
        """`GET /p/{id}`: page of a prediction, the target of `urls.web`."""
        prediction_id = request.match_info["id"]
        prediction = self._store.by_id(prediction_id) or self._examples.by_id(prediction_id)
        if prediction is None:
            raise not_found()
        shown_output = output(prediction, origin_of(request, self._settings))
        text = _PAGE.format(
            id=escape(prediction.id),
            model=escape(prediction.request.model.slug),
            status=prediction.status,
            output=_html(shown_output, streams=prediction.request.model.streams),
        )
        return web.Response(text=text, content_type="text/html")


def _html(shown_output: Any, *, streams: bool) -> str:
    match shown_output:
        case None:
            return ""
        case list() if streams:
            return f"<pre>{escape(''.join(shown_output))}</pre>"
        case list():
            return "".join(_html(each, streams=False) for each in shown_output)
        case dict():
            return "".join(_html(each, streams=False) for each in shown_output.values())
        case _:
            tag = _TAGS.get(str(shown_output).rpartition(".")[2], "<pre>{0}</pre>")
            return f"<p>{tag.format(escape(str(shown_output)))}</p>"
