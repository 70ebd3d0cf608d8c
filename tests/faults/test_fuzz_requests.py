"""Whatever is sent, by whichever rpc: the answer is one that a caller can act on, and no other
tenant's call is harmed.

To repeat a run: MEDIAGATE_TEST_SEED=<seed>, which every run prints.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from mediagate.v1 import generations_pb2, generations_pb2_grpc, usage_pb2, usage_pb2_grpc
from mediagate.v1.generation_pb2 import Generation
from tests.rpc.tenant_keys import tenant_metadata

from .crashing_process import CrashingProcess
from .request_fuzz.fuzz_run import BOSS, FUZZ, KEYS, TENANTS, send_all
from .request_fuzz.permissive_upstream import permissive_upstream
from .request_fuzz.random_requests import METHODS

ENDED = (Generation.STATE_SUCCEEDED, Generation.STATE_FAILED, Generation.STATE_CANCELLED)


async def fuzz(folder: Path, seed: int, count: int) -> None:
    """All calls of a seed to a server of its own, and what must hold afterwards."""
    print(f"{seed=}")
    config = folder / "tenants.toml"
    config.write_text(TENANTS)
    settings = {
        "MEDIAGATE_CONFIG": str(config),
        "MEDIAGATE_RECONCILE_SECONDS": "300",
        "MEDIAGATE_LOG_LEVEL": "warning",
        "MEDIAGATE_ASSUME_UNKNOWN_USD": "",
    }
    async with (
        permissive_upstream() as upstream,
        CrashingProcess.of(folder / "gate", upstream, **KEYS, **settings) as server,  # type: ignore[arg-type]
    ):
        server.start()
        await server.until_serving()
        outcome = await send_all(server.address, seed, count)
        print(dict(outcome.codes), f"{outcome.victims=}", f"{upstream.created=}")
        for problem in outcome.wrong[:20]:
            print(problem)
        said = server.log.read_text(errors="replace")
        for line in said.splitlines():
            if "error" in line:
                print(line[:2_000])
        assert not outcome.wrong
        assert set(outcome.methods) == {method.name for method in METHODS} or count < 2_000
        assert outcome.codes["OK"] > count / 20
        await check_afterwards(server.address)
        await server.stop()
        server.check_log()
        for word in ("uncaught_exception", "store_commit_failed", "store_read_failed"):
            assert word not in said


async def check_afterwards(address: str) -> None:
    """It serves, every list can be read to its end, and everything has come to its own."""
    async with grpc.aio.insecure_channel(address) as channel:
        generations: Any = generations_pb2_grpc.GenerationServiceStub(channel)
        usage: Any = usage_pb2_grpc.UsageServiceStub(channel)
        for name in (FUZZ, BOSS):
            listed = 0
            request = generations_pb2.ListGenerationsRequest(page_size=200)
            while True:
                page = await generations.ListGenerations(request, metadata=tenant_metadata(name))
                listed += len(page.generations)
                for generation in page.generations:
                    if generation.state not in ENDED:
                        waited = generations_pb2.WaitGenerationRequest(id=generation.id)
                        await generations.WaitGeneration(
                            waited, metadata=tenant_metadata(name), timeout=60
                        )
                request.page_token = page.next_page_token
                if not page.next_page_token:
                    break
            assert listed
            await usage.GetUsage(usage_pb2.GetUsageRequest(), metadata=tenant_metadata(name))
            await usage.ListCharges(usage_pb2.ListChargesRequest(), metadata=tenant_metadata(name))


@pytest.mark.timeout(120)
async def test_five_hundred_random_requests(tmp_path: Path, seed: int) -> None:
    """The quick form."""
    await fuzz(tmp_path, seed, 500)


@pytest.mark.faults_full
@pytest.mark.timeout(1_200)
async def test_fifty_thousand_random_requests(tmp_path: Path, seed: int) -> None:
    """The full form."""
    await fuzz(tmp_path, seed, 50_000)
