"""A caller's receiver of webhooks: real HTTP on loopback, there or not, answering as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web


@dataclass(frozen=True)
class Received:
    """One POST."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return orjson.loads(self.body)

    @property
    def id(self) -> str:
        """`webhook-id`."""
        return self.headers["webhook-id"]


class Receiver:
    """Keeps what it gets, in order."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/hook"
        self.status = 200
        self.headers: dict[str, str] = {}
        self.all: list[Received] = []
        self._new = asyncio.Condition()

    async def received(self, count: int) -> list[Received]:
        """All of them, once there are so many."""
        async with self._new:
            await self._new.wait_for(lambda: len(self.all) >= count)
        return self.all

    async def handle(self, request: web.Request) -> web.Response:
        got = Received(dict(request.headers.items()), await request.read())
        async with self._new:
            self.all.append(got)
            self._new.notify_all()
        return web.Response(status=self.status, headers=self.headers, text="a body for nobody")


@asynccontextmanager
async def receiving(port: int = 0) -> AsyncIterator[Receiver]:
    """A receiver on loopback, at a port of the system's choice or this one."""
    application = web.Application()
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    receivers: list[Receiver] = []

    async def handle(request: web.Request) -> web.Response:
        return await receivers[0].handle(request)

    application.router.add_route("*", "/{rest:.*}", handle)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        receivers.append(Receiver(runner.addresses[0][1]))
        yield receivers[0]
    finally:
        await runner.cleanup()
