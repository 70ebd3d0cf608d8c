"""Operations that the sandbox does not have: 501, so that nobody takes a 404 for an answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from mediagate_sandbox.api_errors import ApiError

_MODEL = "/v1/models/{owner}/{name}"
_OPERATIONS = (
    ("POST", "/v1/models", "create models"),
    ("PATCH", _MODEL, "change models"),
    ("DELETE", _MODEL, "delete models"),
    ("DELETE", f"{_MODEL}/versions/{{version}}", "delete versions"),
    ("POST", f"{_MODEL}/versions/{{version}}/trainings", "train models"),
    ("GET", "/v1/trainings", "train models"),
    ("GET", "/v1/trainings/{id}", "train models"),
    ("POST", "/v1/trainings/{id}/cancel", "train models"),
    ("POST", "/v1/deployments", "create deployments; its settings name those that exist"),
    ("PATCH", "/v1/deployments/{owner}/{name}", "change deployments"),
    ("DELETE", "/v1/deployments/{owner}/{name}", "delete deployments"),
)


class UnimplementedRoutes:
    """Handlers of Replicate's operations that no prediction needs."""

    def routes(self) -> list[web.RouteDef]:
        """Paths and their handlers."""
        return [web.route(method, path, _refusal(what)) for method, path, what in _OPERATIONS]


def _refusal(what: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def refuse(_: web.Request) -> web.StreamResponse:
        raise ApiError(501, f"This sandbox does not {what}.", title="Not implemented")

    return refuse
