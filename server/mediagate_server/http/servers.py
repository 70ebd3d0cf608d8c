"""The web port: the only one that may face the internet. It serves what is put on it, no more.

Limits on the connections of the web port: how many there are, and how long they may take.

Whoever connects is a stranger until a request of theirs names an address that was minted here.
Strangers have a number of connections and a few seconds each; where there are too many the oldest
one is cut, so that slow heads and silent connections never keep the port from those who are known.

Logger of the HTTP library's servers, that writes no byte of what strangers sent.

Of a request that is no HTTP (a request line that is none, bad headers, TLS on a plain port) the
library writes a traceback that repeats it, whole: it is counted instead. Of a bug of ours it is
told where it is.

The private operations port: metrics, and whether the gate lives and is ready. No gRPC here.

It asks nobody who they are, so its address belongs on loopback or a network of one's own.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Final, Self

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler
from aiohttp.web import RequestHandler
from prometheus_client import exposition

from mediagate_server.config.address import split_address
from mediagate_server.observability import metrics
from mediagate_server.observability.bug_report import BackgroundJob, report_bug
from mediagate_server.observability.metrics import REGISTRY

_MOST_STRANGERS: Final = 256
_MOST_KNOWN: Final = 1_024
_STRANGER_SECONDS: Final = 10.0


class ConnectionLimiter:
    """The connections of one port. For one event loop.

    `most_strangers` is how many strangers there may be, each for `seconds`.
    """

    def __init__(
        self, most_strangers: int = _MOST_STRANGERS, seconds: float = _STRANGER_SECONDS
    ) -> None:
        self._most_strangers = most_strangers
        self._seconds = seconds
        self._strangers: dict[asyncio.BaseTransport, asyncio.TimerHandle] = {}
        self._known: set[asyncio.BaseTransport] = set()

    def opened(self, transport: asyncio.BaseTransport) -> None:
        """A stranger has come."""
        if len(self._strangers) >= self._most_strangers:
            self._cut(next(iter(self._strangers)), "crowded")
        loop = asyncio.get_running_loop()
        self._strangers[transport] = loop.call_later(self._seconds, self._cut, transport, "slow")

    def closed(self, transport: asyncio.BaseTransport | None) -> None:
        """A connection is gone."""
        if transport is not None and (timer := self._strangers.pop(transport, None)):
            timer.cancel()
        self._known.discard(transport)

    def recognize(self, transport: asyncio.BaseTransport | None) -> None:
        """A request on it named an address of ours. Beyond a number they stay strangers."""
        if transport in self._strangers and len(self._known) < _MOST_KNOWN:
            self._strangers.pop(transport).cancel()
            self._known.add(transport)

    def _cut(self, transport: asyncio.BaseTransport, why: str) -> None:
        self._strangers.pop(transport).cancel()
        metrics.web_connections_closed.labels(why).inc()
        if isinstance(transport, asyncio.Transport):
            transport.abort()


class LimitedConnection(asyncio.Protocol):
    """One connection: passed on to the library's `handler`, and counted."""

    def __init__(self, connections: ConnectionLimiter, handler: RequestHandler) -> None:
        self._connections = connections
        self._handler = handler
        self._transport: asyncio.BaseTransport | None = None
        # What comes in and goes out goes by here often: no call in between.
        self.data_received = handler.data_received  # type: ignore[method-assign]
        self.pause_writing = handler.pause_writing  # type: ignore[method-assign]
        self.resume_writing = handler.resume_writing  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = transport
        self._connections.opened(transport)
        self._handler.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._connections.closed(self._transport)
        self._handler.connection_lost(exc)

    def eof_received(self) -> None:
        """See asyncio.Protocol."""
        self._handler.eof_received()


class HttpServerLogger(logging.Logger):
    """Counts malformed requests to a port and reports bugs; nothing else is told.

    Not one of the process's tree of loggers: nobody else is to hear of a record.
    """

    def __init__(self, port: str, job: BackgroundJob) -> None:
        super().__init__(f"mediagate.http.{port}", logging.DEBUG)  # TLS is told of at this level.
        self._job: Final = job
        self._malformed: Final = metrics.http_malformed.labels(port)

    def handle(self, record: logging.LogRecord) -> None:
        """Look at the error alone: a record's words repeat what was sent."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            self._malformed.inc()
        elif isinstance(error, Exception):
            report_bug(self._job, error)


_OPERATIONS_SHUTDOWN_SECONDS: Final = 1.0
_OPERATIONS_IDLE_SECONDS: Final = 120.0
"""Longer than what scrapes metrics waits as a rule."""


class OperationsHttpServer:
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


_PUBLIC_SHUTDOWN_SECONDS: Final = 1.0
_LARGEST_BODY: Final = 1024 * 1024
_PUBLIC_IDLE_SECONDS: Final = 30.0
_WAITING_CONNECTIONS: Final = 512
# Who listens on every interface is reached by loopback; an IPv6 host in a URL stands in brackets.
_NEAR: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}  # noqa: S104 - not bound here
_UNREAD_SECONDS: Final = 2.0
"""How long what is left of a refused body is read, so that the answer reaches whoever sends it."""
_CONNECTIONS: Final = web.AppKey("connections", ConnectionLimiter)
_log = structlog.get_logger()


class PublicHttpServer:
    """Bound when it is made, served while it is entered: what comes in between waits.

    So its `address` (HOST:PORT) is known to those who are to be reached by it before there is
    anybody to answer. Making it raises OSError where the port is taken.
    """

    def __init__(self, address: str, connections: ConnectionLimiter | None = None) -> None:
        host, port = split_address(address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server(
            (host, port), family=family, backlog=_WAITING_CONNECTIONS
        )
        bound: int = self._socket.getsockname()[1]
        self.address = f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"
        self.near_url = f"http://{_NEAR.get(host, host)}:{bound}"
        """How this machine reaches it."""
        self._routes: list[web.RouteDef] = []
        self._connections = connections or ConnectionLimiter()
        self._runner: web.AppRunner | None = None
        self._listening: asyncio.Server | None = None

    def add(self, routes: Iterable[web.RouteDef]) -> None:
        """Serve these, too. Before it is entered."""
        self._routes += routes

    def close(self) -> None:
        """Let the port go, whether it was entered or not."""
        self._socket.close()

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=_LARGEST_BODY, middlewares=[_guarded])
        app.add_routes(self._routes)
        app.on_response_prepare.append(_say_nothing)
        app[_CONNECTIONS] = self._connections
        # Bodies stay as they were sent: signatures are over them.
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=HttpServerLogger("web", BackgroundJob.WEB_SERVER),
            auto_decompress=False,
            keepalive_timeout=_PUBLIC_IDLE_SECONDS,
            lingering_time=_UNREAD_SECONDS,
            shutdown_timeout=_PUBLIC_SHUTDOWN_SECONDS,
        )
        await self._runner.setup()
        try:
            self._listening = await asyncio.get_running_loop().create_server(
                partial(_connection, self._connections, self._runner),
                sock=self._socket,
                backlog=_WAITING_CONNECTIONS,
            )
        except BaseException:
            await self._runner.cleanup()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._listening is not None:
            self._listening.close()
        if self._runner is not None:
            await self._runner.cleanup()


def _connection(connections: ConnectionLimiter, runner: web.AppRunner) -> asyncio.BaseProtocol:
    """What serves one connection."""
    server = runner.server
    if server is None:
        raise RuntimeError("the port is closing")
    return LimitedConnection(connections, server())


def mark_recognized(request: web.Request) -> None:
    """The request names an address that was minted here: its connection is no stranger's."""
    request.app[_CONNECTIONS].recognize(request.transport)


@web.middleware
async def _guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A bug of ours is told by its kind alone; what strangers send is in no log."""
    try:
        return await handler(request)
    except web.HTTPException:
        raise
    except Exception as error:  # noqa: BLE001 - one request must not show itself in a log
        _log.error("web_request_crashed", error=type(error).__name__)
        return web.Response(status=500)


async def _say_nothing(_: web.Request, response: web.StreamResponse) -> None:
    """Strangers need not know what serves here."""
    response.headers["Server"] = "mediagate"
