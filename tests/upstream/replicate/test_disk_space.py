"""Space on the disk is bounded in all and for each tenant, and is given in turn."""

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mediagate_server import rpc_context
from mediagate_server.rpc_context import Caller
from mediagate_server.upstream.replicate import large_responses
from mediagate_server.upstream.replicate.large_responses import (
    DiskReservation,
    LargeResponses,
    ResponseFile,
)
from mediagate_server.workers.worker_pool import WorkerPool


async def rounds() -> None:
    """Let everybody go on who can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_tenant_gets_at_most_half() -> None:
    space = DiskReservation(100)
    await space.acquire("a", 40)
    more = asyncio.create_task(space.acquire("a", 20))
    await rounds()
    assert not more.done()
    await asyncio.wait_for(space.acquire("b", 50), 10)
    space.release("a", 40)
    await more
    assert space.free == 30


async def test_waiting_tenants_take_turns() -> None:
    space, order = DiskReservation(100), list[str]()
    await space.acquire("x", 50)
    await space.acquire("y", 50)

    async def take(tenant: str) -> None:
        await space.acquire(tenant, 50)
        order.append(tenant)
        space.release(tenant, 50)

    tasks = [asyncio.create_task(take(tenant)) for tenant in "aaabbc"]
    await rounds()
    assert not order
    space.release("x", 50)
    await asyncio.gather(*tasks)
    assert order[:3] == ["a", "b", "c"]
    assert space.free == 50


async def test_a_cancelled_waiter_holds_no_space() -> None:
    space = DiskReservation(100)
    await space.acquire("a", 50)
    await space.acquire("b", 50)
    waiting = [asyncio.create_task(space.acquire(tenant, 50)) for tenant in "abc"]
    await rounds()
    waiting[0].cancel()
    space.release("b", 50)  # To the second, who is cancelled before it knows.
    waiting[1].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    space.release("c", 50)
    space.release("a", 50)
    assert space.free == 100


async def single_chunk(size: int) -> AsyncIterator[bytes]:
    yield b"x" * size


async def test_space_is_released_when_a_file_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is received is reckoned as the most that it may be; then as what it is."""
    monkeypatch.setattr(large_responses, "MAX_DISK_BYTES", 4_000)
    monkeypatch.setattr(large_responses, "MAX_RESPONSE_BYTES", 1_000)
    large = LargeResponses(tmp_path / "bodies", WorkerPool())

    async def receive(tenant: str) -> ResponseFile:
        rpc_context.bind_caller(Caller(tenant))
        return await large.receive(b"", single_chunk(600), 200)

    responses = [await asyncio.create_task(receive("a")) for _ in range(2)]
    waiting = asyncio.create_task(receive("a"))
    await rounds()
    assert not waiting.done()  # 1,200 and 1,000 are over half.
    assert (await asyncio.create_task(receive("b"))).size == 600
    responses.pop()
    gc.collect()
    assert (await waiting).size == 600
    assert len(list((tmp_path / "bodies").iterdir())) == 2
