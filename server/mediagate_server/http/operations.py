"""The private operations port: metrics, and whether the gate lives and is ready. No gRPC here.

It asks nobody who they are, so its address belongs on loopback or a network of one's own.
"""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

from aiohttp import web
from prometheus_client import exposition

from mediagate_server.config.address import split_address
from mediagate_server.http.server_log import ServerLog
from mediagate_server.telemetry import REGISTRY

_LAST_ANSWER_SECONDS: Final = 1.0
_IDLE_SECONDS: Final = 120.0
"""Longer than what scrapes metrics waits as a rule."""


class OperationsPort:
    """`/metrics`, `/healthz`, `/readyz` on one address. Use it as an async context manager.

    `address` is HOST:PORT; with port 0 it holds the port in use once the manager is entered.
    `not_ready` says in a few words why the gate is not ready; empty: it is. `refresh` brings up
    to date, before each answer, the metrics that are read from elsewhere. Entering raises OSError
    where the port is taken.
    """

    def __init__(
        self,
        address: str,
        not_ready: Callable[[], str],
        refresh: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.address = address
        self._not_ready = not_ready
        self._refresh = refresh
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", _healthz)
        app.router.add_get("/readyz", self._readyz)
        self._runner: Final = web.AppRunner(
            app,
            access_log=None,
            logger=ServerLog("operations"),
            keepalive_timeout=_IDLE_SECONDS,
            shutdown_timeout=_LAST_ANSWER_SECONDS,
        )

    async def __aenter__(self) -> Self:
        host, port = split_address(self.address)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except BaseException:
            await self._runner.cleanup()
            raise
        bound: int = self._runner.addresses[0][1]
        self.address = f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        """All metrics, as OpenMetrics or as Prometheus text, whichever the scraper prefers."""
        if self._refresh is not None:
            await self._refresh()
        accept = ",".join(request.headers.getall("Accept", []))
        encode, content_type = exposition.choose_encoder(accept)
        return web.Response(body=encode(REGISTRY), headers={"Content-Type": content_type})

    async def _readyz(self, _: web.Request) -> web.Response:
        """Whether to send calls here: 200, or 503 with the reason."""
        reason = self._not_ready()
        return web.Response(status=503 if reason else 200, text=f"{reason or 'ready'}\n")


async def _healthz(_: web.Request) -> web.Response:
    """The process lives, or nobody would answer."""
    return web.Response(text="alive\n")
