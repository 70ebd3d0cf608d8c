"""Endpoint of output files: complete or a byte range, without a token, as of a CDN."""

from __future__ import annotations

from aiohttp import web

from mediagate_sandbox.api_errors import not_found
from mediagate_sandbox.files import OutputFiles, find_recipe
from mediagate_sandbox.generators.spec import CONTENT_TYPES, Recipe, file_format
from mediagate_sandbox.range_responses import requested_range
from mediagate_sandbox.store import Store


class FileRoutes:
    """Handler for `/files/{key}/{name}`."""

    def __init__(self, store: Store, files: OutputFiles) -> None:
        """Create the handler."""
        self._store = store
        self._files = files

    def routes(self) -> list[web.RouteDef]:
        """Paths and their handlers; HEAD is answered as well."""
        return [web.get("/files/{key}/{name}", self.read)]

    async def read(self, request: web.Request) -> web.Response:
        """`GET /files/{key}/{name}`: the file, generated if not cached."""
        recipe = self._find(request)
        content = await self._files.read(recipe)
        headers = {
            "Cache-Control": "public,max-age=3600",
            "Content-Type": CONTENT_TYPES[file_format(recipe)],
        }
        return requested_range(request, content, headers)

    def _find(self, request: web.Request) -> Recipe:
        recipe = find_recipe(self._store, request.match_info["key"], request.match_info["name"])
        if recipe is None:
            raise not_found()
        return recipe
