"""What brings the gate down twice does not a third time: it ends, is paid as billed, and alarms."""

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
    image_pb2,
    image_pb2_grpc,
    options_pb2,
    text_pb2,
    text_pb2_grpc,
)
from mediagate_sandbox.control_client import SandboxControl
from tests.rpc.tenant_keys import channel_of
from tests.sandbox_process import UNLIMITED, running_sandbox

from .crashing_process import CALLER, CrashingProcess
from .retrying_caller import OPTIONS

FAILED = generation_pb2.Generation.STATE_FAILED
SILENT = {"do": "lose_webhook"}
PICTURES = 3


class QuarantineCaller:
    """One tenant's calls to a gate that dies under them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._texts: Any = text_pb2_grpc.TextServiceStub(channel)
        self._images: Any = image_pb2_grpc.ImageServiceStub(channel)
        self._generations: Any = generations_pb2_grpc.GenerationServiceStub(channel)

    async def order(self, what: str) -> None:
        """Have something made, and do not mind that the gate dies."""
        call = (
            self._texts.GenerateText(text_pb2.GenerateTextRequest(prompt="x"), wait_for_ready=True)
            if what == "text"
            else self._images.GenerateImage(
                image_pb2.GenerateImageRequest(
                    prompt="x",
                    count=PICTURES,  # all by one run
                    options=options_pb2.GenerationOptions(model="flux-schnell"),
                ),
                wait_for_ready=True,
            )
        )
        with contextlib.suppress(grpc.aio.AioRpcError):
            await call

    async def the_only_one(self) -> generation_pb2.Generation:
        """The one generation that there is, at its end."""
        listed = await self._generations.ListGenerations(
            generations_pb2.ListGenerationsRequest(), wait_for_ready=True
        )
        (one,) = listed.generations
        answer = await self._generations.WaitGeneration(
            generations_pb2.WaitGenerationRequest(id=one.id), wait_for_ready=True
        )
        return answer.generation  # type: ignore[no-any-return]

    async def a_text(self) -> str:
        """Another call: the gate serves."""
        answer = await self._texts.GenerateText(
            text_pb2.GenerateTextRequest(prompt="[[say=fine]]"), wait_for_ready=True
        )
        return answer.generation.text.text  # type: ignore[no-any-return]


@contextlib.asynccontextmanager
async def mortal(folder: Path, sandbox: SandboxControl) -> Any:
    """A gate that is not started yet, and its caller."""
    await asyncio.to_thread(sandbox.faults, SILENT)
    async with (
        CrashingProcess.of(folder / "gate", sandbox) as gate,
        channel_of(gate.address, CALLER, OPTIONS) as channel,
    ):
        yield gate, QuarantineCaller(channel)


async def until_stopped(gate: CrashingProcess) -> None:
    """Until it stands still, as a loop does that a bomb has frozen."""
    await asyncio.to_thread(
        os.waitid, os.P_PID, gate._running().pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT
    )


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("what", "place", "action"),
    [
        ("text", "while_decoding", "exit"),
        ("text", "while_settling", "stop"),
        ("picture", "while_settling", "exit"),
    ],
)
async def test_it_is_ended_by_the_third_gate(
    tmp_path: Path, what: str, place: str, action: str
) -> None:
    """The first two die, or stand still until they are killed, while they handle what it made."""
    armed = f"{place}:1:{action}"
    with running_sandbox(tmp_path, "--time-scale", "0.01", "--small-files", *UNLIMITED) as sandbox:
        async with mortal(tmp_path, sandbox) as (gate, caller):
            gate.start(armed)
            ordering = asyncio.create_task(caller.order(what))
            for _ in range(2):
                if action == "stop":
                    await until_stopped(gate)
                    await gate.kill()
                else:
                    await gate.until_dead()
                gate.start(armed)
            made = await caller.the_only_one()
            alarms = quarantined(gate)
            metrics = await read_metrics(gate)
            await gate.stop()
            await ordering
            gate.start()
            assert await caller.a_text() == "fine"
            assert (await caller_sees(caller, made.id)).state == FAILED
            await gate.stop()
        bill = await asyncio.to_thread(sandbox.bill)
    assert made.state == FAILED
    assert "QUARANTINED" in str(made.error)
    assert made.WhichOneof("output") is None
    assert made.cost.state == cost_pb2.COST_STATE_SETTLED
    (billed, _) = bill["entries"]
    assert made.cost.usd_nanos == billed["nanos"] > 0
    assert [(one["id"], one["cause"]) for one in alarms] == [(made.id, "crashes")]
    assert 'mediagate_generations_quarantined_total{cause="crashes"} 1.0' in metrics
    assert list((gate.data / "crash-marks").glob("*.mark")) == []
    assert json.loads((gate.data / "crash-marks" / "blames.json").read_text())["blames"] == {}


@pytest.mark.timeout(120)
async def test_one_death_is_no_reason(tmp_path: Path) -> None:
    """It may have been anything: the next one handles it as ever."""
    with running_sandbox(tmp_path, "--time-scale", "0.01", "--small-files", *UNLIMITED) as sandbox:
        async with mortal(tmp_path, sandbox) as (gate, caller):
            gate.start("while_settling")
            ordering = asyncio.create_task(caller.order("text"))
            await gate.until_dead()
            gate.start()
            made = await caller.the_only_one()
            await gate.stop()
            await ordering
            gate.check_log()
    assert made.state == generation_pb2.Generation.STATE_SUCCEEDED
    assert made.text.text


def quarantined(gate: CrashingProcess) -> list[dict[str, str]]:
    """The alarms in the log."""
    lines = [line for line in gate.log.read_text().splitlines() if line.startswith("{")]
    said = [json.loads(line) for line in lines]
    return [one for one in said if one["event"] == "generation_quarantined"]


async def read_metrics(gate: CrashingProcess) -> str:
    """What the operations port shows."""
    async with httpx.AsyncClient() as client:
        return (await client.get(f"http://{gate.operations}/metrics")).text


async def caller_sees(caller: QuarantineCaller, generation_id: str) -> generation_pb2.Generation:
    """One generation, as a later gate shows it."""
    answer = await caller._generations.GetGeneration(
        generations_pb2.GetGenerationRequest(id=generation_id), wait_for_ready=True
    )
    return answer.generation  # type: ignore[no-any-return]
