"""A receiver of webhooks for tests: real HTTP on a port of its own, answering as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web


@dataclass(frozen=True)
class Received:
    """One POST."""

    path: str
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

    def __init__(self) -> None:
        self.url = ""
        self.answers: list[int] = []
        """Statuses of the next answers; 200 when there is none left."""
        self.all: list[Received] = []
        self._new: asyncio.Queue[Received] = asyncio.Queue()
        self._arrival = asyncio.Condition()

    async def next(self) -> Received:
        """The next one that no test has looked at yet, as soon as it is there."""
        return await self._new.get()

    async def until(self, status: str) -> list[Received]:
        """Everything up to the first that shows this status."""
        deliveries = [await self.next()]
        while deliveries[-1].json["status"] != status:
            deliveries.append(await self.next())
        return deliveries

    async def of_prediction(self, name: str, last: Collection[str]) -> list[Received]:
        """All of one prediction, once there is one with such a status; of several at a time."""
        async with self._arrival:
            while True:
                received = [each for each in self.all if each.json["id"] == name]
                if received and received[-1].json["status"] in last:
                    return received
                await self._arrival.wait()

    async def handle(self, request: web.Request) -> web.Response:
        got = Received(request.path_qs, request.headers, await request.read())
        self.all.append(got)
        self._new.put_nowait(got)
        async with self._arrival:
            self._arrival.notify_all()
        status = self.answers.pop(0) if self.answers else 200
        return web.Response(status=status, headers={"Location": "/moved"} if status == 307 else {})


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on loopback."""
    receiver = Receiver()
    application = web.Application()
    application.router.add_post("/{rest:.*}", receiver.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
        yield receiver
    finally:
        await runner.cleanup()
