"""Quarantine: what crashes the server twice does not a third time; it is billed, and alarms."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from mediagate.v1 import (
    cost_pb2,
    generation_pb2,
    generations_pb2,
    generations_pb2_grpc,
    image_pb2_grpc,
    text_pb2_grpc,
)
from mediagate_sandbox.control_client import SandboxControl
from tests.builders import image_request, text_request
from tests.rpc.tenant_keys import channel_of
from tests.sandbox_process import UNLIMITED, running_sandbox

from .crashing_process import CALLER, CrashingProcess
from .retrying_caller import OPTIONS

FAILED = generation_pb2.Generation.STATE_FAILED
SILENT = {"do": "lose_webhook"}
PICTURES = 3


class QuarantineCaller:
    """One tenant's calls to a server that dies under them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._texts: Any = text_pb2_grpc.TextServiceStub(channel)
        self._images: Any = image_pb2_grpc.ImageServiceStub(channel)
        self._generations: Any = generations_pb2_grpc.GenerationServiceStub(channel)

    async def order(self, what: str) -> None:
        """Have something made, and do not mind that the server dies."""
        call = (
            self._texts.GenerateText(text_request(prompt="x"), wait_for_ready=True)
            if what == "text"
            else self._images.GenerateImage(
                image_request(
                    prompt="x",
                    count=PICTURES,  # all by one run
                    model="flux-schnell",
                ),
                wait_for_ready=True,
            )
        )
        with contextlib.suppress(grpc.aio.AioRpcError):
            await call

    async def only_generation(self) -> generation_pb2.Generation:
        """The one generation that there is, at its end."""
        listed = await self._generations.ListGenerations(
            generations_pb2.ListGenerationsRequest(), wait_for_ready=True
        )
        (generation,) = listed.generations
        answer = await self._generations.WaitGeneration(
            generations_pb2.WaitGenerationRequest(id=generation.id), wait_for_ready=True
        )
        return answer.generation  # type: ignore[no-any-return]

    async def a_text(self) -> str:
        """Another call: the server serves."""
        answer = await self._texts.GenerateText(
            text_request(prompt="[[say=fine]]"), wait_for_ready=True
        )
        return answer.generation.text.text  # type: ignore[no-any-return]


@contextlib.asynccontextmanager
async def mortal(folder: Path, sandbox: SandboxControl) -> Any:
    """A server that is not started yet, and its caller."""
    await asyncio.to_thread(sandbox.faults, SILENT)
    async with (
        CrashingProcess.of(folder / "gate", sandbox) as server,
        channel_of(server.address, CALLER, OPTIONS) as channel,
    ):
        yield server, QuarantineCaller(channel)


async def until_stopped(server: CrashingProcess) -> None:
    """Until it stands still, as a loop does that a bomb has frozen."""
    await asyncio.to_thread(
        os.waitid, os.P_PID, server._running().pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT
    )


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("what", "failpoint", "action"),
    [
        ("text", "while_decoding", "exit"),
        ("text", "while_settling", "stop"),
        ("picture", "while_settling", "exit"),
    ],
)
async def test_two_crashes_lead_to_quarantine(
    tmp_path: Path, what: str, failpoint: str, action: str
) -> None:
    """The first two die, or stand still until they are killed, while they handle what it made."""
    armed = f"{failpoint}:1:{action}"
    with running_sandbox(tmp_path, "--time-scale", "0.01", "--small-files", *UNLIMITED) as sandbox:
        async with mortal(tmp_path, sandbox) as (process, caller):
            process.start(armed)
            ordering = asyncio.create_task(caller.order(what))
            for _ in range(2):
                if action == "stop":
                    await until_stopped(process)
                    await process.kill()
                else:
                    await process.until_dead()
                process.start(armed)
            generation = await caller.only_generation()
            alarms = quarantined(process)
            metrics = await read_metrics(process)
            await process.stop()
            await ordering
            process.start()
            assert await caller.a_text() == "fine"
            assert (await caller_sees(caller, generation.id)).state == FAILED
            await process.stop()
        bill = await asyncio.to_thread(sandbox.bill)
    assert generation.state == FAILED
    assert "QUARANTINED" in str(generation.error)
    assert generation.WhichOneof("output") is None
    assert generation.cost.state == cost_pb2.COST_STATE_SETTLED
    (billed, _) = bill["entries"]
    assert generation.cost.usd_nanos == billed["nanos"] > 0
    assert [(alarm["id"], alarm["cause"]) for alarm in alarms] == [(generation.id, "crashes")]
    assert 'mediagate_generations_quarantined_total{cause="crashes"} 1.0' in metrics
    assert list((process.data / "crash-marks").glob("*.mark")) == []
    assert json.loads((process.data / "crash-marks" / "blames.json").read_text())["blames"] == {}


@pytest.mark.timeout(120)
async def test_one_crash_does_not_lead_to_quarantine(tmp_path: Path) -> None:
    """It may have been anything: the next one handles it as ever."""
    with running_sandbox(tmp_path, "--time-scale", "0.01", "--small-files", *UNLIMITED) as sandbox:
        async with mortal(tmp_path, sandbox) as (process, caller):
            process.start("while_settling")
            ordering = asyncio.create_task(caller.order("text"))
            await process.until_dead()
            process.start()
            generation = await caller.only_generation()
            await process.stop()
            await ordering
            process.check_log()
    assert generation.state == generation_pb2.Generation.STATE_SUCCEEDED
    assert generation.text.text


def quarantined(server: CrashingProcess) -> list[dict[str, str]]:
    """The alarms in the log."""
    lines = [line for line in server.log.read_text().splitlines() if line.startswith("{")]
    said = [json.loads(line) for line in lines]
    return [entry for entry in said if entry["event"] == "generation_quarantined"]


async def read_metrics(server: CrashingProcess) -> str:
    """What the operations port shows."""
    async with httpx.AsyncClient() as client:
        return (await client.get(f"http://{server.operations}/metrics")).text


async def caller_sees(caller: QuarantineCaller, generation_id: str) -> generation_pb2.Generation:
    """One generation, as a later server shows it."""
    answer = await caller._generations.GetGeneration(
        generations_pb2.GetGenerationRequest(id=generation_id), wait_for_ready=True
    )
    return answer.generation  # type: ignore[no-any-return]
