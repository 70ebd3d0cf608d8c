"""The web port: the only one that may face the internet. It serves what is put on it, no more."""

import asyncio
import socket
from collections.abc import Iterable
from functools import partial
from types import TracebackType
from typing import Final, Self

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from mediagate_server.config.address import split_address
from mediagate_server.http.connections import Connection, Connections
from mediagate_server.http.server_log import ServerLog

_LAST_ANSWER_SECONDS: Final = 1.0
_LARGEST_BODY: Final = 1024 * 1024
_IDLE_SECONDS: Final = 30.0
_WAITING_CONNECTIONS: Final = 512
# Who listens on every interface is reached by loopback; an IPv6 host in a URL stands in brackets.
_NEAR: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}  # noqa: S104 - not bound here
_UNREAD_SECONDS: Final = 2.0
"""How long what is left of a refused body is read, so that the answer reaches whoever sends it."""
_CONNECTIONS: Final = web.AppKey("connections", Connections)
_log = structlog.get_logger()


class WebPort:
    """Bound when it is made, served while it is entered: what comes in between waits.

    So its `address` (HOST:PORT) is known to those who are to be reached by it before there is
    anybody to answer. Making it raises OSError where the port is taken.
    """

    def __init__(self, address: str, connections: Connections | None = None) -> None:
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
        self._connections = connections or Connections()
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
            logger=ServerLog("web"),
            auto_decompress=False,
            keepalive_timeout=_IDLE_SECONDS,
            lingering_time=_UNREAD_SECONDS,
            shutdown_timeout=_LAST_ANSWER_SECONDS,
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


def _connection(connections: Connections, runner: web.AppRunner) -> asyncio.BaseProtocol:
    """What serves one connection."""
    server = runner.server
    if server is None:
        raise RuntimeError("the port is closing")
    return Connection(connections, server())


def recognize(request: web.Request) -> None:
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
        _log.error("web request failed", error=type(error).__name__)
        return web.Response(status=500)


async def _say_nothing(_: web.Request, response: web.StreamResponse) -> None:
    """Strangers need not know what serves here."""
    response.headers["Server"] = "mediagate"
