"""Fault plans: what they may say, which requests they strike, and that they can be replayed."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mediagate_sandbox.faults.actions import ACTIONS
from mediagate_sandbox.faults.plan_parser import FaultPlanError, load_plan_file, parse_plan

from .conftest import Opener
from .fault_orders import Fault, bill, fired, order
from .sandbox_client import LLAMA, SCHNELL, SandboxClient

THROTTLE = {"do": "throttle", "on": "create"}


async def statuses(caller: SandboxClient, count: int, version: str = LLAMA) -> list[int]:
    """Statuses of so many creates, one after the other, each with an input of its own."""
    return [
        (await caller.create(version, {"prompt": f"number {number}"})).status
        for number in range(count)
    ]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, [429] * 6),
        ({"nth": 2}, [201, 429, 201, 201, 201, 201]),
        ({"every": 3}, [201, 201, 429, 201, 201, 429]),
        ({"times": 2}, [429, 429, 201, 201, 201, 201]),
        ({"after": 4}, [201, 201, 201, 201, 429, 429]),
        ({"after": 1, "every": 2, "times": 1}, [201, 201, 429, 201, 201, 201]),
        ({"after": 2, "nth": 1}, [201, 201, 429, 201, 201, 201]),
        ({"probability": 0}, [201] * 6),
        ({"probability": 1}, [429] * 6),
    ],
)
async def test_counts_choose_requests(
    sandbox_client: SandboxClient, counts: Fault, expected: list[int]
) -> None:
    """The nth, every nth, so many, after so many, and all of these together."""
    await order(sandbox_client, THROTTLE | counts)
    assert await statuses(sandbox_client, 6) == expected
    assert len(await bill(sandbox_client)) == expected.count(201)


async def test_models_and_endpoints_choose_requests(sandbox_client: SandboxClient) -> None:
    """A pattern on the slug, wherever the model is named; other endpoints are left alone."""
    await order(sandbox_client, {"do": "error", "on": ["create", "get"], "model": "meta/*"})
    prediction = await sandbox_client.created(SCHNELL, {"prompt": "x"})
    assert (await sandbox_client.get(prediction["urls"]["get"])).status == 200
    assert await statuses(sandbox_client, 1) == [500]
    body = {"input": {"prompt": "x"}}
    for path, status in (
        (f"/v1/models/{LLAMA}/predictions", 500),
        ("/v1/deployments/sandbox/text/predictions", 500),
        ("/v1/deployments/sandbox/image/predictions", 201),
    ):
        assert (await sandbox_client.send("POST", path, body)).status == status
    assert (await sandbox_client.get("/v1/predictions")).status == 200


async def test_a_version_id_names_a_model_too(sandbox_client: SandboxClient) -> None:
    """Community models are created by 64 digits."""
    document = (await sandbox_client.get("/v1/models/stability-ai/sdxl")).json
    version = document["latest_version"]["id"]
    await order(sandbox_client, THROTTLE | {"model": "stability-ai/sdxl"})
    assert await statuses(sandbox_client, 1, version) == [429]
    assert [each["model"] for each in await fired(sandbox_client)] == ["stability-ai/sdxl"]


async def test_several_faults_apply_to_one_request(sandbox_client: SandboxClient) -> None:
    """In the order of the plan; the first that answers is the answer."""
    await order(
        sandbox_client,
        {"do": "fail", "error": "no luck"},
        {"do": "error", "on": "create", "status": 503, "at": "answer", "times": 1},
    )
    assert await statuses(sandbox_client, 1) == [503]
    (accepted,) = (await sandbox_client.get("/v1/predictions")).json["results"]
    assert (await sandbox_client.ended(accepted))["error"] == "no luck"
    assert [each["do"] for each in await fired(sandbox_client)] == ["fail", "error"]


async def test_fired_faults_are_listed_in_order(sandbox_client: SandboxClient) -> None:
    """Which fault, on what, which of the matching requests, and the prediction, if there is one."""
    await order(sandbox_client, {"do": "lose_answer", "on": "create", "every": 2, "name": "gone"})
    prediction = await sandbox_client.created(LLAMA, {"prompt": "a"})
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await sandbox_client.create(LLAMA, {"prompt": "b"})
    (only,) = await fired(sandbox_client)
    (lost,) = {each["id"] for each in await bill(sandbox_client)} - {prediction["id"]}
    assert (only["fault"], only["do"], only["on"]) == ("gone", "lose_answer", "create")
    assert (only["model"], only["prediction"], only["count"]) == (LLAMA, lost, 2)
    assert only["at"].endswith("Z")
    (fault,) = (await sandbox_client.get("/sandbox/faults")).json["faults"]
    assert (fault["matched"], fault["fired"]) == (2, 1)


async def test_a_seed_replays_its_draws(open_sandbox: Opener) -> None:
    """The same seed strikes the same requests, in whatever order they come; another, others."""
    plan = THROTTLE | {"probability": 0.5}
    struck: list[frozenset[str]] = []
    for seed, numbers in ((7, range(40)), (7, range(39, -1, -1)), (8, range(40))):
        async with open_sandbox() as caller:
            assert (await order(caller, plan, seed=seed))["seed"] == seed
            answers = {
                str(number): (await caller.create(LLAMA, {"prompt": str(number)})).status
                for number in numbers
            }
        struck.append(frozenset(each for each, status in answers.items() if status == 429))
    assert struck[0] == struck[1] != struck[2]
    assert 5 < len(struck[0]) < 35


async def test_a_generated_seed_is_reported(
    open_sandbox: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no seed is given, one is drawn, logged and shown, so that the run can be repeated."""
    with caplog.at_level(logging.INFO, "mediagate.sandbox"):
        async with open_sandbox() as caller:
            seed = (await caller.get("/sandbox/faults")).json["seed"]
    assert f"fault seed {seed}" in caplog.text
    async with open_sandbox() as caller:
        assert (await caller.get("/sandbox/faults")).json["seed"] != seed
    async with open_sandbox(fault_seed=77) as caller:
        assert (await order(caller, THROTTLE))["seed"] == 77
        assert (await order(caller, THROTTLE, seed=78))["seed"] == 78


async def test_a_plan_replaces_the_last_and_can_be_removed(sandbox_client: SandboxClient) -> None:
    """Counts begin anew with each plan; what fired can still be read when it is lifted."""
    await order(sandbox_client, THROTTLE | {"times": 1})
    assert await statuses(sandbox_client, 2) == [429, 201]
    await order(sandbox_client, THROTTLE | {"times": 1})
    assert await fired(sandbox_client) == []
    assert await statuses(sandbox_client, 1) == [429]
    assert (await sandbox_client.send("DELETE", "/sandbox/faults")).json["faults"] == []
    assert await statuses(sandbox_client, 1) == [201]
    assert len(await fired(sandbox_client)) == 1


async def test_a_plan_comes_from_a_file(open_sandbox: Opener, tmp_path: Path) -> None:
    """TOML and JSON say the same."""
    toml = tmp_path / "plan.toml"
    toml.write_text('seed = 3\n[[faults]]\ndo = "throttle"\non = "create"\ntimes = 1\n')
    plain = tmp_path / "plan.json"
    plain.write_text(json.dumps({"seed": 3, "faults": [THROTTLE | {"times": 1}]}))
    assert load_plan_file(toml) == load_plan_file(plain)
    async with open_sandbox(faults=load_plan_file(toml)) as caller:
        assert await statuses(caller, 2) == [429, 201]
        assert (await caller.get("/sandbox/faults")).json["seed"] == 3


WRONG: list[tuple[Any, str]] = [
    ([], "(root)"),
    ({}, "faults"),
    ({"faults": {}}, "faults"),
    ({"faults": [], "more": 1}, "more"),
    ({"faults": [], "seed": -1}, "seed"),
    ({"faults": [], "seed": True}, "seed"),
    ({"faults": ["refuse"]}, "faults[0]"),
    ({"faults": [THROTTLE, {}]}, "faults[1].do"),
    ({"faults": [{"do": "explode", "on": "create"}]}, "faults[0].do"),
    ({"faults": [{"do": ["refuse"], "on": "create"}]}, "faults[0].do"),
    ({"faults": [{"do": "refuse"}]}, "faults[0].on"),
    ({"faults": [{"do": "refuse", "on": []}]}, "faults[0].on"),
    ({"faults": [{"do": "refuse", "on": "somewhere"}]}, "faults[0].on"),
    ({"faults": [{"do": "refuse", "on": [{}]}]}, "faults[0].on"),
    ({"faults": [{"do": "refuse", "on": "webhook"}]}, "faults[0].on"),
    ({"faults": [{"do": "cut_stream", "on": "get"}]}, "faults[0].on"),
    ({"faults": [THROTTLE | {"nth": 0}]}, "faults[0].nth"),
    ({"faults": [THROTTLE | {"every": 1.5}]}, "faults[0].every"),
    ({"faults": [THROTTLE | {"times": True}]}, "faults[0].times"),
    ({"faults": [THROTTLE | {"after": -1}]}, "faults[0].after"),
    ({"faults": [THROTTLE | {"probability": 1.1}]}, "faults[0].probability"),
    ({"faults": [THROTTLE | {"probability": "0.5"}]}, "faults[0].probability"),
    ({"faults": [THROTTLE | {"model": 5}]}, "faults[0].model"),
    ({"faults": [{"do": "refuse", "on": "list", "model": "a/b"}]}, "faults[0].model"),
    ({"faults": [THROTTLE | {"name": ""}]}, "faults[0].name"),
    ({"faults": [THROTTLE | {"retry_after": "5"}]}, "faults[0].retry_after"),
    ({"faults": [THROTTLE | {"status": 429}]}, "faults[0].status"),
    ({"faults": [{"do": "delay", "on": "create"}]}, "faults[0].ms"),
    ({"faults": [{"do": "delay", "on": "create", "ms": -1}]}, "faults[0].ms"),
    ({"faults": [{"do": "delay", "on": "stream", "ms": 1, "at": "answer"}]}, "faults[0].at"),
    ({"faults": [{"do": "error", "on": "get", "status": 200}]}, "faults[0].status"),
    ({"faults": [{"do": "error", "on": "get", "at": "noon"}]}, "faults[0].at"),
    ({"faults": [{"do": "redirect", "on": "get", "location": "/here"}]}, "faults[0].location"),
    ({"faults": [{"do": "foreign_output", "origin": "elsewhere"}]}, "faults[0].origin"),
    *(
        ({"faults": [{"do": "foreign_output", "origin": origin}]}, "faults[0].origin")
        for origin in (
            "https://[",
            "https://::::",
            "https://[::1",
            "https://[1.2.3.4]",
            "https://-",
            "https://a..b",
            "https://a:99999",
            "https://a:",
            "https://a:\u0668",
            "https://a/b",
            "ftp://a",
        )
    ),
    *(
        (
            {"faults": [{"do": "redirect", "on": "get", "location": redirect_url}]},
            "faults[0].location",
        )
        for redirect_url in (
            "https://a/\u0000",
            "https://a/\r\nX: y",
            "https://a/\u2028",
            "https://a/ b",
            "https://[/",
            "https://a@b/",
        )
    ),
    *(
        ({"faults": [{"do": "redirect", "on": "get", "status": status}]}, "faults[0].status")
        for status in (200, 304, 305, 306, 309, 302.0, True)
    ),
    ({"faults": [THROTTLE | {"nth": 3, "every": 2}]}, "faults[0].every"),
    ({"faults": [{"do": "change_schema"}]}, "faults[0].remove"),
    ({"faults": [{"do": "change_schema", "remove": [], "require": []}]}, "faults[0].remove"),
    (
        {"faults": [{"do": "garbage", "on": ["create", "get"], "after_bytes": 5}]},
        "faults[0].after_bytes",
    ),
    ({"faults": [{"do": "drift_price", "factor": "\u0661"}]}, "faults[0].factor"),
    ({"faults": [{"do": "drift_price"}]}, "faults[0].factor"),
    ({"faults": [{"do": "drift_price", "factor": 1.1}]}, "faults[0].factor"),
    ({"faults": [{"do": "change_schema", "remove": "prompt"}]}, "faults[0].remove"),
    ({"faults": [{"do": "forge_webhook", "instead": 1}]}, "faults[0].instead"),
]


@pytest.mark.parametrize(
    "fault",
    [
        THROTTLE | {"nth": 4, "every": 2},
        {"do": "garbage", "on": ["create", "stream"], "after_bytes": 5},
        {"do": "change_schema", "require": ["style"]},
        {"do": "redirect", "on": "get", "location": "https://a_b.example:8443?x=\u00e9#y"},
        {"do": "foreign_output", "origin": "http://[2001:db8::1]:80"},
        {"do": "foreign_output", "origin": "http://169.254.169.254"},
        {"do": "foreign_output", "origin": "https://EXAMPLE.com."},
        *({"do": "redirect", "on": "get", "status": each} for each in (300, 301, 303, 307, 308)),
    ],
)
async def test_an_unusual_but_valid_plan_is_accepted(
    sandbox_client: SandboxClient, fault: Fault
) -> None:
    """What is unusual and can happen is what faults are for."""
    await order(sandbox_client, fault)


@pytest.mark.parametrize(("given", "field"), WRONG)
async def test_a_wrong_plan_names_its_field(
    sandbox_client: SandboxClient, given: Any, field: str
) -> None:
    """In the error itself and over HTTP, where the plan in force stays."""
    with pytest.raises(FaultPlanError) as caught:
        parse_plan(given)
    assert caught.value.field == field
    await order(sandbox_client, THROTTLE)
    answer = await sandbox_client.send("POST", "/sandbox/faults", given)
    assert answer.status == 422
    assert [each["field"] for each in answer.json["invalid_fields"]] == [field]
    assert len((await sandbox_client.get("/sandbox/faults")).json["faults"]) == 1


async def test_invalid_json_is_no_plan(sandbox_client: SandboxClient, tmp_path: Path) -> None:
    """400 over HTTP; a file is named."""
    assert (await sandbox_client.send("POST", "/sandbox/faults", b"{")).status == 400
    for name in ("plan.json", "plan.toml"):
        file = tmp_path / name
        file.write_text("{")
        with pytest.raises(FaultPlanError, match=name):
            load_plan_file(file)


def test_every_action_is_documented() -> None:
    """One sentence or more each: it is what people read to choose."""
    assert all(action.__doc__ and action.on for action in ACTIONS.values())
    assert all(name == action.do for name, action in ACTIONS.items())
