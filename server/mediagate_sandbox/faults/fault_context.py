"""Fault context of a request: endpoint, model and prediction."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import orjson
from aiohttp import web

from mediagate_sandbox.faults.actions import Endpoint
from mediagate_sandbox.faults.engine import FaultContext
from mediagate_sandbox.models import Catalog
from mediagate_sandbox.predictions import Prediction
from mediagate_sandbox.request_log import input_sha256
from mediagate_sandbox.store import Store

_ENDPOINTS: Mapping[tuple[str, str], Endpoint] = {
    ("POST", "/v1/predictions"): "create",
    ("POST", "/v1/models/{owner}/{name}/predictions"): "create",
    ("POST", "/v1/deployments/{owner}/{name}/predictions"): "create",
    ("GET", "/v1/predictions"): "list",
    ("GET", "/v1/predictions/{id}"): "get",
    ("POST", "/v1/predictions/{id}/cancel"): "cancel",
    ("GET", "/v1/streams/{key}"): "stream",
    ("GET", "/v1/files/{key}"): "stream",
    ("GET", "/files/{key}/{name}"): "output",
    ("HEAD", "/files/{key}/{name}"): "output",
    ("GET", "/v1/webhooks/default/secret"): "secret",
}
_ROOMS: Mapping[str, Endpoint] = {
    "/v1/files": "files",
    "/v1/models": "model",
    "/v1/deployments": "model",
    "/v1/search": "model",
    "/v1/collections": "model",
}
_SHOWCASES = {"/v1/models", "/v1/deployments", "/v1/search", "/v1/collections/{slug}"}


def endpoint_of(request: web.Request) -> Endpoint | None:
    """Return the endpoint of a request; None if it has no faults."""
    path = _path_of(request)
    if path is None:
        return None
    endpoint = _ENDPOINTS.get((request.method, path))
    if endpoint is not None:
        return endpoint
    return next(
        (end for room, end in _ROOMS.items() if path == room or path.startswith(f"{room}/")), None
    )


def _path_of(request: web.Request) -> str | None:
    """Return the route pattern of a request; None if there is none."""
    resource = request.match_info.route.resource
    return None if resource is None else resource.canonical


class RequestClassifier:
    """Builds the fault context of requests."""

    def __init__(self, catalog: Catalog, store: Store, deployments: Mapping[str, str]) -> None:
        """Create a classifier on catalog and store."""
        self._catalog = catalog
        self._store = store
        self._deployments = deployments

    async def classify(self, request: web.Request, endpoint: Endpoint) -> FaultContext:
        """Return the fault context. A create's body is read for it, and can be read again."""
        if endpoint == "create":
            raw = await request.read()
            digest = hashlib.sha256(request.path.encode() + raw).hexdigest()
            return FaultContext(endpoint, self._model_to_run(request, raw), lambda: digest)
        prediction = self._prediction(request, endpoint)
        if prediction is not None:
            return context_of_prediction(endpoint, prediction)
        return FaultContext(
            endpoint,
            self._model_in_path(request),
            lambda: request.path,
            all_models=_path_of(request) in _SHOWCASES,
        )

    def _prediction(self, request: web.Request, endpoint: Endpoint) -> Prediction | None:
        match endpoint:
            case "get" | "cancel":
                return self._store.by_id(request.match_info["id"])
            case "stream":
                return self._store.by_stream(request.match_info["key"])
            case "output":
                return self._store.by_file(request.match_info["key"])
            case _:
                return None

    def _model_in_path(self, request: web.Request) -> str | None:
        owner, name = request.match_info.get("owner"), request.match_info.get("name")
        if owner is None or name is None:
            return None
        slug = f"{owner}/{name}"
        return self._deployments.get(slug) if "/deployments/" in request.path else slug

    def _model_to_run(self, request: web.Request, raw: bytes) -> str | None:
        """Return the model of a create, as far as known before validation."""
        if "owner" in request.match_info:
            return self._model_in_path(request)
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return None
        version = body.get("version") if isinstance(body, dict) else None
        if not isinstance(version, str):
            return None
        if "/" in version:
            return version.partition(":")[0]
        model = self._catalog.by_version(version)
        return None if model is None else model.slug


def context_of_prediction(endpoint: Endpoint, prediction: Prediction) -> FaultContext:
    """Return the fault context of one prediction."""
    order = prediction.request
    return FaultContext(
        endpoint,
        order.model.slug,
        lambda: f"{order.model.slug} {input_sha256(order.input)}",
        prediction.id,
    )
