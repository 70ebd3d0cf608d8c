"""Space on the disk is bounded in all and for each tenant, and is given in turn."""

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mediagate_server import caller
from mediagate_server.caller import Caller
from mediagate_server.replicate import large_bodies
from mediagate_server.replicate.disk_space import DiskSpace
from mediagate_server.replicate.large_bodies import BodyFile, LargeBodies
from mediagate_server.worker_processes import WorkerProcesses


async def rounds() -> None:
    """Let everybody go on who can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_tenant_has_half_at_the_most() -> None:
    space = DiskSpace(100)
    await space.take("a", 40)
    more = asyncio.create_task(space.take("a", 20))
    await rounds()
    assert not more.done()
    await asyncio.wait_for(space.take("b", 50), 10)
    space.give_back("a", 40)
    await more
    assert space.free == 30


async def test_those_who_wait_take_turns() -> None:
    space, served = DiskSpace(100), list[str]()
    await space.take("x", 50)
    await space.take("y", 50)

    async def take(tenant: str) -> None:
        await space.take(tenant, 50)
        served.append(tenant)
        space.give_back(tenant, 50)

    tasks = [asyncio.create_task(take(tenant)) for tenant in "aaabbc"]
    await rounds()
    assert not served
    space.give_back("x", 50)
    await asyncio.gather(*tasks)
    assert served[:3] == ["a", "b", "c"]
    assert space.free == 50


async def test_who_leaves_leaves_nothing_taken() -> None:
    space = DiskSpace(100)
    await space.take("a", 50)
    await space.take("b", 50)
    waiting = [asyncio.create_task(space.take(tenant, 50)) for tenant in "abc"]
    await rounds()
    waiting[0].cancel()
    space.give_back("b", 50)  # To the second, who is cancelled before it knows.
    waiting[1].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    space.give_back("c", 50)
    space.give_back("a", 50)
    assert space.free == 100


async def _one(size: int) -> AsyncIterator[bytes]:
    yield b"x" * size


async def test_files_count_for_as_long_as_they_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is received is reckoned as the most that it may be; then as what it is."""
    monkeypatch.setattr(large_bodies, "MOST_ON_DISK", 4_000)
    monkeypatch.setattr(large_bodies, "MOST_READ", 1_000)
    large = LargeBodies(tmp_path / "bodies", WorkerProcesses())

    async def receive(tenant: str) -> BodyFile:
        caller.bind(Caller(tenant))
        return await large.receive(b"", _one(600), 200)

    kept = [await asyncio.create_task(receive("a")) for _ in range(2)]
    waiting = asyncio.create_task(receive("a"))
    await rounds()
    assert not waiting.done()  # 1,200 and 1,000 are over half.
    assert (await asyncio.create_task(receive("b"))).size == 600
    kept.pop()
    gc.collect()
    assert (await waiting).size == 600
    assert len(list((tmp_path / "bodies").iterdir())) == 2
