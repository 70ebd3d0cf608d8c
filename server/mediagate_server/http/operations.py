"""The private operations port: metrics, and whether the gate lives and is ready. No gRPC here."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from aiohttp import web
from prometheus_client import exposition

from mediagate_server.telemetry import REGISTRY


class OperationsPort:
    """`/metrics`, `/healthz`, `/readyz` on one address. Use it as an async context manager.

    `not_ready` says in a few words why the gate is not ready; empty: it is.
    """

    def __init__(self, address: str, not_ready: Callable[[], str]) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._not_ready = not_ready
        self.address = address

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/metrics", _metrics)
        app.router.add_get("/healthz", _healthz)
        app.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host.strip("[]"), self._port).start()
        self.address = f"{self._host}:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    async def _readyz(self, _: web.Request) -> web.Response:
        reason = self._not_ready()
        return web.Response(status=503 if reason else 200, text=f"{reason or 'ready'}\n")


async def _metrics(request: web.Request) -> web.Response:
    encode, content_type = exposition.choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=encode(REGISTRY), headers={"Content-Type": content_type})


async def _healthz(_: web.Request) -> web.Response:
    return web.Response(text="alive\n")
