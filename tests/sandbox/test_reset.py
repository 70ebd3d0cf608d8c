"""`POST /sandbox/reset`: afterwards the sandbox is as it began, and only the bill remembers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from mediagate_sandbox.clock import ManualClock
from mediagate_sandbox.faults.plan_parser import parse_plan

from .conftest import Opener
from .fault_orders import bill, fired, order
from .sandbox_client import LLAMA, SCHNELL, SandboxClient
from .webhook_receiver import Receiver, receiving

SDXL = "stability-ai/sdxl:7762fd07cf82c948538e41f63f77d685e02b063e37e496e96eefd46c929f9bdc"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def reset(caller: SandboxClient) -> None:
    """Reset the sandbox."""
    assert (await caller.send("POST", "/sandbox/reset")).status == 200


async def hooked(caller: SandboxClient, receiver: Receiver, prompt: str) -> Any:
    """A prediction whose end the receiver is told."""
    given = {"version": LLAMA, "input": {"prompt": prompt}, "webhook": receiver.url}
    answer = await caller.send("POST", "/v1/predictions", given)
    assert answer.status == 201, answer.body
    return answer.json


async def uploaded(caller: SandboxClient) -> Any:
    """An uploaded file."""
    form = aiohttp.FormData(default_to_multipart=True)
    form.add_field("content", b"hello", filename="a.txt")
    headers = {"Authorization": "Bearer any"}
    async with caller.session.post(
        f"{caller.sandbox.base_url}/files", data=form, headers=headers
    ) as answer:
        return await answer.json()


async def test_a_reset_removes_everything(sandbox_client: SandboxClient) -> None:
    """No prediction, by no way; no upload; no count."""
    text = await sandbox_client.ran(LLAMA, {"prompt": "x"})
    picture = await sandbox_client.ran(SCHNELL, {"prompt": "x"})
    file = await uploaded(sandbox_client)
    link = (await sandbox_client.get(f"/sandbox/files/{file['id']}/link")).json["url"]
    await reset(sandbox_client)
    for url in (
        text["urls"]["get"],
        text["urls"]["stream"],
        picture["output"][0],
        file["urls"]["get"],
        link,
    ):
        assert (await sandbox_client.get(url)).status == 404, url
    assert (await sandbox_client.get("/v1/predictions")).json["results"] == []
    assert (await sandbox_client.get("/v1/files")).json["results"] == []
    await reset(sandbox_client)
    state = await sandbox_client.state()
    assert (state["creates"]["total"], state["predictions"]) == (0, [])
    assert state["requests"] == {"GET /sandbox/state": 1}


async def test_a_reset_cancels_running_predictions_and_keeps_the_bill(
    frozen_clock_client: SandboxClient, clock: ManualClock
) -> None:
    """It is canceled then and there, whoever waits for it is told, and billed as any such run."""
    ended = await frozen_clock_client.created(SCHNELL, {"prompt": "x [[run_ms=0]]"})
    await clock.advance(100)
    hanging = await frozen_clock_client.created(SDXL, {"prompt": "x [[hang]]"})
    waiting_create = asyncio.create_task(
        frozen_clock_client.created(SDXL, {"prompt": "x [[hang]]"}, Prefer="wait")
    )
    while len(await bill(frozen_clock_client)) < 3:
        continue
    await clock.advance(7)
    await reset(frozen_clock_client)
    assert (await waiting_create)["status"] == "canceled"
    before = await bill(frozen_clock_client)
    assert [each["id"] for each in before] == [
        ended["id"],
        hanging["id"],
        (await waiting_create)["id"],
    ]
    assert [each["status"] for each in before] == ["succeeded", "canceled", "canceled"]
    assert all(each["nanos"] for each in before)
    await clock.advance(3600)
    assert await bill(frozen_clock_client) == before


async def test_a_reset_cancels_pending_webhooks(
    frozen_clock_client: SandboxClient, clock: ManualClock, receiver: Receiver
) -> None:
    """Neither the end of what was stopped nor a retry reaches the tests that follow."""
    receiver.answers = [500]
    await hooked(frozen_clock_client, receiver, "x [[tokens=1 first_ms=0 boot_ms=0]]")
    await clock.advance(1)
    await receiver.until("succeeded")
    await hooked(frozen_clock_client, receiver, "x [[hang boot_ms=0]]")
    await reset(frozen_clock_client)
    await clock.advance(120)
    prediction = await hooked(frozen_clock_client, receiver, "x [[tokens=1 first_ms=0 boot_ms=0]]")
    await clock.advance(1)
    assert {each.json["id"] for each in await receiver.until("succeeded")} == {prediction["id"]}
    assert {each["prediction"] for each in (await frozen_clock_client.state())["webhooks"]} == {
        prediction["id"]
    }


async def test_a_reset_removes_faults_and_limits(sandbox_client: SandboxClient) -> None:
    """Faults, limits, cuts and another webhook secret, with their overlap."""
    url = "/v1/webhooks/default/secret"
    secret = (await sandbox_client.get(url)).json
    await order(sandbox_client, {"do": "throttle", "on": "list"})
    await sandbox_client.get("/v1/predictions")
    await sandbox_client.send("POST", "/sandbox/limits", {"credit": "none"})
    await sandbox_client.send("POST", "/sandbox/streams/cut", {"after_bytes": 1})
    await sandbox_client.send("POST", "/sandbox/webhooks/secret", {"overlap_seconds": 60})
    assert (await sandbox_client.get(url)).json != secret
    await reset(sandbox_client)
    assert (await sandbox_client.get(url)).json == secret
    assert (
        (await sandbox_client.get("/sandbox/faults")).json["faults"]
        == await fired(sandbox_client)
        == []
    )
    assert (await sandbox_client.get("/sandbox/limits")).json["credit"] == "enough"
    assert (await sandbox_client.state())["streams"] == {"cut": None, "cuts_made": 0}
    assert (await sandbox_client.get("/v1/predictions")).status == 200


async def test_a_reset_restores_the_settings(open_sandbox: Opener) -> None:
    """A plan, a cut and a first boot are spent by one test, and there for the next."""
    plan = parse_plan({"faults": [{"do": "throttle", "on": "list", "times": 1}]})
    async with open_sandbox(faults=plan, cut_streams_after_bytes=1, cold_boots=True) as caller:
        for _ in range(2):
            assert (await caller.get("/v1/predictions")).status == 429
            assert (await caller.get("/v1/predictions")).status == 200
            text = await caller.ran(LLAMA, {"prompt": "x"})
            with pytest.raises(aiohttp.ClientError):
                await caller.stream(text)
            assert b"event: done" in await caller.stream(text)
            first, second = [(await caller.ran(SDXL, {"prompt": "x"}))["metrics"] for _ in range(2)]
            assert first["total_time"] - first["predict_time"] > 1
            assert second["total_time"] - second["predict_time"] < 1
            await order(caller)
            await reset(caller)
