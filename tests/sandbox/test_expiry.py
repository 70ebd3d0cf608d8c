"""What is gone an hour after a run: its data and its files, and what becomes of who needs them."""

from __future__ import annotations

from typing import Any

import pytest

from mediagate_sandbox.clock import ManualClock

from .conftest import Opener
from .sandbox_client import LLAMA, SCHNELL, SandboxClient

DEV = "black-forest-labs/flux-dev"
EDIT = "google/nano-banana"
HOUR = 3600


async def test_data_is_removed_after_an_hour(
    frozen_clock_client: SandboxClient, clock: ManualClock
) -> None:
    """Input, output and logs go; status, times and metrics stay, as does its place in the list."""
    document = await frozen_clock_client.created(SCHNELL, {"prompt": "a boat"})
    url = document["urls"]["get"]
    await clock.advance(60)
    done = (await frozen_clock_client.get(url)).json
    assert (done["data_removed"], len(done["output"])) == (False, 1)
    assert (await frozen_clock_client.get(done["output"][0])).status == 200
    await clock.advance(HOUR)
    removed = (await frozen_clock_client.get(url)).json
    assert removed["data_removed"] is True
    assert (removed["input"], removed["output"], removed["logs"]) == ({}, None, "")
    gone = {"data_removed", "input", "output", "logs"}
    assert {name: value for name, value in removed.items() if name not in gone} == {
        name: value for name, value in done.items() if name not in gone
    }
    assert (await frozen_clock_client.get(done["output"][0])).status == 404
    assert (await frozen_clock_client.get("/v1/predictions")).json["results"] == [removed]


async def test_the_hour_begins_at_the_end(
    frozen_clock_client: SandboxClient, clock: ManualClock
) -> None:
    """What still runs keeps everything; of two that ended the older one goes first."""
    running = await frozen_clock_client.created(
        LLAMA, {"prompt": "x [[hang_after=2 boot_ms=0 first_ms=0]]"}
    )
    first = await frozen_clock_client.created(LLAMA, {"prompt": "x [[tokens=1 first_ms=0]]"})
    await clock.advance(1000)
    second = await frozen_clock_client.created(LLAMA, {"prompt": "x [[tokens=1 first_ms=0]]"})
    await clock.advance(HOUR - 999)

    async def removed() -> list[bool]:
        urls = [each["urls"]["get"] for each in (running, first, second)]
        return [(await frozen_clock_client.get(each)).json["data_removed"] for each in urls]

    assert await removed() == [False, True, False]
    await clock.advance(1000)
    assert await removed() == [False, True, True]


@pytest.mark.parametrize("status", ["failed", "canceled"])
async def test_data_of_failed_and_canceled_runs_is_removed(
    frozen_clock_client: SandboxClient, clock: ManualClock, status: str
) -> None:
    """Failed and canceled runs lose their data as well; the error stays."""
    prompt = "x [[fail=no]]" if status == "failed" else "x [[hang]]"
    document = await frozen_clock_client.created(LLAMA, {"prompt": prompt})
    await clock.advance(5)
    await frozen_clock_client.send("POST", document["urls"]["cancel"])
    await clock.advance(HOUR)
    removed = (await frozen_clock_client.get(document["urls"]["get"])).json
    assert (removed["status"], removed["data_removed"]) == (status, True)
    assert removed["error"] == ("no" if status == "failed" else None)


async def test_retention_is_configurable(open_sandbox: Opener, clock: ManualClock) -> None:
    """An hour is a long time in a test."""
    async with open_sandbox(clock, time_scale=0, data_retention=5) as caller:
        document = await caller.created(SCHNELL, {"prompt": "x"})
        await clock.advance(4)
        assert (await caller.get(document["urls"]["get"])).json["output"]
        await clock.advance(2)
        assert (await caller.get(document["urls"]["get"])).json["output"] is None


def form(content: bytes) -> bytes:
    """A form with one file."""
    head = b"--b\r\nContent-Disposition: form-data; name=content; filename=a.png\r\n\r\n"
    return head + content + b"\r\n--b--\r\n"


async def uploaded(caller: SandboxClient) -> Any:
    """A file to give to a model."""
    kind = "multipart/form-data; boundary=b"
    return (await caller.send("POST", "/v1/files", form(b"x"), Content_Type=kind)).json


async def test_existing_files_and_outputs_can_be_inputs(
    sandbox_client: SandboxClient,
) -> None:
    """An uploaded file, the output of another run, a data URI and a link to anywhere else."""
    output = (await sandbox_client.ran(SCHNELL, {"prompt": "x"}))["output"][0]
    upload = (await uploaded(sandbox_client))["urls"]["get"]
    for link in (output, upload, "data:image/png;base64,AAAA", "https://a.example/v1/files/x"):
        for model, given in ((DEV, {"image": link}), (EDIT, {"image_input": [link]})):
            ended = await sandbox_client.ran(model, {"prompt": "x", **given})
            assert ended["status"] == "succeeded", link


async def test_a_run_with_a_deleted_input_fails(sandbox_client: SandboxClient) -> None:
    """A deleted upload, an output of nobody; the create is taken all the same."""
    upload = await uploaded(sandbox_client)
    await sandbox_client.send("DELETE", upload["urls"]["get"])
    output = (await sandbox_client.ran(SCHNELL, {"prompt": "x"}))["output"][0]
    for link in (upload["urls"]["get"], output.replace("out-0", "out-7")):
        for model, given in ((DEV, {"image": link}), (EDIT, {"image_input": [output, link]})):
            ended = await sandbox_client.ran(model, {"prompt": "x", **given})
            assert ended["status"] == "failed"
            assert "404" in ended["error"]
            assert ended["output"] is None
