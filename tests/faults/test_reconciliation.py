"""Planted mismatches between the ledger and upstream's list: all are found, and nothing else.

Also: what a mixed run cost is the same by its charges, by their totals and by upstream's bill.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from random import Random
from typing import Any

import grpc
import httpx
import pytest

from mediagate.v1 import cost_pb2, generation_pb2
from mediagate.v1.usage_pb2 import Discrepancy, GetReconciliationResponse
from mediagate_client import AsyncClient
from mediagate_sandbox.control_client import SandboxControl
from tests.sandbox_process import AT_ONCE, UNLIMITED, running_sandbox
from tests.server_process import MEDIAGATE, ServerProcess, running_server

from .mixed_load import MixedLoad

ABOVE_THE_LOAD = {
    "MEDIAGATE_UPSTREAM": "replicate",
    "MEDIAGATE_CREATES_PER_MINUTE": "1000000",
    "MEDIAGATE_READS_PER_MINUTE": "1000000",
    "MEDIAGATE_MAX_IN_FLIGHT": "0",
    "MEDIAGATE_USE_FALLBACK": "false",
    "REPLICATE_API_TOKEN": "r8_test",
}
EVERY = 0.5
"""Seconds between two passes: they go on while the load runs, and while it is tampered with."""


async def wait_for_pass(client: AsyncClient) -> GetReconciliationResponse:
    """Polls another process until a pass that began after this call has ended."""
    before = await client.get_reconciliation()
    begun = before.last_pass.begin_time.ToNanoseconds()
    passes = 0
    while True:
        response = await client.get_reconciliation()
        now = response.last_pass.begin_time.ToNanoseconds()
        if response.last_pass.complete and now > begun:
            begun, passes = now, passes + 1
        if passes == 2:  # The first may have begun before.
            return response
        await asyncio.sleep(0.02)


async def plant_orphans(sandbox: SandboxControl, count: int) -> set[str]:
    """Somebody else uses the token."""
    headers = {"Authorization": "Bearer r8_test"}
    prediction_ids = set()
    async with httpx.AsyncClient(base_url=sandbox.url, headers=headers) as upstream:
        for number in range(count):
            answer = await upstream.post(
                "/v1/models/black-forest-labs/flux-schnell/predictions",
                json={"input": {"prompt": f"not ours {number}"}},
            )
            assert answer.status_code == 201
            prediction_ids.add(answer.json()["id"])
    return prediction_ids


def plant_drift(sandbox: SandboxControl, victim: generation_pb2.Attempt, bill: Any) -> None:
    """Upstream now reports a little more of what it bills by."""
    entry = bill[victim.prediction_id]
    billed = {name: value for name, value in entry["metrics"].items() if _is_amount(value)}
    sandbox.amend(victim.prediction_id, **{name: value + 1 for name, value in billed.items()})


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def cases(response: GetReconciliationResponse) -> dict[str, set[str]]:
    """The predictions of each kind of case."""
    kinds: dict[str, set[str]] = {}
    for case in response.discrepancies:
        kinds.setdefault(Discrepancy.Kind.Name(case.kind), set()).add(case.prediction_id)
    return kinds


async def compare_books(
    client: AsyncClient, generations: list[generation_pb2.Generation], bill: Any
) -> None:
    """Charges, totals, generations and bill are the same to the nano-dollar."""
    (total,) = await client.get_usage()
    charges = [charge async for charge in client.list_charges(page_size=100)]
    settled = [charge for charge in charges if charge.cost.state == cost_pb2.COST_STATE_SETTLED]
    assert total.settled_usd_nanos == sum(charge.cost.usd_nanos for charge in settled) > 0
    assert total.settled_usd_nanos == bill["total_nanos"]
    assert (
        total.charges == len(charges) == sum(len(generation.attempts) for generation in generations)
    )
    assert total.generations == len(generations)
    unknown = sum(charge.cost.state == cost_pb2.COST_STATE_UNKNOWN for charge in charges)
    assert total.unknown_charges == unknown
    for group in ("model", "modality", "day", "price"):
        totals = await client.get_usage(group_by=[group])
        assert sum(total.settled_usd_nanos for total in totals) == total.settled_usd_nanos
        assert sum(total.charges for total in totals) == total.charges
    billed: dict[str, int] = {}
    for entry in bill["entries"]:
        billed[entry["model"]] = billed.get(entry["model"], 0) + (entry["nanos"] or 0)
    by_model = {
        total.model: total.settled_usd_nanos for total in await client.get_usage(group_by=["model"])
    }
    assert {model: by_model.get(model, 0) for model in billed} == billed


async def find_all(folder: Path, seed: int, count: int, each: int) -> None:
    """A mixed run of `count`, then `each` mismatches of every kind, in one pass."""
    with running_sandbox(folder, *AT_ONCE, *UNLIMITED) as sandbox:
        settings = {
            **ABOVE_THE_LOAD,
            "MEDIAGATE_UPSTREAM_URL": sandbox.url,
            "MEDIAGATE_RECONCILE_SECONDS": str(EVERY),
        }
        with running_server(folder, **settings) as server:
            async with (
                grpc.aio.insecure_channel(server.address) as channel,
                AsyncClient(server.address) as client,
            ):
                generations = await MixedLoad(channel).run(count, seed)
                bill = await asyncio.to_thread(sandbox.bill)
                await compare_books(client, generations, bill)
                quiet = await wait_for_pass(client)
                while quiet.counts.matched < count:  # The last have to rest for a moment.
                    quiet = await wait_for_pass(client)
                assert cases(quiet) == {}
                assert quiet.counts.matched == count

                random = Random(seed)
                entries = {entry["id"]: entry for entry in bill["entries"]}
                attempts = [
                    attempt for generation in generations for attempt in generation.attempts
                ]
                random.shuffle(attempts)
                priced = [a for a in attempts if entries[a.prediction_id]["nanos"]]
                drifting, others = priced[:each], priced[each : 2 * each]
                for victim in drifting:
                    await asyncio.to_thread(plant_drift, sandbox, victim, entries)
                for victim in others:
                    await asyncio.to_thread(sandbox.forget, victim.prediction_id)
                orphans = await plant_orphans(sandbox, each)
                response = await wait_for_pass(client)
                assert cases(response) == {
                    "KIND_ORPHAN": orphans,
                    "KIND_MISSING": {victim.prediction_id for victim in others},
                    "KIND_COST": {victim.prediction_id for victim in drifting},
                }
                assert len(response.discrepancies) == 3 * each
                counts = response.counts
                assert (counts.orphans, counts.missing, counts.cost_differs) == (each, each, each)
                again = await wait_for_pass(client)
                assert again.counts == counts
                printed = await asyncio.to_thread(by_command, server.address)
                assert len(printed["discrepancies"]) == 3 * each
            await check_reported(server, count, each)


async def check_reported(server: ServerProcess, count: int, each: int) -> None:
    """Log and metrics tell of `each` of every kind, and of all that was well."""
    assert server.output.read_text().count('"ledger_discrepancy"') == 3 * each
    async with httpx.AsyncClient() as operations:
        metrics = (await operations.get(f"http://{server.operations}/metrics")).text
    assert f'mediagate_reconciled_total{{outcome="orphan"}} {float(each)}' in metrics
    assert f'mediagate_reconciled_total{{outcome="matched"}} {float(count)}' in metrics


def by_command(address: str) -> Any:
    """What `mediagate reconcile --json` prints; it ends with 1 where it is asked to check."""
    command = [*MEDIAGATE, "reconcile", "--json", "--check", "--target", address]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    return json.loads(done.stdout)


async def test_planted_discrepancies_are_found(tmp_path: Path, seed: int) -> None:
    """12 among 200, in one pass; none is found that was not planted."""
    await find_all(tmp_path, seed, 200, 4)


@pytest.mark.faults_full
@pytest.mark.timeout(600)
async def test_sixty_discrepancies_among_a_thousand(tmp_path: Path, seed: int) -> None:
    """20 of each kind."""
    await find_all(tmp_path, seed, 1000, 20)
