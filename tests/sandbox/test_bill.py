"""The bill: every prediction is on it, with what was metered and what that comes to."""

from __future__ import annotations

import itertools
import json
import logging
import resource
from pathlib import Path
from typing import Any

import pytest

from mediagate_sandbox.clock import ManualClock
from mediagate_sandbox.models import Model, load_catalog
from mediagate_sandbox.price_list import load_price_list
from mediagate_sandbox.server import Sandbox, SandboxSettings

from .conftest import Opener
from .sandbox_client import LLAMA, SCHNELL, SandboxClient

SDXL = "stability-ai/sdxl:7762fd07cf82c948538e41f63f77d685e02b063e37e496e96eefd46c929f9bdc"
VIDEO = "minimax/video-01"
FULL = Path("/dev/full")
MUSIC = next(model.version for model in load_catalog() if model.slug == "meta/musicgen")
LEAST: dict[str, Any] = {"uri": "https://a.example/x.png", "string": "a boat", "union": 1}
PRICES = load_price_list()
PARTLY_PRICED = {
    "bytedance/seedance-1.5-pro",
    "minimax/hailuo-2.3-fast",
    "wan-video/wan-2.5-t2v-fast",
}
"""Models of whose prices only some were ever seen: the rest is unpriced."""


async def bill(caller: SandboxClient, query: str = "") -> Any:
    """The bill, read without a token."""
    answer = await caller.send("GET", f"/sandbox/bill{query}", None, Authorization="")
    assert answer.status == 200, answer.body
    return answer.json


async def test_every_kind_of_price(sandbox_client: SandboxClient) -> None:
    """By token, by the piece, by the second of a machine: exact, and added up."""
    text = await sandbox_client.ran(LLAMA, {"prompt": "x" * 40 + "[[tokens=46]]"})
    image = await sandbox_client.ran(SCHNELL, {"prompt": "x", "num_outputs": 3})
    sdxl = await sandbox_client.ran(SDXL, {"prompt": "x [[run_ms=1234]]"})
    video = await sandbox_client.ran(VIDEO, {"prompt": "x"})
    read = await bill(sandbox_client)
    by_id = {each["id"]: each for each in read["entries"]}
    assert [each["number"] for each in read["entries"]] == [1, 2, 3, 4]
    assert by_id[text["id"]]["nanos"] == 10 * 650 + 46 * 2750
    assert by_id[text["id"]]["metrics"] == {"token_input_count": 10, "token_output_count": 46}
    assert by_id[image["id"]]["nanos"] == 9_000_000
    assert by_id[sdxl["id"]]["metrics"] == {"predict_time": 1.234}
    assert by_id[sdxl["id"]]["nanos"] == 1_203_150
    assert by_id[video["id"]]["nanos"] == 500_000_000
    assert read["total_nanos"] == 133_000 + 9_000_000 + 1_203_150 + 500_000_000
    assert (read["predictions"], read["running"], read["unpriced"]) == (4, 0, 0)
    assert all(each["unmetered"] == [] and each["ended_at"] for each in read["entries"])


async def test_bill_entries_have_the_webhook_url(sandbox_client: SandboxClient) -> None:
    """An entry names the webhook's URL, where a caller can put an id of its own, and the input."""
    body = {
        "version": LLAMA,
        "input": {"prompt": "hello"},
        "webhook": "https://a.example/hook?generation=gen_1",
    }
    await sandbox_client.send("POST", "/v1/predictions", body)
    (entry,) = (await bill(sandbox_client))["entries"]
    assert entry["webhook"] == body["webhook"]
    (seen,) = (await sandbox_client.state())["creates"]["list"]
    assert (entry["id"], entry["input_sha256"]) == (seen["prediction"], seen["input_sha256"])
    assert "hello" not in json.dumps(entry)


async def test_running_predictions_are_billed_without_a_price(
    frozen_clock_client: SandboxClient, clock: ManualClock
) -> None:
    """From acceptance on, with its status; the price comes with the end."""
    await frozen_clock_client.created(VIDEO, {"prompt": "x"})
    await clock.advance(1)
    read = await bill(frozen_clock_client)
    (entry,) = read["entries"]
    assert (entry["status"], entry["nanos"], read["running"]) == ("processing", None, 1)
    assert read["total_nanos"] == 0
    await clock.advance(1000)
    (entry,) = (await bill(frozen_clock_client))["entries"]
    assert (entry["status"], entry["nanos"]) == ("succeeded", 500_000_000)


async def test_since_and_model_choose_entries(
    frozen_clock_client: SandboxClient, clock: ManualClock
) -> None:
    """Entries accepted at a moment or later, or of one model; nonsense is a 400."""
    await frozen_clock_client.created(LLAMA, {"prompt": "x"})
    await clock.advance(100)
    moment = clock.now().isoformat().replace("+", "%2B")
    second = await frozen_clock_client.created(SCHNELL, {"prompt": "x"})
    for query in (f"?since={moment}", f"?model={SCHNELL}"):
        read = await bill(frozen_clock_client, query)
        assert [each["id"] for each in read["entries"]] == [second["id"]]
    assert (await frozen_clock_client.get("/sandbox/bill?since=yesterday")).status == 400


async def test_failed_and_canceled_runs_are_billed_for_their_usage(
    sandbox_client: SandboxClient,
) -> None:
    """Failed and canceled by what was reported; what was never metered is named, at nothing."""
    failed = await sandbox_client.ran(LLAMA, {"prompt": "[[tokens=9 fail_after=4]]" + "x" * 40})
    hanging = await sandbox_client.created(SDXL, {"prompt": "x [[hang run_ms=1]]"})
    await sandbox_client.send("POST", f"/v1/predictions/{hanging['id']}/cancel")
    image = await sandbox_client.ran(SCHNELL, {"prompt": "x [[fail=broken]]"})
    by_id = {each["id"]: each for each in (await bill(sandbox_client))["entries"]}
    assert by_id[failed["id"]]["nanos"] == 10 * 650 + 4 * 2750
    canceled = by_id[hanging["id"]]
    ended = (await sandbox_client.get(hanging["urls"]["get"])).json
    assert canceled["status"] == ended["status"] == "canceled"
    assert canceled["metrics"]["predict_time"] == ended["metrics"]["predict_time"]
    assert by_id[image["id"]]["nanos"] == 0
    assert by_id[image["id"]]["unmetered"] == ["image_output_count"]


@pytest.mark.parametrize(
    ("setting", "prompt", "free"),
    [("bill_failed", "[[fail_after=2]]", 0), ("bill_canceled", "[[hang_after=2]]", 0)],
)
async def test_billing_of_failed_and_canceled_runs_is_configurable(
    open_sandbox: Opener, setting: str, prompt: str, free: int
) -> None:
    """`free` bills nothing for an end that is billed otherwise."""
    for value, expected in (("free", free), ("used", 2750 * 2 + 650)):
        async with open_sandbox(**{setting: value}) as caller:
            prediction = await caller.created(LLAMA, {"prompt": f"abcd{prompt}"})
            while len((await caller.get(prediction["urls"]["get"])).json["output"] or []) < 2:
                continue
            await caller.send("POST", f"/v1/predictions/{prediction['id']}/cancel")
            (entry,) = (await bill(caller))["entries"]
            assert entry["nanos"] == expected


async def test_aborted_runs_are_free(
    frozen_clock_client: SandboxClient, clock: ManualClock
) -> None:
    """A deadline that passed before the start costs nothing."""
    given = {"prompt": "x [[boot_ms=60000]]"}
    await frozen_clock_client.created(LLAMA, given, Cancel_After="5s")
    await clock.advance(6)
    (entry,) = (await bill(frozen_clock_client))["entries"]
    assert (entry["status"], entry["nanos"]) == ("aborted", 0)


async def test_no_price_is_not_zero(sandbox_client: SandboxClient) -> None:
    """A model whose price nobody knows has none on the bill, and the reason why."""
    await sandbox_client.ran(MUSIC, {"prompt": "x"})
    read = await bill(sandbox_client)
    assert read["entries"][0]["nanos"] is None
    assert read["entries"][0]["unpriced"]
    assert (read["total_nanos"], read["unpriced"]) == (0, 1)


async def test_a_custom_price_file(open_sandbox: Opener, tmp_path: Path) -> None:
    """It is laid over the sandbox's: the models it names cost what it says."""
    file = tmp_path / "prices.toml"
    file.write_text(f'["{SCHNELL}"]\nlines = ["$0.0031 per image_output_count"]\n')
    async with open_sandbox(prices=file) as caller:
        await caller.ran(SCHNELL, {"prompt": "x"})
        await caller.ran(VIDEO, {"prompt": "x"})
        nanos = [each["nanos"] for each in (await bill(caller))["entries"]]
    assert nanos == [3_100_000, 500_000_000]
    file.write_text(f'["{SCHNELL}"]\nlines = ["cheap"]\n')
    with pytest.raises(ValueError, match=r"prices\.toml: black-forest-labs/flux-schnell: lines"):
        await Sandbox(SandboxSettings(port=0, prices=file)).__aenter__()


async def test_the_bill_can_be_a_file(open_sandbox: Opener, tmp_path: Path) -> None:
    """A line of JSON for each end, kept over restarts of the sandbox."""
    file = tmp_path / "bill.jsonl"
    entries = []
    for _ in range(2):
        async with open_sandbox(bill_file=file) as caller:
            await caller.ran(SCHNELL, {"prompt": "x"})
            entries += (await bill(caller))["entries"]
    assert [json.loads(line) for line in file.read_text().splitlines()] == entries


@pytest.mark.skipif(not FULL.exists(), reason="no disk that is always full")
async def test_a_full_disk_is_logged_once(
    open_sandbox: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    """Runs end as ever, and are on the bill; the sandbox goes on."""
    async with open_sandbox(bill_file=FULL) as caller:
        for _ in range(2):
            assert (await caller.ran(SCHNELL, {"prompt": "x"}))["status"] == "succeeded"
        read = await bill(caller)
    assert (read["total_nanos"], read["running"]) == (6_000_000, 0)
    (error_record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert "No space left" in error_record.getMessage()


async def test_bill_lines_are_written_once_there_is_space(
    open_sandbox: Opener, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No line is lost or torn once there is room again; a limit on files stands in for the disk."""
    file = tmp_path / "bill.jsonl"
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with open_sandbox(bill_file=file) as caller:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, usual[1]))
            await caller.ran(SCHNELL, {"prompt": "x"})
            await caller.ran(SCHNELL, {"prompt": "x"})
            assert file.stat().st_size == 100
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, usual)
        await caller.ran(SCHNELL, {"prompt": "x"})
        entries = (await bill(caller))["entries"]
    assert [json.loads(line) for line in file.read_text().splitlines()] == entries
    assert len([each for each in caplog.records if each.levelno >= logging.ERROR]) == 1


def test_every_model_has_a_price_or_is_said_to_have_none() -> None:
    """And the price files name no model that the sandbox does not have."""
    models = {model.slug for model in load_catalog()}
    assert set(PRICES) == models


def variants(model: Model) -> list[dict[str, Any]]:
    """Inputs of every combination that a price can hang on, with the least of the rest."""
    least = {name: LEAST[each.type] for name, each in model.inputs.items() if each.required}
    if model.prompt_input in model.inputs:
        least[model.prompt_input] = LEAST["string"]
    names = [name for name in {*model.metric_inputs.values(), "duration"} if name in model.inputs]
    choices = [
        list(model.inputs[name].enum)
        or ([True, False] if model.inputs[name].type == "boolean" else [None])
        for name in names
    ]
    return [
        least | {name: value for name, value in zip(names, values, strict=True) if value}
        for values in itertools.product(*choices)
    ]


@pytest.mark.parametrize("model", list(load_catalog()), ids=lambda each: each.slug)
async def test_every_combination_of_priced_inputs_is_billed(
    open_sandbox: Opener, model: Model
) -> None:
    """Each combination of what the price hangs on is billed, by metrics that were reported."""
    if PRICES.price(model.slug).unpriced:
        return
    async with open_sandbox(time_scale=0, token_time_scale=0) as caller:
        for given in variants(model):
            await caller.ran(model.slug if model.official else model.version, given)
        read = await bill(caller)
    priced_entries = [entry for entry in read["entries"] if entry["nanos"] is not None]
    assert priced_entries
    assert len(priced_entries) == len(read["entries"]) or model.slug in PARTLY_PRICED
    for entry in priced_entries:
        assert entry["nanos"] > 0, entry
        assert entry["unmetered"] == []
        assert entry["unpriced"] is None
