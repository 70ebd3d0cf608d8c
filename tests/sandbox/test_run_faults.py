"""Faults that strike a prediction or a model: how it runs, what it shows, what it costs."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from .conftest import Opener
from .fault_orders import bill, fired, order
from .sandbox_client import LLAMA, SCHNELL, SandboxClient

BARK = "suno-ai/bark"
VIDEO = "minimax/video-01"
GUARD = "meta/llama-guard-3-8b"
SDXL = "stability-ai/sdxl"


async def version_of(caller: SandboxClient, slug: str) -> str:
    """What a create by version takes for a community model."""
    return str((await caller.get(f"/v1/models/{slug}")).json["latest_version"]["id"])


async def test_fail_ends_a_run_with_an_error(sandbox_client: SandboxClient) -> None:
    """With Replicate's own words unless told otherwise; a text may fail on its way."""
    await order(
        sandbox_client, {"do": "fail", "times": 1}, {"do": "fail", "error": "E1", "tokens": 4}
    )
    image = await sandbox_client.ran(SCHNELL, {"prompt": "x"})
    assert (image["status"], image["output"], image["error"]) == ("failed", None, "E1")
    text = await sandbox_client.ran(LLAMA, {"prompt": "x"})
    assert (text["status"], len(text["output"]), text["error"]) == ("failed", 4, "E1")
    assert (await bill(sandbox_client))[1]["metrics"]["token_output_count"] == 4
    await order(sandbox_client, {"do": "fail"})
    assert "code: PA" in (await sandbox_client.ran(VIDEO, {"prompt": "x"}))["error"]
    await order(sandbox_client, {"do": "fail", "error": None})
    failed = await sandbox_client.ran(LLAMA, {"prompt": "x"})
    assert (failed["status"], failed["error"]) == ("failed", None)


async def test_abort_ends_a_run_before_it_starts(sandbox_client: SandboxClient) -> None:
    """`aborted`, never started, free."""
    await order(sandbox_client, {"do": "abort"})
    document = await sandbox_client.ran(LLAMA, {"prompt": "x"})
    assert document["status"] == "aborted"
    assert "started_at" not in document
    assert [each["nanos"] for each in await bill(sandbox_client)] == [0]
    assert (await sandbox_client.events(document))[-1].data == '{"reason":"canceled"}'


@pytest.mark.parametrize(
    ("slug", "output"), [(LLAMA, []), (SCHNELL, []), (VIDEO, None), (BARK, None), (GUARD, None)]
)
async def test_empty_output_succeeds_with_nothing(
    sandbox_client: SandboxClient, slug: str, output: Any
) -> None:
    """In the shape of the model, with no unit made, and a stream of nothing but its end."""
    version = await version_of(sandbox_client, slug) if slug in (BARK, GUARD) else slug
    await order(sandbox_client, {"do": "empty_output"})
    document = await sandbox_client.ran(version, {"prompt": "x"})
    assert (document["status"], document["output"]) == ("succeeded", output)
    if slug == LLAMA:
        assert [each.name for each in await sandbox_client.events(document)] == ["done"]
        assert document["metrics"]["token_output_count"] == 0


async def test_foreign_output_points_elsewhere(sandbox_client: SandboxClient) -> None:
    """Everything but the host is as it should be."""
    await order(sandbox_client, {"do": "foreign_output", "origin": "https://evil.example"})
    document = await sandbox_client.ran(SCHNELL, {"prompt": "x"})
    (link,) = document["output"]
    assert link.startswith("https://evil.example/files/")
    path = link.removeprefix("https://evil.example")
    assert (await sandbox_client.get(path)).status == 200


async def test_drift_price_bills_more_than_the_list_says(sandbox_client: SandboxClient) -> None:
    """Exactly the factor, and only for what it struck; nobody else can see it."""
    await order(sandbox_client, {"do": "drift_price", "factor": "1.000001", "nth": 2})
    documents = [await sandbox_client.ran(VIDEO, {"prompt": "x"}) for _ in range(2)]
    before, after = await bill(sandbox_client)
    assert (before["nanos"], after["nanos"]) == (500_000_000, 500_000_500)
    assert (before["factor"], after["factor"]) == ("1", "1000001/1000000")
    assert before["metrics"] == after["metrics"]
    assert documents[0].keys() == documents[1].keys()


async def test_duplicate_id_answers_with_another(sandbox_client: SandboxClient) -> None:
    """A prediction is made and billed; its creator is told of the one before it."""
    await order(sandbox_client, {"do": "duplicate_id"})
    first = await sandbox_client.created(LLAMA, {"prompt": "one"})
    second = await sandbox_client.created(LLAMA, {"prompt": "two"})
    assert second["id"] == first["id"]
    assert second["urls"] == first["urls"]
    assert second["input"] == {"prompt": "two"}
    entries = await bill(sandbox_client)
    assert len({each["id"] for each in entries}) == 2
    assert [each["prediction"] for each in await fired(sandbox_client)] == [
        e["id"] for e in entries
    ]


async def test_retire_model_removes_the_model(sandbox_client: SandboxClient) -> None:
    """From the moment that the plan says, for creates and for those who look it up."""
    await order(sandbox_client, {"do": "retire_model", "model": SCHNELL, "after": 1})
    await sandbox_client.created(SCHNELL, {"prompt": "x"})
    assert (await sandbox_client.create(SCHNELL, {"prompt": "x"})).status == 422
    by_model = f"/v1/models/{SCHNELL}/predictions"
    assert (await sandbox_client.send("POST", by_model, {"input": {"prompt": "x"}})).status == 404
    assert (await sandbox_client.get(f"/v1/models/{SCHNELL}")).status == 404
    assert (await sandbox_client.get(f"/v1/models/{LLAMA}")).status == 200
    assert len(await bill(sandbox_client)) == 1


SHOWCASES = [
    ("GET", "/v1/models", None),
    ("QUERY", "/v1/models", b"flux"),
    ("GET", "/v1/search?query=flux", None),
    ("GET", "/v1/collections/text-to-image", None),
    ("GET", "/v1/deployments", None),
]


@pytest.mark.parametrize(("method", "path", "query"), SHOWCASES)
async def test_a_retired_model_is_not_listed(
    open_sandbox: Opener, method: str, path: str, query: bytes | None
) -> None:
    """Neither in a list nor in a search, a collection or a deployment; others still are."""
    other = "black-forest-labs/flux-dev"
    deployments = {"own/schnell": SCHNELL, "own/dev": other}
    async with open_sandbox(models_per_page=1000, deployments=deployments) as caller:
        assert SCHNELL.encode() in (await caller.send(method, path, query)).body
        await order(caller, {"do": "retire_model", "model": SCHNELL})
        body = (await caller.send(method, path, query)).body
        assert SCHNELL.encode() not in body
        assert other.encode() in body
        assert [each["do"] for each in await fired(caller)] == ["retire_model"]


async def test_a_list_shows_the_schema_as_it_was_changed(open_sandbox: Opener) -> None:
    """The same as the model's own page."""
    async with open_sandbox(models_per_page=1000) as caller:
        await order(caller, {"do": "change_schema", "model": SCHNELL, "require": ["style"]})
        listed = (await caller.get("/v1/models")).json["results"]
        (listed_model,) = [each for each in listed if each["name"] == "flux-schnell"]
        assert listed_model == (await caller.get(f"/v1/models/{SCHNELL}")).json
        assert "style" in orjson.dumps(listed_model).decode()


@pytest.mark.parametrize(
    ("method", "path", "query"), [*SHOWCASES, ("GET", "/v1/collections", None)]
)
async def test_model_endpoints_can_fail(
    sandbox_client: SandboxClient, method: str, path: str, query: bytes | None
) -> None:
    """And is about no model in particular."""
    await order(sandbox_client, {"do": "error", "on": "model", "model": SCHNELL})
    assert (await sandbox_client.send(method, path, query)).status == 200
    await order(sandbox_client, {"do": "error", "on": "model", "status": 503})
    assert (await sandbox_client.send(method, path, query)).status == 503


@pytest.mark.parametrize("slug", [SCHNELL, SDXL])
async def test_change_schema_shows_and_asks_for_another(
    sandbox_client: SandboxClient, slug: str
) -> None:
    """Inputs vanish, others are required; the version is a new one."""
    version = await version_of(sandbox_client, slug)
    create_by = version if slug == SDXL else slug
    await order(
        sandbox_client,
        {"do": "change_schema", "model": slug, "remove": ["seed"], "require": ["style", "prompt"]},
    )
    document = (await sandbox_client.get(f"/v1/models/{slug}")).json["latest_version"]
    assert document["id"] != version
    given = document["openapi_schema"]["components"]["schemas"]["Input"]
    assert "seed" not in given["properties"]
    assert set(given["required"]) == {"style", "prompt"}
    refused = await sandbox_client.create(create_by, {"prompt": "x"})
    assert refused.status == 422
    assert refused.json["invalid_fields"][0]["description"] == "style is required"
    assert (await sandbox_client.create(create_by, {"prompt": "x", "style": "ink"})).status == 201
