"""Models, versions, account and hardware, as a client reads them."""

from __future__ import annotations

from typing import Any

import pytest

from mediagate_sandbox.model_json import openapi_document
from mediagate_sandbox.models import load_catalog
from mediagate_sandbox.validation import input_errors

from .sandbox_client import LLAMA, SCHNELL, SandboxClient

CATALOG = list(load_catalog())


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
    """A list of one, which can also be read by its id."""
    page = (await sandbox_client.get(f"/v1/models/{SCHNELL}/versions")).json
    (version,) = page["results"]
    url = f"/v1/models/{SCHNELL}/versions/{version['id']}"
    assert (await sandbox_client.get(url)).json == version
    assert version["cog_version"]
    assert (await sandbox_client.get(f"/v1/models/{SCHNELL}/versions/{'0' * 64}")).status == 404


async def test_account_and_hardware(sandbox_client: SandboxClient) -> None:
    """Small, and shaped as the API says."""
    assert {"type", "username"} <= set((await sandbox_client.get("/v1/account")).json)
    skus = {each["sku"] for each in (await sandbox_client.get("/v1/hardware")).json}
    assert {model.hardware for model in CATALOG if model.hardware} <= skus


def test_schemas_say_what_is_checked() -> None:
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
async def test_every_model_runs_on_its_least_input(
    sandbox_client: SandboxClient, model: Any
) -> None:
    """With only what is required given, every model of the catalog succeeds."""
    least = {"uri": "https://a.example/x.png", "string": "a boat"}
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
