"""Operations that the sandbox does not have: 405 with a text that says so.

Not 501, which the clients for JavaScript and Go send again, and not 404, which would be an answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from mediagate_sandbox.api_errors import ApiError

_MODEL = "/v1/models/{owner}/{name}"
_DEPLOYMENT = "/v1/deployments/{owner}/{name}"
_OPERATIONS = (
    ("POST", "/v1/models", "GET, QUERY", "create models"),
    ("PATCH", _MODEL, "GET", "change models"),
    ("DELETE", _MODEL, "GET", "delete models"),
    ("DELETE", f"{_MODEL}/versions/{{version}}", "GET", "delete versions"),
    ("POST", f"{_MODEL}/versions/{{version}}/trainings", "", "train models"),
    ("GET", "/v1/trainings", "", "train models"),
    ("GET", "/v1/trainings/{id}", "", "train models"),
    ("POST", "/v1/trainings/{id}/cancel", "", "train models"),
    ("POST", "/v1/deployments", "GET", "create deployments; its settings name those that exist"),
    ("PATCH", _DEPLOYMENT, "GET", "change deployments"),
    ("DELETE", _DEPLOYMENT, "GET", "delete deployments"),
)
"""Method, path, what is allowed there, what would be done."""


class UnimplementedRoutes:
    """Handlers of Replicate's operations that no prediction needs."""

    def routes(self) -> list[web.RouteDef]:
        """Paths and their handlers."""
        return [
            web.route(method, path, _refusal(what, allowed))
            for method, path, allowed, what in _OPERATIONS
        ]


def _refusal(what: str, allowed: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def refuse(_: web.Request) -> web.StreamResponse:
        detail = f"This sandbox does not {what}."
        raise ApiError(405, detail, title="Not implemented", headers={"Allow": allowed})

    return refuse
