"""Output files: whole or a range of bytes, without a token, as a delivery network serves them."""

from __future__ import annotations

from aiohttp import web

from mediagate_sandbox.files import Files, find_recipe
from mediagate_sandbox.media import CONTENT_TYPES, Recipe, file_format
from mediagate_sandbox.problems import Problem, not_found
from mediagate_sandbox.store import Store


class FileRoutes:
    """Handler for `/files/{key}/{name}`."""

    def __init__(self, store: Store, files: Files) -> None:
        """Keep what the handler needs."""
        self._store = store
        self._files = files

    def routes(self) -> list[web.RouteDef]:
        """Paths and their handlers; HEAD is answered as well."""
        return [web.get("/files/{key}/{name}", self.read)]

    async def read(self, request: web.Request) -> web.Response:
        """`GET /files/{key}/{name}`: the file, made now if nobody has read it before."""
        recipe = self._find(request)
        content = await self._files.read(recipe)
        headers = {"Cache-Control": "public,max-age=3600", "Accept-Ranges": "bytes"}
        status, part = 200, content
        asked = _range(request, len(content))
        if asked is not None:
            status, part = 206, content[asked]
            headers["Content-Range"] = f"bytes {asked.start}-{asked.stop - 1}/{len(content)}"
        return web.Response(
            body=part,
            status=status,
            content_type=CONTENT_TYPES[file_format(recipe)],
            headers=headers,
        )

    def _find(self, request: web.Request) -> Recipe:
        recipe = find_recipe(self._store, request.match_info["key"], request.match_info["name"])
        if recipe is None:
            raise not_found()
        return recipe


def _range(request: web.Request, length: int) -> slice | None:
    """The part asked for, or None for the whole. Raises Problem (416) if there is none of it."""
    try:
        start, stop, _ = request.http_range.indices(length)
    except ValueError:
        return None
    if "Range" not in request.headers:
        return None
    if start >= stop:
        headers = {"Content-Range": f"bytes */{length}"}
        raise Problem(416, "The requested range is not in this file.", headers=headers)
    return slice(start, stop)
