"""Finding models: by a query in the verb of its own that Replicate gave it, by text, by shelf."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from yarl import URL

from mediagate_sandbox.answers import json_answer
from mediagate_sandbox.door import origin_of
from mediagate_sandbox.faults.catalogs import as_struck
from mediagate_sandbox.faults.door import fired
from mediagate_sandbox.models import Catalog, Model
from mediagate_sandbox.observations import Observations
from mediagate_sandbox.paging import page_document
from mediagate_sandbox.problems import bad_request, not_found
from mediagate_sandbox.schemas import model_document
from mediagate_sandbox.searching import SHELVES, Shelf, search, search_shelves
from mediagate_sandbox.settings import SandboxSettings

_LONGEST_QUERY = 4096
_USUAL_RESULTS, _MOST_RESULTS = 20, 50


class SearchRoutes:
    """Handlers for `QUERY /v1/models`, `/v1/search` and `/v1/collections`."""

    def __init__(
        self, settings: SandboxSettings, catalog: Catalog, observations: Observations
    ) -> None:
        """Keep what the handlers need."""
        self._settings = settings
        self._catalog = catalog
        self._observations = observations

    def routes(self) -> list[web.RouteDef]:
        """Paths and their handlers."""
        return [
            web.route("QUERY", "/v1/models", self.models),
            web.get("/v1/search", self.everything),
            web.get("/v1/collections", self.collections),
            web.get("/v1/collections/{slug}", self.collection),
        ]

    async def models(self, request: web.Request) -> web.Response:
        """`QUERY /v1/models`: the body is the query, as plain text; pages as the list has them."""
        raw = await request.read()
        if len(raw) > _LONGEST_QUERY:
            raise bad_request(f"A query has at most {_LONGEST_QUERY} bytes.")
        found = search(as_struck(self._catalog, fired()), raw.decode("utf-8", "replace"))
        page = page_document(
            [(-at, each.model) for at, each in enumerate(found)],
            lambda entry: entry[0],
            lambda entry: self._model(entry[1]),
            url=URL(origin_of(request, self._settings)).join(request.rel_url),
            size=self._settings.models_per_page,
        )
        return json_answer(page)

    async def everything(self, request: web.Request) -> web.Response:
        """`GET /v1/search?query&limit`: models and collections. There are no pages to find."""
        query = request.query.get("query", "").strip()
        if not query:
            raise bad_request('Query parameter "query" is required')
        found = search(as_struck(self._catalog, fired()), query)[: _limit(request)]
        return json_answer(
            {
                "query": query,
                "models": [
                    {
                        "model": self._model(each.model),
                        "metadata": {
                            "generated_description": each.model.about,
                            "tags": [shelf.slug for shelf in SHELVES if shelf.holds(each.model)],
                            "score": each.score,
                        },
                    }
                    for each in found
                ],
                "collections": [
                    {**_shelf(each), "models": [model.slug for model in self._on(each)]}
                    for each in search_shelves(query)
                ],
                "pages": [],
            }
        )

    async def collections(self, request: web.Request) -> web.Response:
        """`GET /v1/collections`: all of them, without their models."""
        page = {"previous": None, "next": None, "results": [_shelf(each) for each in SHELVES]}
        return json_answer(page)

    async def collection(self, request: web.Request) -> web.Response:
        """`GET /v1/collections/{slug}`: one, with its models."""
        for shelf in SHELVES:
            if shelf.slug == request.match_info["slug"]:
                models = [self._model(each) for each in self._on(shelf)]
                return json_answer({**_shelf(shelf), "full_description": None, "models": models})
        raise not_found()

    def _on(self, shelf: Shelf) -> list[Model]:
        return [each for each in as_struck(self._catalog, fired()) if shelf.holds(each)]

    def _model(self, model: Model) -> dict[str, Any]:
        return model_document(model, self._observations.runs_by_model[model.slug])


def _shelf(shelf: Shelf) -> dict[str, Any]:
    return {"name": shelf.name, "slug": shelf.slug, "description": shelf.about}


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", str(_USUAL_RESULTS))
    if not (
        text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= _MOST_RESULTS
    ):
        raise bad_request(f'Query parameter "limit" must be from 1 to {_MOST_RESULTS}')
    return int(text)
