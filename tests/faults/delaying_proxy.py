"""A way to upstream on which one create is held up for as long as a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

_AT_ONCE = 65_536


class DelayingProxy:
    """Passes bytes on, both ways. The first POST waits until it is `released`.

    Upstream then gets it, though whoever sent it has long hung up.
    """

    def __init__(self, url: str) -> None:
        self._upstream = urlsplit(url)
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_holding = True
        self.released = asyncio.Event()
        self.url = ""

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str) -> AsyncIterator[DelayingProxy]:
        """One on a free port, to the upstream at this URL."""
        relay = cls(url)
        server = await asyncio.start_server(relay._connected, "127.0.0.1", 0)
        relay.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield relay
        finally:
            server.close()
            for task in relay._tasks:
                task.cancel()
            await asyncio.gather(*relay._tasks, return_exceptions=True)

    async def _connected(
        self, from_server: asyncio.StreamReader, to_server: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        host, port = self._upstream.hostname, self._upstream.port
        from_upstream, to_upstream = await asyncio.open_connection(host, port)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._ask(from_server, to_upstream))
                both.create_task(self._answer(from_upstream, to_server))
        finally:
            to_upstream.close()
            to_server.close()

    async def _ask(self, server: asyncio.StreamReader, upstream: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while chunk := await server.read(_AT_ONCE):
                if self._is_holding and chunk.startswith(b"POST "):
                    self._is_holding = False
                    await self.released.wait()
                upstream.write(chunk)

    async def _answer(self, upstream: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while chunk := await upstream.read(_AT_ONCE):
                server.write(chunk)
            server.close()
