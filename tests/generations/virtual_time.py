"""Generations in virtual time, on a store in memory: hours pass at once, always in the same way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, closing
from random import Random
from typing import Any, TypeVar

from mediagate_server.generations.doors import Surroundings
from mediagate_server.interceptors.outbound.create_policy import CreatePolicy
from tests.faults.simulation.chance import Chance
from tests.faults.simulation.disk import DiskStore, new_disk
from tests.faults.simulation.process import Clock
from tests.faults.simulation.virtual_time import VirtualLoop
from tests.generations.no_keeper import NoKeeper
from tests.generations.upstreams import NoUpstream

Result = TypeVar("Result")
AnyStore = TypeVar("AnyStore", bound=DiskStore)


def run_in_virtual_time(main: Coroutine[Any, Any, Result]) -> Result:
    """What it returns; nothing in it may use a thread."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


@asynccontextmanager
async def memory_store(
    kind: type[AnyStore], upstream: NoUpstream
) -> AsyncIterator[tuple[AnyStore, Surroundings]]:
    """A store on which nothing is left to chance, and what generations need around it."""

    def is_alive() -> bool:
        return True

    with closing(new_disk()) as disk:
        store = kind(disk, Chance(0), is_alive)
        await store.__aenter__()
        store._chance.quiet = True
        yield (
            store,
            Surroundings(
                store, upstream, CreatePolicy(Random(1)), NoKeeper(), clock=Clock(is_alive)
            ),
        )
