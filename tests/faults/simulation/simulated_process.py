"""One process of the server: it lives until it is killed, or drained, and never comes back."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

from mediagate_server.generations.dependencies import EngineDeps, EngineTimeouts
from mediagate_server.generations.engine import GenerationEngine
from mediagate_server.runtime.clock import SystemClock, Timer
from tests.generations.no_keeper import NoKeeper

from .simulated_network import Network, SimulatedNetworkUpstream
from .simulated_store import DiskStore
from .simulated_upstream import BEGIN

Answer = TypeVar("Answer")


class ProcessDied(Exception):
    """The process died, or went, before there was an answer."""


class SimulatedClock(SystemClock):
    """Virtual time; what a dead process had set to happen does not."""

    def __init__(self, is_alive: Callable[[], bool]) -> None:
        self._is_alive = is_alive

    def now(self) -> datetime:
        """See generations.clock.Clock."""
        return BEGIN + timedelta(seconds=asyncio.get_running_loop().time())

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """See generations.clock.Clock."""
        return super().call_later(seconds, lambda: self._is_alive() and callback())


class Process:
    """The server from `GenerationEngine` down, on a disk and a network that outlive it."""

    def __init__(self, disk: sqlite3.Connection, network: Network, number: int) -> None:
        chance = network.chance
        self.alive, self.serving = True, asyncio.Event()
        self._network = network
        self._disk = disk
        self._store = DiskStore(disk, chance, self.is_alive)
        self._leaving = asyncio.Event()
        self._rpcs: set[asyncio.Task[Any]] = set()
        numbers = iter(range(10**9))
        upstream = SimulatedNetworkUpstream(network, self.is_alive, self._intends)
        self.generations = GenerationEngine(
            EngineDeps(
                self._store,
                upstream,
                upstream,
                NoKeeper(),
                clock=SimulatedClock(self.is_alive),
                timeouts=EngineTimeouts(),
                webhook_url=lambda attempt: f"https://gate.example/{attempt}",
                new_token=lambda: f"{number}x{next(numbers)}",
            ),
            max_in_flight=lambda _: 0,
        )
        self.main = asyncio.get_running_loop().create_task(self._run())

    def is_alive(self) -> bool:
        """False once it was killed, or has gone."""
        return self.alive

    def kill(self) -> None:
        """`kill -9`: nothing of it reaches anything any more."""
        self.alive = False
        self.serving.clear()
        # In the order in which they were begun: sets have another one each time.
        for task in sorted(
            {*self._rpcs, *self.generations._supervisor._tasks, self.main}, key=_number
        ):
            task.cancel()

    def leave(self) -> None:
        """SIGTERM."""
        self.serving.clear()
        self._leaving.set()

    async def call(self, doing: Awaitable[Answer]) -> Answer:
        """An rpc. Raises Died where the process dies first."""
        task = asyncio.ensure_future(doing)
        self._rpcs.add(task)
        task.add_done_callback(self._rpcs.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self.alive:  # It is the caller who goes.
                task.cancel()
                raise
            raise ProcessDied from None

    async def webhook(self, attempt: str, prediction: str) -> None:
        """What the web port does with one that is signed: see http.webhooks."""
        name = f"{attempt} {prediction}"
        if not await self._store.has_webhook(name):
            await self.generations.on_webhook(attempt, prediction)
            await self._store.claim_webhook(name, BEGIN)

    async def _run(self) -> None:
        await self._store.__aenter__()
        await self.generations.__aenter__()
        self.serving.set()
        await self._leaving.wait()
        await self.generations.__aexit__(None, None, None)
        await self._store._writer.close(0)
        self.kill()

    def _intends(self, attempt: str) -> bool:
        rows = self._disk.execute("SELECT state FROM attempts WHERE id = ?", (attempt,))
        return rows.fetchall() == [("submitting",)]


def _number(task: asyncio.Task[Any]) -> int:
    return int(task.get_name().rpartition("-")[2])
