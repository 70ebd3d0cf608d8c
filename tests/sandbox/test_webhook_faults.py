"""Faults that strike webhooks, seen by a receiver."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mediagate_sandbox.clock import ManualClock

from .fault_orders import Fault, fired, order
from .sandbox_client import LLAMA, SandboxClient
from .webhook_receiver import Received, Receiver, receiving

EVENTS = ["start", "completed"]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def ran(caller: SandboxClient, receiver: Receiver, *faults: Fault, **more: Any) -> Any:
    """A prediction with a webhook, under a plan, to its end."""
    await order(caller, *faults)
    body = {
        "version": LLAMA,
        "input": {"prompt": "x [[tokens=3]]"},
        "webhook": receiver.url,
        "webhook_events_filter": EVENTS,
        **more,
    }
    return await caller.ended((await caller.send("POST", "/v1/predictions", body)).json)


async def is_signed(caller: SandboxClient, got: Received) -> bool:
    """Whether it is signed with the account's secret."""
    secret = (await caller.get("/v1/webhooks/default/secret")).json["key"]
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = b".".join((got.id.encode(), got.headers["webhook-timestamp"].encode(), got.body))
    right = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return f"v1,{right}" in got.headers["webhook-signature"].split(" ")


async def test_lost(sandbox_client: SandboxClient, receiver: Receiver) -> None:
    """The first one never comes; the state shows that it was never tried."""
    document = await ran(sandbox_client, receiver, {"do": "lose_webhook", "nth": 1})
    (got,) = await receiver.until("succeeded")
    assert got.json["id"] == document["id"]
    lost, sent = (await sandbox_client.state())["webhooks"]
    assert (lost["attempts"], len(sent["attempts"])) == ([], 1)
    (only,) = await fired(sandbox_client)
    assert (only["on"], only["model"], only["prediction"]) == ("webhook", LLAMA, document["id"])


async def test_five_times(sandbox_client: SandboxClient, receiver: Receiver) -> None:
    """The same bytes under the same id."""
    await ran(sandbox_client, receiver, {"do": "repeat_webhook", "nth": 2})
    got = [await receiver.next() for _ in range(6)]
    assert [each.json["status"] for each in got] == ["processing"] + ["succeeded"] * 5
    assert len({(each.id, each.body) for each in got[1:]}) == 1


async def test_reordered(sandbox_client: SandboxClient, receiver: Receiver) -> None:
    """The end overtakes the start."""
    await ran(sandbox_client, receiver, {"do": "reorder_webhooks"})
    got = [await receiver.next() for _ in range(2)]
    assert [each.json["status"] for each in got] == ["succeeded", "processing"]


async def test_late(
    frozen_clock_client: SandboxClient, receiver: Receiver, clock: ManualClock
) -> None:
    """Held back as long as told, by the sandbox's clock."""
    await order(frozen_clock_client, {"do": "delay_webhook", "ms": 60_000})
    body = {
        "version": LLAMA,
        "input": {"prompt": "x [[tokens=1 boot_ms=0 first_ms=0]]"},
        "webhook": receiver.url,
        "webhook_events_filter": ["completed"],
    }
    await frozen_clock_client.ended(
        (await frozen_clock_client.send("POST", "/v1/predictions", body)).json
    )
    await clock.sleeping(1)
    await clock.advance(59)
    assert receiver.all == []
    await clock.advance(1)
    assert (await receiver.next()).json["status"] == "succeeded"


@pytest.mark.parametrize(("instead", "count"), [(False, 2), (True, 1)])
async def test_forged(
    sandbox_client: SandboxClient, receiver: Receiver, instead: bool, count: int
) -> None:
    """A lie with a signature of another key, ahead of the truth or instead of it."""
    fault = {"do": "forge_webhook", "status": "canceled", "instead": instead}
    document = await ran(sandbox_client, receiver, fault, webhook_events_filter=["completed"])
    got = [await receiver.next() for _ in range(count)]
    assert [each.json["status"] for each in got] == ["canceled", "succeeded"][:count]
    assert [await is_signed(sandbox_client, each) for each in got] == [False, True][:count]
    assert {each.json["id"] for each in got} == {document["id"]}
    assert len(receiver.all) == count
