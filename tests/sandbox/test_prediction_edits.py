"""Predictions that a test takes away or changes, for whoever compares his books with upstream's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mediagate_sandbox.control_client import ControlError, SandboxControl

from .sandbox_client import SCHNELL, SandboxClient

PICTURE = {"prompt": "a boat"}


async def test_a_removed_prediction_is_not_found(sandbox_client: SandboxClient) -> None:
    """Neither by its id nor in the list; the others stay, and so does the bill."""
    control = SandboxControl(sandbox_client.sandbox.url)
    gone, stays = [(await sandbox_client.ran(SCHNELL, PICTURE))["id"] for _ in range(2)]
    await asyncio.to_thread(control.forget, gone)
    assert (await sandbox_client.get(f"/v1/predictions/{gone}")).status == 404
    listed = (await sandbox_client.get("/v1/predictions")).json
    assert [prediction["id"] for prediction in listed["results"]] == [stays]
    bill = await asyncio.to_thread(control.bill)
    assert {entry["id"] for entry in bill["entries"]} == {gone, stays}
    with pytest.raises(ControlError, match="404"):
        await asyncio.to_thread(control.forget, gone)


async def test_metrics_are_changed_by_name(sandbox_client: SandboxClient) -> None:
    """Those not named stay, null takes one away; the list shows the same."""
    control = SandboxControl(sandbox_client.sandbox.url)
    prediction: dict[str, Any] = await sandbox_client.ran(SCHNELL, PICTURE)
    before, billed = prediction["metrics"], (await asyncio.to_thread(control.bill))["total_nanos"]
    amended = await asyncio.to_thread(
        lambda: control.amend(prediction["id"], predict_time=99.5, total_time=None)
    )
    expected = {**before, "predict_time": 99.5}
    del expected["total_time"]
    assert amended == {"metrics": expected}
    listed = (await sandbox_client.get("/v1/predictions")).json
    assert listed["results"][0]["metrics"] == expected
    assert (await asyncio.to_thread(control.bill))["total_nanos"] == billed


async def test_invalid_edits_are_refused(sandbox_client: SandboxClient) -> None:
    """In words; one that runs has nothing to change yet."""
    prediction = await sandbox_client.ran(SCHNELL, PICTURE)
    url = f"/sandbox/predictions/{prediction['id']}"
    bodies: tuple[Any, ...] = (b"{", [], {}, {"metrics": 1}, {"metrics": []}, {"x": {}})
    for body in bodies:
        assert (await sandbox_client.send("POST", url, body)).status == 400, body
    running = await sandbox_client.created("minimax/video-01", {"prompt": "[[hang]] x"})
    control = SandboxControl(sandbox_client.sandbox.url)
    for act in (control.forget, control.amend):
        with pytest.raises(ControlError, match="still runs"):
            await asyncio.to_thread(act, running["id"])
