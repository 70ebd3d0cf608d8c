"""Endpoints of models, versions and deployments."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from yarl import URL

from mediagate_sandbox.api_errors import not_found
from mediagate_sandbox.examples import ExamplePredictions
from mediagate_sandbox.faults.http_faults import fired_faults
from mediagate_sandbox.faults.model_faults import apply_model_faults
from mediagate_sandbox.json_response import respond_json
from mediagate_sandbox.middleware.auth import origin_of
from mediagate_sandbox.model_json import (
    deployment_json,
    model_json,
    unreleased_model_json,
    version_json,
)
from mediagate_sandbox.models import Catalog, Model
from mediagate_sandbox.paging import page_json
from mediagate_sandbox.request_log import RequestLog
from mediagate_sandbox.settings import SandboxSettings


class ModelRoutes:
    """Handlers for `/v1/models` and `/v1/deployments`, reading only."""

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
            web.get("/v1/models", self.list),
            web.get("/v1/models/{owner}/{name}", self.get),
            web.get("/v1/models/{owner}/{name}/versions", self.versions),
            web.get("/v1/models/{owner}/{name}/versions/{version}", self.version),
            web.get("/v1/models/{owner}/{name}/examples", self.examples),
            web.get("/v1/models/{owner}/{name}/readme", self.readme),
            web.get("/v1/deployments", self.deployments),
            web.get("/v1/deployments/{owner}/{name}", self.deployment),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """`GET /v1/models`: all models, page by page."""
        numbered = [
            (-at, model)
            for at, model in enumerate(apply_model_faults(self._catalog, fired_faults()))
        ]
        origin = origin_of(request, self._settings)
        page = page_json(
            numbered,
            lambda entry: entry[0],
            lambda entry: self._document(entry[1], origin),
            url=URL(origin).join(request.rel_url),
            size=self._settings.models_per_page,
        )
        return respond_json(page)

    async def get(self, request: web.Request) -> web.Response:
        """`GET /v1/models/{owner}/{name}`."""
        unreleased = self._catalog.unreleased.get(_slug(request))
        if unreleased is not None:
            return respond_json(unreleased_model_json(unreleased))
        origin = origin_of(request, self._settings)
        return respond_json(self._document(self._find(request), origin))

    async def versions(self, request: web.Request) -> web.Response:
        """`GET /v1/models/{owner}/{name}/versions`: the newest first."""
        results = []
        if _slug(request) not in self._catalog.unreleased:
            model = self._find(request)
            versions = (model.version, *model.older_versions)
            results = [version_json(model, each) for each in versions]
        return respond_json({"previous": None, "next": None, "results": results})

    async def version(self, request: web.Request) -> web.Response:
        """`GET /v1/models/{owner}/{name}/versions/{version}`."""
        model, version = self._find(request), request.match_info["version"]
        if version not in (model.version, *model.older_versions):
            raise not_found()
        return respond_json(version_json(model, version))

    async def examples(self, request: web.Request) -> web.Response:
        """`GET /v1/models/{owner}/{name}/examples`: the default one alone."""
        if _slug(request) in self._catalog.unreleased:
            return respond_json({"previous": None, "next": None, "results": []})
        origin = origin_of(request, self._settings)
        example = self._examples.document(self._find(request).slug, origin)
        results = [] if example is None else [example]
        return respond_json({"previous": None, "next": None, "results": results})

    async def readme(self, request: web.Request) -> web.Response:
        """`GET /v1/models/{owner}/{name}/readme`: Markdown, as plain text."""
        model = self._find(request)
        return web.Response(text=f"# {model.slug}\n\n{model.about}.\n", content_type="text/plain")

    async def deployment(self, request: web.Request) -> web.Response:
        """`GET /v1/deployments/{owner}/{name}`: which model and version it runs."""
        owner, name = request.match_info["owner"], request.match_info["name"]
        slug = self._settings.deployments.get(f"{owner}/{name}")
        catalog = apply_model_faults(self._catalog, fired_faults())
        model = catalog.by_slug(slug) if slug is not None else None
        if model is None:
            raise not_found()
        return respond_json(deployment_json(owner, name, model))

    async def deployments(self, request: web.Request) -> web.Response:
        """`GET /v1/deployments`: all of them; their models are always there."""
        documents = []
        for deployment, slug in self._settings.deployments.items():
            owner, _, name = deployment.partition("/")
            model = apply_model_faults(self._catalog, fired_faults()).by_slug(slug)
            if model is not None:
                documents.append(deployment_json(owner, name, model))
        return respond_json({"previous": None, "next": None, "results": documents})

    def _find(self, request: web.Request) -> Model:
        catalog = apply_model_faults(self._catalog, fired_faults())
        model = catalog.by_slug(_slug(request))
        if model is None:
            raise not_found()
        return model

    def _document(self, model: Model, origin: str) -> dict[str, Any]:
        example = self._examples.document(model.slug, origin)
        return model_json(model, self._request_log.runs_by_model[model.slug], example)


def _slug(request: web.Request) -> str:
    return f"{request.match_info['owner']}/{request.match_info['name']}"
