"""Endpoints of account and hardware."""

from __future__ import annotations

from aiohttp import web

from mediagate_sandbox.json_response import respond_json

_ACCOUNT = {"type": "user", "username": "sandbox", "name": "Mediagate sandbox"}
_HARDWARE = (
    ("cpu", "CPU"),
    ("gpu-t4", "Nvidia T4 GPU"),
    ("gpu-l40s", "Nvidia L40S GPU"),
    ("gpu-a100-large", "Nvidia A100 (80GB) GPU"),
    ("gpu-h100", "Nvidia H100 GPU"),
)


class AccountRoutes:
    """Handlers for `/v1/account` and `/v1/hardware`."""

    def routes(self) -> list[web.RouteDef]:
        """Paths and their handlers."""
        return [web.get("/v1/account", self.account), web.get("/v1/hardware", self.hardware)]

    async def account(self, request: web.Request) -> web.Response:
        """`GET /v1/account`: one user, whatever the token."""
        return respond_json(_ACCOUNT)

    async def hardware(self, request: web.Request) -> web.Response:
        """`GET /v1/hardware`: names and SKUs."""
        return respond_json([{"name": name, "sku": sku} for sku, name in _HARDWARE])
