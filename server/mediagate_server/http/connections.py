"""Limits on the connections of the web port: how many there are, and how long they may take.

Whoever connects is a stranger until a request of theirs names an address that was minted here.
Strangers have a number of connections and a few seconds each; where there are too many the oldest
one is cut, so that slow heads and silent connections never keep the port from those who are known.
"""

import asyncio
from typing import Final

from aiohttp.web import RequestHandler

from mediagate_server import telemetry

_MOST_STRANGERS: Final = 256
_MOST_KNOWN: Final = 1_024
_STRANGER_SECONDS: Final = 10.0


class Connections:
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
        telemetry.web_connections_cut.labels(why).inc()
        if isinstance(transport, asyncio.Transport):
            transport.abort()


class Connection(asyncio.Protocol):
    """One connection: passed on to the library's `handler`, and counted."""

    def __init__(self, connections: Connections, handler: RequestHandler) -> None:
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
