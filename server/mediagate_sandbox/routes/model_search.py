"""Endpoints of model search and collections."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from yarl import URL

from mediagate_sandbox.api_errors import bad_request, not_found
from mediagate_sandbox.examples import ExamplePredictions
from mediagate_sandbox.faults.http_faults import fired_faults
from mediagate_sandbox.faults.model_faults import apply_model_faults
from mediagate_sandbox.json_response import respond_json
from mediagate_sandbox.middleware.auth import origin_of
from mediagate_sandbox.model_json import model_json
from mediagate_sandbox.model_search import COLLECTIONS, ModelCollection, search, search_collections
from mediagate_sandbox.models import Catalog, Model
from mediagate_sandbox.paging import page_json
from mediagate_sandbox.request_log import RequestLog
from mediagate_sandbox.settings import SandboxSettings

_LONGEST_QUERY = 4096
_USUAL_RESULTS, _MOST_RESULTS = 20, 50


class ModelSearchRoutes:
    """Handlers for `QUERY /v1/models`, `/v1/search` and `/v1/collections`."""

    def __init__(
        self,
        settings: SandboxSettings,
        catalog: Catalog,
        request_log: RequestLog,
        examples: ExamplePredictions,
    ) -> None:
        """Create the handlers."""
        self._settings = settings
        self._catalog = catalog
        self._request_log = request_log
        self._examples = examples

    def routes(self) -> list[web.RouteDef]:
        """Paths and their handlers."""
        return [
            web.route("QUERY", "/v1/models", self.models),
            web.get("/v1/search", self.everything),
            web.get("/v1/collections", self.collections),
            web.get("/v1/collections/{slug}", self.collection),
        ]

    async def models(self, request: web.Request) -> web.Response:
        """`QUERY /v1/models`: the body is the query, as plain text; pages as of the list."""
        raw = await request.read()
        if len(raw) > _LONGEST_QUERY:
            raise bad_request(f"A query has at most {_LONGEST_QUERY} bytes.")
        hits = search(
            apply_model_faults(self._catalog, fired_faults()), raw.decode("utf-8", "replace")
        )
        origin = origin_of(request, self._settings)
        page = page_json(
            [(-at, each.model) for at, each in enumerate(hits)],
            lambda entry: entry[0],
            lambda entry: self._model(entry[1], origin),
            url=URL(origin).join(request.rel_url),
            size=self._settings.models_per_page,
        )
        return respond_json(page)

    async def everything(self, request: web.Request) -> web.Response:
        """`GET /v1/search?query&limit`: models and collections; no documentation pages."""
        query = request.query.get("query", "").strip()
        if not query:
            raise bad_request('Query parameter "query" is required')
        origin = origin_of(request, self._settings)
        hits = search(apply_model_faults(self._catalog, fired_faults()), query)[: _limit(request)]
        return respond_json(
            {
                "query": query,
                "models": [
                    {
                        "model": self._model(each.model, origin),
                        "metadata": {
                            "generated_description": each.model.about,
                            "tags": [
                                shelf.slug for shelf in COLLECTIONS if shelf.contains(each.model)
                            ],
                            "score": each.score,
                        },
                    }
                    for each in hits
                ],
                "collections": [
                    {**_shelf(each), "models": [model.slug for model in self._on(each)]}
                    for each in search_collections(query)
                ],
                "pages": [],
            }
        )

    async def collections(self, request: web.Request) -> web.Response:
        """`GET /v1/collections`: all of them, without their models."""
        page = {"previous": None, "next": None, "results": [_shelf(each) for each in COLLECTIONS]}
        return respond_json(page)

    async def collection(self, request: web.Request) -> web.Response:
        """`GET /v1/collections/{slug}`: one, with its models."""
        for shelf in COLLECTIONS:
            if shelf.slug == request.match_info["slug"]:
                origin = origin_of(request, self._settings)
                models = [self._model(each, origin) for each in self._on(shelf)]
                return respond_json({**_shelf(shelf), "full_description": None, "models": models})
        raise not_found()

    def _on(self, shelf: ModelCollection) -> list[Model]:
        return [
            each
            for each in apply_model_faults(self._catalog, fired_faults())
            if shelf.contains(each)
        ]

    def _model(self, model: Model, origin: str) -> dict[str, Any]:
        example = self._examples.document(model.slug, origin)
        return model_json(model, self._request_log.runs_by_model[model.slug], example)


def _shelf(shelf: ModelCollection) -> dict[str, Any]:
    return {"name": shelf.name, "slug": shelf.slug, "description": shelf.about}


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", str(_USUAL_RESULTS))
    if not (
        text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= _MOST_RESULTS
    ):
        raise bad_request(f'Query parameter "limit" must be from 1 to {_MOST_RESULTS}')
    return int(text)
