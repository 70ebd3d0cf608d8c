"""HTTP servers: the public one, which may face the internet, and the operator's, which must not.

`PublicHttpServer` serves the routes that are added to it. Connections are limited in number and
time: each is a stranger's until a request on it names a URL that was issued here. Where there are
too many strangers the oldest is closed, so that slow headers and silent connections never keep out
those who are known.

`OperationsHttpServer` serves metrics, liveness and readiness. It authenticates nobody, so its
address belongs on loopback or a private network.

`HttpServerLogger` writes no byte of what strangers sent. Of a request that is no HTTP (a malformed
request line, bad headers, TLS on a plain port) aiohttp would log a traceback that repeats it: it is
counted instead. Of a bug of ours its place is logged.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Final, Self

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler
from aiohttp.web import RequestHandler
from prometheus_client import exposition

from mediagate_server.config.address import format_address, split_address
from mediagate_server.observability import metrics
from mediagate_server.observability.bug_report import BackgroundJob, report_bug
from mediagate_server.observability.metrics import REGISTRY

_MAX_STRANGERS: Final = 256
_MAX_RECOGNIZED: Final = 1_024
_STRANGER_SECONDS: Final = 10.0


class ConnectionLimiter:
    """Connection limits of one port. For one event loop.

    `max_strangers` is how many strangers there may be, each for `seconds`.
    """

    def __init__(
        self, max_strangers: int = _MAX_STRANGERS, seconds: float = _STRANGER_SECONDS
    ) -> None:
        self._max_strangers = max_strangers
        self._seconds = seconds
        self._strangers: dict[asyncio.BaseTransport, asyncio.TimerHandle] = {}
        self._recognized: set[asyncio.BaseTransport] = set()

    def opened(self, transport: asyncio.BaseTransport) -> None:
        """Count a new connection, as a stranger's."""
        if len(self._strangers) >= self._max_strangers:
            self._abort(next(iter(self._strangers)), "crowded")
        loop = asyncio.get_running_loop()
        self._strangers[transport] = loop.call_later(self._seconds, self._abort, transport, "slow")

    def closed(self, transport: asyncio.BaseTransport | None) -> None:
        """Forget a closed connection."""
        if transport is not None and (timer := self._strangers.pop(transport, None)):
            timer.cancel()
        self._recognized.discard(transport)

    def recognize(self, transport: asyncio.BaseTransport | None) -> None:
        """Mark a connection as known: a request on it named a URL of ours.

        Beyond `_MAX_RECOGNIZED` connections it stays a stranger's.
        """
        if transport in self._strangers and len(self._recognized) < _MAX_RECOGNIZED:
            self._strangers.pop(transport).cancel()
            self._recognized.add(transport)

    def _abort(self, transport: asyncio.BaseTransport, reason: str) -> None:
        self._strangers.pop(transport).cancel()
        metrics.web_connections_closed.labels(reason).inc()
        if isinstance(transport, asyncio.Transport):
            transport.abort()


class LimitedConnection(asyncio.Protocol):
    """Connection that is counted and passed on to aiohttp's `handler`."""

    def __init__(self, connections: ConnectionLimiter, handler: RequestHandler) -> None:
        self._connections = connections
        self._handler = handler
        self._transport: asyncio.BaseTransport | None = None
        # These are called often: no call in between.
        self.data_received = handler.data_received  # type: ignore[method-assign]
        self.pause_writing = handler.pause_writing  # type: ignore[method-assign]
        self.resume_writing = handler.resume_writing  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, then have it handled."""
        self._transport = transport
        self._connections.opened(transport)
        self._handler.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection and its count."""
        self._connections.closed(self._transport)
        self._handler.connection_lost(exc)

    def eof_received(self) -> None:
        """Pass the end of what is received on."""
        self._handler.eof_received()


class HttpServerLogger(logging.Logger):
    """Logger for aiohttp: counts malformed requests to a port, reports bugs, logs nothing else.

    It is not in the process's tree of loggers: no handler is to get a record.
    """

    def __init__(self, port: str, job: BackgroundJob) -> None:
        super().__init__(f"mediagate.http.{port}", logging.DEBUG)  # TLS is logged at this level.
        self._job: Final = job
        self._malformed: Final = metrics.http_malformed.labels(port)

    def handle(self, record: logging.LogRecord) -> None:
        """Look at the error alone: a record's text repeats what was sent."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            self._malformed.inc()
        elif isinstance(error, Exception):
            report_bug(self._job, error)


_OPERATIONS_SHUTDOWN_SECONDS: Final = 1.0
_OPERATIONS_IDLE_SECONDS: Final = 120.0
"""Longer than the usual scrape interval."""


class OperationsHttpServer:
    """Operations HTTP server: `/metrics`, `/healthz`, `/readyz`. An async context manager.

    `address` is HOST:PORT; with port 0 it holds the port in use once the manager is entered.
    `not_ready` says in a few words why the server is not ready; empty: it is. `refresh` brings up
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
            logger=HttpServerLogger("operations", BackgroundJob.OPERATIONS_SERVER),
            keepalive_timeout=_OPERATIONS_IDLE_SECONDS,
            shutdown_timeout=_OPERATIONS_SHUTDOWN_SECONDS,
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
        self.address = format_address(host, bound)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        """All metrics, as OpenMetrics or as Prometheus text, whichever the scraper prefers."""
        if self._refresh is not None:
            await self._refresh()
        accept = ",".join(request.headers.getall("Accept", []))
        encode, content_type = exposition.choose_encoder(accept)
        return web.Response(body=encode(REGISTRY), headers={"Content-Type": content_type})

    async def _readyz(self, _: web.Request) -> web.Response:
        """Readiness: 200, or 503 with the reason."""
        reason = self._not_ready()
        return web.Response(status=503 if reason else 200, text=f"{reason or 'ready'}\n")


async def _healthz(_: web.Request) -> web.Response:
    """Liveness: the process answers."""
    return web.Response(text="alive\n")


_PUBLIC_SHUTDOWN_SECONDS: Final = 1.0
_MAX_BODY_BYTES: Final = 1024 * 1024
_PUBLIC_IDLE_SECONDS: Final = 30.0
_BACKLOG: Final = 512
# A server on all interfaces is reached by loopback; an IPv6 host in a URL stands in brackets.
_LOOPBACK_HOSTS: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}  # noqa: S104 - not bound here
_LINGERING_SECONDS: Final = 2.0
"""How long the rest of a refused body is read, so that the response reaches the sender."""
_LIMITER: Final = web.AppKey("connections", ConnectionLimiter)
_log = structlog.get_logger()


class PublicHttpServer:
    """Public HTTP server. The socket is bound by the constructor and served while entered.

    So its `address` (HOST:PORT) is known before anything is served; connections wait in between.
    The constructor raises OSError where the port is taken.
    """

    def __init__(self, address: str, connections: ConnectionLimiter | None = None) -> None:
        host, port = split_address(address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        bound: int = self._socket.getsockname()[1]
        self.address = format_address(host, bound)
        self.local_url = f"http://{_LOOPBACK_HOSTS.get(host, host)}:{bound}"
        """Its URL on this machine."""
        self._routes: list[web.RouteDef] = []
        self._connections = connections or ConnectionLimiter()
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None

    def add(self, routes: Iterable[web.RouteDef]) -> None:
        """Add routes, before it is entered."""
        self._routes += routes

    def close(self) -> None:
        """Close the socket, whether it was entered or not."""
        self._socket.close()

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=_MAX_BODY_BYTES, middlewares=[_error_middleware])
        app.add_routes(self._routes)
        app.on_response_prepare.append(_set_server_header)
        app[_LIMITER] = self._connections
        # Bodies stay as they were sent: signatures are over them.
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=HttpServerLogger("web", BackgroundJob.WEB_SERVER),
            auto_decompress=False,
            keepalive_timeout=_PUBLIC_IDLE_SECONDS,
            lingering_time=_LINGERING_SECONDS,
            shutdown_timeout=_PUBLIC_SHUTDOWN_SECONDS,
        )
        await self._runner.setup()
        try:
            self._server = await asyncio.get_running_loop().create_server(
                partial(_connection, self._connections, self._runner),
                sock=self._socket,
                backlog=_BACKLOG,
            )
        except BaseException:
            await self._runner.cleanup()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        if self._runner is not None:
            await self._runner.cleanup()


def _connection(connections: ConnectionLimiter, runner: web.AppRunner) -> asyncio.BaseProtocol:
    """The protocol of one connection."""
    server = runner.server
    if server is None:
        raise RuntimeError("the port is closing")
    return LimitedConnection(connections, server())


def mark_recognized(request: web.Request) -> None:
    """Mark the request's connection as known: it names a URL that was issued here."""
    request.app[_LIMITER].recognize(request.transport)


@web.middleware
async def _error_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer a bug with 500, and log its type alone: what strangers send is in no log."""
    try:
        return await handler(request)
    except web.HTTPException:
        raise
    except Exception as error:  # noqa: BLE001 - one request must not show itself in a log
        _log.error("web_request_crashed", error=type(error).__name__)
        return web.Response(status=500)


async def _set_server_header(_: web.Request, response: web.StreamResponse) -> None:
    """Name no library and no version."""
    response.headers["Server"] = "mediagate"
