"""Generations in virtual time, on a store in memory: hours pass at once, always in the same way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, closing
from typing import Any, TypeVar

from mediagate_server.generations.dependencies import EngineDeps
from tests.faults.simulation.fault_schedule import FaultSchedule
from tests.faults.simulation.simulated_process import SimulatedClock
from tests.faults.simulation.simulated_store import DiskStore, new_disk
from tests.faults.simulation.virtual_loop import VirtualLoop
from tests.generations.fake_upstream import UnexpectedCallUpstream
from tests.generations.no_keeper import NoKeeper

Result = TypeVar("Result")
AnyStore = TypeVar("AnyStore", bound=DiskStore)


def run_in_virtual_time(main: Coroutine[Any, Any, Result]) -> Result:
    """What it returns; nothing in it may use a thread."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


@asynccontextmanager
async def memory_store(
    kind: type[AnyStore], upstream: UnexpectedCallUpstream
) -> AsyncIterator[tuple[AnyStore, EngineDeps]]:
    """A store on which nothing is left to chance, and what generations need around it."""

    def is_alive() -> bool:
        return True

    with closing(new_disk()) as disk:
        store = kind(disk, FaultSchedule(0), is_alive)
        await store.__aenter__()
        store._chance.quiet = True
        yield (
            store,
            EngineDeps(
                store,
                upstream,
                upstream,
                NoKeeper(),
                clock=SimulatedClock(is_alive),
            ),
        )
