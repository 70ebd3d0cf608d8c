"""Webhooks lost, repeated, overtaken, late and forged: everything ends, and is settled once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from mediagate.v1 import generation_pb2
from mediagate_sandbox.control_client import SandboxControl
from tests.sandbox_process import AT_ONCE, UNLIMITED, running_sandbox
from tests.server_process import ServerProcess, free_ports, running_server

from .mixed_load import MixedLoad
from .test_bill_matches_ledger import ABOVE_THE_LOAD, differing

Fault = dict[str, Any]

FAULTS: list[list[Fault]] = [
    [],
    [{"do": "lose_webhook"}],
    [{"do": "repeat_webhook", "copies": 5}],
    [{"do": "reorder_webhooks"}],
    [{"do": "delay_webhook", "ms": 300}],
    [{"do": "forge_webhook", "status": "succeeded"}],
    [{"do": "forge_webhook", "status": "canceled", "instead": True, "nth": 1}],
    [
        {"do": "lose_webhook", "probability": 0.3},
        {"do": "repeat_webhook", "probability": 0.3},
        {"do": "delay_webhook", "ms": 50, "probability": 0.3},
        {"do": "forge_webhook", "status": "failed", "probability": 0.3},
    ],
]

SILENT = [["lose_webhook"]]
"""What leaves no true webhook to be taken."""


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[ServerProcess, SandboxControl]]:
    """A server that can be told by webhooks, and the sandbox that tells it."""
    (port,) = free_ports(1)
    web = {
        "MEDIAGATE_WEB_ADDRESS": f"127.0.0.1:{port}",
        "MEDIAGATE_PUBLIC_URL": f"http://127.0.0.1:{port}",
    }
    with running_sandbox(tmp_path, *AT_ONCE, *UNLIMITED) as sandbox:
        settings = {**ABOVE_THE_LOAD, "MEDIAGATE_UPSTREAM_URL": sandbox.url, **web}
        with running_server(tmp_path, **settings) as server:
            yield server, sandbox


async def outcomes(server: ServerProcess) -> dict[str, int]:
    """How many webhooks the server took, by what became of them."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{server.operations}/metrics") as answer,
    ):
        lines = (await answer.text()).splitlines()
    counts = [line for line in lines if line.startswith("mediagate_webhooks_total{")]
    return {line.split('"')[1]: int(float(line.split()[-1])) for line in counts}


@pytest.mark.parametrize(
    "faults", FAULTS, ids=lambda faults: "+".join(each["do"] for each in faults) or "none"
)
async def test_every_generation_is_settled_once(
    pair: tuple[ServerProcess, SandboxControl], faults: list[Fault], seed: int
) -> None:
    """Each generation ends as its prediction did, and costs what was billed for that."""
    server, sandbox = pair
    await asyncio.to_thread(sandbox.faults, *faults, seed=seed)
    async with grpc.aio.insecure_channel(server.address) as channel:
        generations = await MixedLoad(channel).run(40, seed)
    bill = await asyncio.to_thread(sandbox.bill)
    assert differing(generations, bill) == set()
    assert len(generations) == bill["predictions"] == 40
    _end_alike(generations, bill)
    kinds = {fault["do"] for fault in faults}
    assert {each["do"] for each in await asyncio.to_thread(sandbox.fired)} == kinds
    expected = {"forged"} if "forge_webhook" in kinds else set()
    if [each["do"] for each in faults] not in SILENT:
        expected |= {"taken"}
    seen = await outcomes(server)
    while not expected <= seen.keys():  # Some are still on their way when all has ended.
        seen = await outcomes(server)
    assert seen.keys() - expected <= {"replayed", "taken"}


def _end_alike(generations: list[generation_pb2.Generation], bill: Any) -> None:
    """No lie of a forged webhook is anywhere: the states are those of the predictions."""
    ended = {entry["id"]: entry["status"] for entry in bill["entries"]}
    alike = {
        "succeeded": generation_pb2.Attempt.STATE_SUCCEEDED,
        "failed": generation_pb2.Attempt.STATE_FAILED,
        "canceled": generation_pb2.Attempt.STATE_CANCELLED,
    }
    for generation in generations:
        (attempt,) = generation.attempts
        assert attempt.state == alike[ended[attempt.prediction_id]]
