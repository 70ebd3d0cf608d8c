"""Models, versions, account and hardware, as a client reads them."""

from __future__ import annotations

from typing import Any

import pytest

from mediagate_sandbox.model_json import openapi_document
from mediagate_sandbox.models import load_catalog
from mediagate_sandbox.validation import input_errors

from .sandbox_client import LLAMA, SCHNELL, SandboxClient

CATALOG = list(load_catalog())
SDXL = "stability-ai/sdxl"
OLD_SDXL = "39ed52f2a78e934b3ba6e2a89f5b1c712de7dfea535525255b1aa35c5565e08b"


async def test_a_model_object(sandbox_client: SandboxClient) -> None:
    """Who it is, whether it is official, and its latest version with its schema."""
    document = (await sandbox_client.get(f"/v1/models/{LLAMA}")).json
    assert (document["owner"], document["name"]) == tuple(LLAMA.split("/"))
    assert document["is_official"] is True
    assert document["visibility"] == "public"
    assert document["run_count"] == 0
    await sandbox_client.created(LLAMA, {"prompt": "x"})
    assert (await sandbox_client.get(f"/v1/models/{LLAMA}")).json["run_count"] == 1
    assert (await sandbox_client.get("/v1/models/nobody/nothing")).status == 404


async def test_versions(sandbox_client: SandboxClient) -> None:
    """An official model has one, a community model older ones, too; each is read by its id."""
    counts, old = [], ""
    for slug in (SCHNELL, SDXL, "meta/llama-guard-3-8b"):
        model = (await sandbox_client.get(f"/v1/models/{slug}")).json
        versions = (await sandbox_client.get(f"/v1/models/{slug}/versions")).json["results"]
        counts.append(len(versions))
        assert versions[0] == model["latest_version"]
        ages = [each["created_at"] for each in versions]
        assert ages == sorted(ages, reverse=True)
        for version in versions:
            url = f"/v1/models/{slug}/versions/{version['id']}"
            assert (await sandbox_client.get(url)).json == version
            assert version["cog_version"]
            old = version["id"]
        other = f"/v1/models/{slug}/versions/{'0' * 64}"
        assert (await sandbox_client.get(other)).status == 404
    assert counts == [1, 4, 2]
    assert (await sandbox_client.get(f"/v1/models/{SDXL}/versions/{old}")).status == 404


@pytest.mark.parametrize("reference", [OLD_SDXL, f"{SDXL}:{OLD_SDXL}"])
async def test_an_older_version_can_be_run(sandbox_client: SandboxClient, reference: str) -> None:
    """As the newest does, and the prediction and the bill say so; not under another's name."""
    given = {"prompt": "x", "width": 64, "height": 64}
    document = await sandbox_client.ran(reference, given)
    assert (document["model"], document["version"]) == (SDXL, OLD_SDXL)
    assert len((await sandbox_client.get(document["output"][0])).body) > 100
    bill = (await sandbox_client.get("/sandbox/bill")).json
    assert [each["model"] for each in bill["entries"]] == [SDXL]
    assert (await sandbox_client.create(f"{LLAMA}:{OLD_SDXL}", given)).status == 422


async def test_a_model_without_a_version(sandbox_client: SandboxClient) -> None:
    """Nothing was pushed to it yet: it is shown, and nothing of it runs."""
    document = (await sandbox_client.get("/v1/models/mattt/empty")).json
    assert (document["latest_version"], document["default_example"]) == (None, None)
    for path in ("versions", "examples"):
        assert (await sandbox_client.get(f"/v1/models/mattt/empty/{path}")).json["results"] == []
    assert (await sandbox_client.create("mattt/empty", {})).status == 422
    answer = await sandbox_client.send("POST", "/v1/models/mattt/empty/predictions", {"input": {}})
    assert answer.status == 404


async def test_examples(sandbox_client: SandboxClient) -> None:
    """A prediction of the model that ended well, on no list and no bill; its files are there."""
    for slug in (LLAMA, SCHNELL, SDXL, "meta/llama-guard-3-8b", "suno-ai/bark", "openai/whisper"):
        example = (await sandbox_client.get(f"/v1/models/{slug}")).json["default_example"]
        assert (example["model"], example["status"]) == (slug, "succeeded")
        assert example["output"]
        assert example["metrics"]["predict_time"] >= 0
        page = (await sandbox_client.get(f"/v1/models/{slug}/examples")).json
        assert page["results"] == [example]
        assert (await sandbox_client.get(example["urls"]["get"])).json == example
        assert (await sandbox_client.get(example["urls"]["web"])).status == 200
    picture = (await sandbox_client.get(f"/v1/models/{SCHNELL}")).json["default_example"]
    link = picture["output"][0]
    assert (await sandbox_client.get(link)).headers["Content-Type"] == "image/webp"
    given = {"prompt": "x", "image": link}
    assert (await sandbox_client.ran(OLD_SDXL, given))["status"] == "succeeded"
    assert len((await sandbox_client.get("/v1/predictions")).json["results"]) == 1
    assert len((await sandbox_client.get("/sandbox/bill")).json["entries"]) == 1
    assert (await sandbox_client.get(f"/v1/models/{SCHNELL}")).json["run_count"] == 0


async def test_account_and_hardware(sandbox_client: SandboxClient) -> None:
    """Small, and shaped as the API says."""
    assert {"type", "username"} <= set((await sandbox_client.get("/v1/account")).json)
    skus = {each["sku"] for each in (await sandbox_client.get("/v1/hardware")).json}
    assert {model.hardware for model in CATALOG if model.hardware} <= skus


def test_schemas_match_input_validation() -> None:
    """Required, types, ranges and enumerations of the schema are those of the check."""
    schemas = openapi_document(next(each for each in CATALOG if each.slug == SCHNELL))["components"]
    given = schemas["schemas"]["Input"]
    assert given["required"] == ["prompt"]
    outputs = given["properties"]["num_outputs"]
    assert (outputs["minimum"], outputs["maximum"], outputs["default"]) == (1, 4, 1)
    ratio = given["properties"]["aspect_ratio"]
    assert ratio["allOf"] == [{"$ref": "#/components/schemas/aspect_ratio"}]
    assert "16:9" in schemas["schemas"]["aspect_ratio"]["enum"]
    orders = [each["x-order"] for each in given["properties"].values()]
    assert orders == list(range(len(orders)))


def test_streaming_shows_in_the_schema() -> None:
    """Exactly the models that stream have an iterator as output."""
    for model in CATALOG:
        output = openapi_document(model)["components"]["schemas"]["Output"]
        assert (
            (output.get("x-cog-array-type") == "iterator")
            == model.streams
            == (model.kind == "text")
        ), model.slug


@pytest.mark.parametrize("model", CATALOG, ids=lambda each: each.slug)
async def test_every_model_runs_on_its_required_inputs(
    sandbox_client: SandboxClient, model: Any
) -> None:
    """With only what is required given, every model of the catalog succeeds."""
    least = {"uri": "https://a.example/x.png", "string": "a boat", "union": 0.5}
    given = {name: least[each.type] for name, each in model.inputs.items() if each.required}
    document = await sandbox_client.ran(model.slug if model.official else model.version, given)
    assert document["status"] == "succeeded"
    assert document["output"]


@pytest.mark.parametrize("model", CATALOG, ids=lambda each: each.slug)
def test_defaults_pass_their_own_check(model: Any) -> None:
    """A default outside its own range or enumeration would be a slip of the catalog."""
    given = {name: each.default for name, each in model.inputs.items() if each.default is not None}
    required = {name: "https://a.example" for name, each in model.inputs.items() if each.required}
    assert input_errors(model, required | given, refuse_unknown=True) == []
