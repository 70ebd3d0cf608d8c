"""Predictions that a test takes away or changes, for whoever compares his books with upstream's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mediagate_sandbox.control import ControlError, SandboxControl

from .caller import SCHNELL, Caller

PICTURE = {"prompt": "a boat"}


async def test_one_that_is_taken_away_is_nowhere(caller: Caller) -> None:
    """Neither by its id nor in the list; the others stay, and so does the bill."""
    control = SandboxControl(caller.sandbox.url)
    gone, stays = [(await caller.ran(SCHNELL, PICTURE))["id"] for _ in range(2)]
    await asyncio.to_thread(control.forget, gone)
    assert (await caller.get(f"/v1/predictions/{gone}")).status == 404
    listed = (await caller.get("/v1/predictions")).json
    assert [one["id"] for one in listed["results"]] == [stays]
    bill = await asyncio.to_thread(control.bill)
    assert {entry["id"] for entry in bill["entries"]} == {gone, stays}
    with pytest.raises(ControlError, match="404"):
        await asyncio.to_thread(control.forget, gone)


async def test_metrics_are_changed_by_name(caller: Caller) -> None:
    """Those not named stay, null takes one away; the list shows the same."""
    control = SandboxControl(caller.sandbox.url)
    made: dict[str, Any] = await caller.ran(SCHNELL, PICTURE)
    before, billed = made["metrics"], (await asyncio.to_thread(control.bill))["total_nanos"]
    told = await asyncio.to_thread(
        lambda: control.amend(made["id"], predict_time=99.5, total_time=None)
    )
    expected = {**before, "predict_time": 99.5}
    del expected["total_time"]
    assert told == {"metrics": expected}
    listed = (await caller.get("/v1/predictions")).json
    assert listed["results"][0]["metrics"] == expected
    assert (await asyncio.to_thread(control.bill))["total_nanos"] == billed


async def test_what_makes_no_sense_is_refused(caller: Caller) -> None:
    """In words; one that runs has nothing to change yet."""
    made = await caller.ran(SCHNELL, PICTURE)
    place = f"/sandbox/predictions/{made['id']}"
    bodies: tuple[Any, ...] = (b"{", [], {}, {"metrics": 1}, {"metrics": {"a": []}}, {"x": {}})
    for body in bodies:
        assert (await caller.send("POST", place, body)).status == 400, body
    running = await caller.created("minimax/video-01", {"prompt": "[[hang]] x"})
    control = SandboxControl(caller.sandbox.url)
    for act in (control.forget, control.amend):
        with pytest.raises(ControlError, match="still runs"):
            await asyncio.to_thread(act, running["id"])
