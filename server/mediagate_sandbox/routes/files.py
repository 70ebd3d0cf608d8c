"""Endpoint of output files: complete, a byte range or unchanged, without a token, as of a CDN."""

from __future__ import annotations

from aiohttp import web

from mediagate_sandbox.api_errors import not_found
from mediagate_sandbox.examples import ExamplePredictions
from mediagate_sandbox.files import OutputFiles, find_recipe
from mediagate_sandbox.generators.spec import CONTENT_TYPES, file_format
from mediagate_sandbox.range_responses import conditional_response
from mediagate_sandbox.store import Store


class FileRoutes:
    """Handler for `/files/{key}/{name}`."""

    def __init__(self, store: Store, examples: ExamplePredictions, files: OutputFiles) -> None:
        """Create the handler."""
        self._store = store
        self._examples = examples
        self._files = files

    def routes(self) -> list[web.RouteDef]:
        """Paths and their handlers; HEAD is answered as well."""
        return [web.get("/files/{key}/{name}", self.read)]

    async def read(self, request: web.Request) -> web.Response:
        """`GET /files/{key}/{name}`: the file, generated if not cached."""
        key = request.match_info["key"]
        prediction = self._store.by_file(key) or self._examples.by_file(key)
        recipe = find_recipe(prediction, request.match_info["name"])
        if prediction is None or recipe is None:
            raise not_found()
        file = await self._files.read(recipe)
        headers = {
            "Cache-Control": "public,max-age=3600",
            "Content-Type": CONTENT_TYPES[file_format(recipe)],
        }
        return conditional_response(
            request,
            file.content,
            headers,
            etag=file.etag,
            last_modified=prediction.completed_at or prediction.created_at,
        )
