"""A pass over very many differences, at a server that runs as a process: 32 MiB, paged answers."""

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web

from mediagate.v1 import usage_pb2
from tests.conftest import Missing
from tests.process_memory import Memory
from tests.server_process import running_server

from .stubs import Stubs

MIB = 1024 * 1024
PAGE = 100
MOST_GROWTH = 32 * MIB


class Crowded:
    """An upstream whose account somebody else has used, a lot. The list may be held back."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.may_list = asyncio.Event()
        self.created_at = datetime.now(UTC).isoformat()
        self.output = "x" * 4_000

    async def predictions(self, request: web.Request) -> web.Response:
        """A page of the list."""
        begin = int(request.query.get("cursor", "0"))
        if not self.may_list.is_set():
            return web.json_response({"results": [], "next": None})
        rows = [self.row(number) for number in range(begin, min(begin + PAGE, self.count))]
        more = begin + PAGE < self.count
        after = f"{request.url.with_query(cursor=begin + PAGE)}" if more else None
        return web.json_response({"results": rows, "next": after})

    def row(self, number: int) -> dict[str, Any]:
        """One of somebody's predictions."""
        return {
            "id": f"q9h6x3m1wdrgp0cj{number:010d}",
            "status": "succeeded",
            "model": "someone/else",
            "input": {"prompt": "a boat " * 100},
            "output": self.output,
            "metrics": {"predict_time": 1.5},
            "created_at": self.created_at,
        }


async def until(
    stubs: Stubs, condition: Callable[[usage_pb2.GetReconciliationResponse], bool]
) -> usage_pb2.GetReconciliationResponse:
    """Polls GetReconciliation of another process until the condition holds."""
    while True:
        request = usage_pb2.GetReconciliationRequest(page_size=1_000)
        response = await stubs.usage.GetReconciliation(request)
        if condition(response):
            return response
        await asyncio.sleep(0.1)


async def growth_over(folder: Path, count: int) -> int:
    """How many bytes of memory it takes to find so many differences."""
    crowded = Crowded(count)
    app = web.Application()
    app.router.add_get("/v1/predictions", crowded.predictions)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    settings = {
        "MEDIAGATE_UPSTREAM_URL": f"http://127.0.0.1:{runner.addresses[0][1]}",
        "REPLICATE_API_TOKEN": "r8_test_token",
        "MEDIAGATE_RECONCILE_SECONDS": "1",
        "MEDIAGATE_READS_PER_MINUTE": "60000",
    }
    try:
        with running_server(folder, **settings) as server:
            async with grpc.aio.insecure_channel(server.address) as channel:
                stubs, memory = Stubs.on(channel), Memory(server.process.pid)
                await until(stubs, lambda response: response.HasField("last_pass"))
                memory.forget()
                before = memory.now()
                crowded.may_list.set()
                response = await until(stubs, lambda response: response.counts.orphans >= count)
                assert len(response.discrepancies) == min(count, 1_000)
                assert response.ByteSize() < MIB
                return memory.most() - before
    finally:
        await runner.cleanup()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "count", [3_000, pytest.param(74_000, marks=pytest.mark.faults_full)], ids=["quick", "full"]
)
async def test_many_discrepancies_use_bounded_memory(
    count: int, missing: Missing, tmp_path: Path
) -> None:
    """Ids are kept, no predictions."""
    if not os.path.exists("/proc/self/clear_refs"):  # noqa: ASYNC240, PTH110 - no file is opened
        missing("/proc/PID/clear_refs, to measure memory")
    growth = await growth_over(tmp_path, count)
    print(f"memory grew by {growth / MIB:.1f} MiB")
    assert growth <= MOST_GROWTH, f"{growth / MIB:.1f} MiB"
