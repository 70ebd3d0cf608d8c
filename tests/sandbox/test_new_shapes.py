"""The made-up model whose schema, output and metrics have every form that Cog writes."""

from __future__ import annotations

from typing import Any

import pytest

from .sandbox_client import SandboxClient

SLUG = "sandbox/new-shapes"
GIVEN = {"prompt": "a boat", "strength": 1.5}
METRICS = {
    "cached": False,
    "steps": 28,
    "big": 9007199254740993,
    "ratio": 0.1,
    "variant": "fast",
    "stages": ["load", "draw", "save"],
    "empty": [],
    "timing": {"preprocess": 0.12, "draw": {"first": 0.5, "rest": 1.25}},
}


@pytest.fixture
async def version(sandbox_client: SandboxClient) -> str:
    model = (await sandbox_client.get(f"/v1/models/{SLUG}")).json
    return str(model["latest_version"]["id"])


async def test_the_schema(sandbox_client: SandboxClient) -> None:
    """As Cog writes it."""
    model = (await sandbox_client.get(f"/v1/models/{SLUG}")).json
    schemas = model["latest_version"]["openapi_schema"]["components"]["schemas"]
    given, output = schemas["Input"], schemas["Output"]["properties"]
    properties: dict[str, Any] = given["properties"]
    assert given["required"] == ["prompt", "strength"]
    assert properties["strength"]["anyOf"] == [{"type": "string"}, {"type": "number"}]
    assert properties["points"]["nullable"] is True
    color = properties["color"]
    assert color["allOf"] == [{"$ref": "#/components/schemas/color"}]
    assert (color["nullable"], "default" in color) == (True, False)
    assert properties["mask"]["x-cog-accept"] == "image/png,image/webp"
    secret = properties["api_key"]
    assert (secret["format"], secret["x-cog-secret"]) == ("password", True)
    assert properties["style"]["deprecated"] is True
    assert properties["options"]["type"] == "object"
    assert "\\Z" in properties["code"]["pattern"]
    assert output["variants"]["items"]["properties"]["file"]["format"] == "uri"
    assert output["facts"] == {"type": "object", "title": "Facts"}


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"strength": "much"}, 201),
        ({"strength": 2}, 201),
        ({"strength": [2]}, 422),
        ({"points": [{"x": 1}]}, 201),
        ({"points": {"x": 1}}, 201),
        ({"points": None}, 201),
        ({"points": 7}, 422),
        ({"color": None}, 201),
        ({"color": ""}, 422),
        ({"options": {"a": [1, None]}}, 201),
        ({"options": []}, 422),
        ({"api_key": "sk"}, 201),
        ({"code": "abc-1"}, 201),
        ({"code": "abc-1\n"}, 422),
        ({"code": 7}, 422),
        ({"mask": "no link"}, 422),
    ],
)
async def test_inputs(
    sandbox_client: SandboxClient, version: str, given: dict[str, Any], status: int
) -> None:
    """Each kind takes what its schema says, and nothing else."""
    assert (await sandbox_client.create(version, GIVEN | given)).status == status


async def test_output_and_metrics(sandbox_client: SandboxClient, version: str) -> None:
    """Files in nested objects; metrics of any JSON, exactly, however a run ends."""
    document = await sandbox_client.ran(version, GIVEN)
    output = document["output"]
    assert [sorted(each) for each in output["variants"]] == [["file", "score"], ["file"]]
    assert "mask" not in output
    for link in (output["picture"], output["variants"][1]["file"]):
        assert (await sandbox_client.get(link)).headers["Content-Type"] == "image/png"
    failed = await sandbox_client.ran(version, {**GIVEN, "prompt": "x [[fail=no]]"})
    hanging = await sandbox_client.created(version, {**GIVEN, "prompt": "x [[hang]]"})
    await sandbox_client.send("POST", hanging["urls"]["cancel"])
    for each in (document, failed, await sandbox_client.ended(hanging)):
        assert METRICS.items() <= each["metrics"].items()
    entry = (await sandbox_client.get("/sandbox/bill")).json["entries"][0]
    assert entry["metrics"] == {"predict_time": document["metrics"]["predict_time"]}


async def test_an_edited_metric_is_any_json(sandbox_client: SandboxClient) -> None:
    """As one that a run reports."""
    document = await sandbox_client.ran("meta/meta-llama-3-8b-instruct", {"prompt": "x"})
    body = {"metrics": {"steps": ["a", {"b": None}]}}
    answer = await sandbox_client.send("POST", f"/sandbox/predictions/{document['id']}", body)
    assert answer.json["metrics"]["steps"] == ["a", {"b": None}]
