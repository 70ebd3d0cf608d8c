"""Creating predictions: every way that Replicate has, and every way it refuses."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .conftest import Opener
from .sandbox_client import LLAMA, SCHNELL, SandboxClient

GUARD = "meta/llama-guard-3-8b"
GUARD_VERSION = "146d1220d447cdcc639bc17c5f6137416042abee6ae153a2615e6ef5749205c8"


async def test_an_async_create_answers_at_once(sandbox_client: SandboxClient) -> None:
    """201, starting, no output, no metrics, and the links to go on with."""
    answer = await sandbox_client.create(LLAMA, {"prompt": "hi"})
    document = answer.json
    assert answer.status == 201
    assert re.fullmatch(r"[0-9a-z]{26}", document["id"])
    assert document["status"] == "starting"
    assert document["output"] is None
    assert document["error"] is None
    assert document["data_removed"] is False
    assert document["source"] == "api"
    assert document["input"] == {"prompt": "hi"}
    assert not {"metrics", "started_at", "completed_at", "deadline"} & set(document)
    assert (
        document["urls"]["get"] == f"{sandbox_client.sandbox.base_url}/predictions/{document['id']}"
    )
    assert document["urls"]["cancel"] == document["urls"]["get"] + "/cancel"
    assert set(document["urls"]) == {"get", "cancel", "web", "stream"}


@pytest.mark.parametrize("version", [GUARD_VERSION, f"{GUARD}:{GUARD_VERSION}"])
async def test_a_community_model_runs_by_version(
    sandbox_client: SandboxClient, version: str
) -> None:
    """Bare digits or owner/name:digits; the prediction shows the version."""
    document = await sandbox_client.created(version, {"prompt": "hi"})
    assert document["model"] == GUARD
    assert document["version"] == GUARD_VERSION


async def test_an_official_model_hides_its_version(sandbox_client: SandboxClient) -> None:
    """By slug, or by the version its own model object names."""
    model = (await sandbox_client.get(f"/v1/models/{LLAMA}")).json
    for version in (LLAMA, model["latest_version"]["id"]):
        document = await sandbox_client.created(version, {"prompt": "hi"})
        assert (document["model"], document["version"]) == (LLAMA, "hidden")


@pytest.mark.parametrize(
    "version",
    [
        GUARD,
        f"{GUARD}:latest",
        f"{LLAMA}:{GUARD_VERSION}",
        "0" * 64,
        "nobody/nothing",
        "",
        f"{LLAMA}:",
        ":",
    ],
)
async def test_a_version_that_may_not_run_is_422(
    sandbox_client: SandboxClient, version: str
) -> None:
    """A community model without version, a version of another model, or none at all."""
    answer = await sandbox_client.create(version, {"prompt": "hi"})
    assert answer.status == 422
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.json["title"] == "Invalid version or not permitted"
    assert answer.json["status"] == 422


async def test_the_models_endpoint_is_for_official_models(sandbox_client: SandboxClient) -> None:
    """An official model is created; a community model or an unknown one is 404."""
    body = {"input": {"prompt": "hi"}}
    answer = await sandbox_client.send("POST", f"/v1/models/{SCHNELL}/predictions", body)
    assert (answer.status, answer.json["model"]) == (201, SCHNELL)
    for slug in (GUARD, "nobody/nothing"):
        answer = await sandbox_client.send("POST", f"/v1/models/{slug}/predictions", body)
        assert answer.status == 404
        assert answer.json == {
            "detail": "The requested resource could not be found.",
            "status": 404,
        }


async def test_a_deployment_runs_its_model(sandbox_client: SandboxClient) -> None:
    """The prediction names the deployment; an unknown deployment is 404."""
    body = {"input": {"prompt": "hi"}}
    answer = await sandbox_client.send("POST", "/v1/deployments/sandbox/text/predictions", body)
    assert answer.status == 201
    assert answer.json["model"] == LLAMA
    assert answer.json["deployment"] == "sandbox/text"
    answer = await sandbox_client.send("POST", "/v1/deployments/sandbox/nope/predictions", body)
    assert answer.status == 404
    release = (await sandbox_client.get("/v1/deployments/sandbox/text")).json["current_release"]
    assert release["model"] == LLAMA


async def test_a_missing_input_is_named(sandbox_client: SandboxClient) -> None:
    """The 422 of an input that does not fit lists what is wrong, in words and as fields."""
    answer = await sandbox_client.create(SCHNELL, {})
    assert answer.status == 422
    assert answer.json == {
        "title": "Input validation failed",
        "detail": "- input: prompt is required\n",
        "status": 422,
        "invalid_fields": [
            {"type": "required", "field": "input", "description": "prompt is required"}
        ],
    }


@pytest.mark.parametrize(
    ("given", "kind", "field"),
    [
        ({"num_outputs": 5}, "number_lte", "input.num_outputs"),
        ({"num_outputs": 0}, "number_gte", "input.num_outputs"),
        ({"num_outputs": "2"}, "invalid_type", "input.num_outputs"),
        ({"num_outputs": True}, "invalid_type", "input.num_outputs"),
        ({"num_outputs": 1.5}, "invalid_type", "input.num_outputs"),
        ({"aspect_ratio": "7:5"}, "enum", "input.aspect_ratio"),
        ({"go_fast": 1}, "invalid_type", "input.go_fast"),
        ({"prompt": 7}, "invalid_type", "input.prompt"),
        ({"prompt": None}, "required", "input"),
    ],
)
async def test_each_kind_of_wrong_input(
    sandbox_client: SandboxClient, given: dict[str, Any], kind: str, field: str
) -> None:
    """Types, enumerations and ranges are the model's own."""
    answer = await sandbox_client.create(SCHNELL, {"prompt": "a boat", **given})
    assert answer.status == 422
    (fault,) = answer.json["invalid_fields"]
    assert (fault["type"], fault["field"]) == (kind, field)


async def test_file_inputs_must_be_urls(sandbox_client: SandboxClient) -> None:
    """An input that is a file takes a URL or a data URI, alone and in lists."""
    model = "google/nano-banana"
    for wrong in ("cat", 3):
        answer = await sandbox_client.create(model, {"prompt": "x", "image_input": [wrong]})
        assert answer.json["invalid_fields"][0]["field"] == "input.image_input.0"
    links = ["https://a.example/b.png", "data:image/png;base64,A"]
    assert (await sandbox_client.create(model, {"prompt": "x", "image_input": links})).status == 201


async def test_unknown_body_fields_are_refused(sandbox_client: SandboxClient) -> None:
    """A field the API does not name is a 422, as is one of the wrong type; no input, too."""
    for extra, field in (
        ({"webhook_completed": "https://a.example"}, "(root)"),
        ({"lifetime": "5m"}, "(root)"),
        ({"webhook": 7}, "webhook"),
        ({"webhook_events_filter": ["sometimes"]}, "webhook_events_filter"),
    ):
        body = {"version": LLAMA, "input": {"prompt": "hi"}, **extra}
        answer = await sandbox_client.send("POST", "/v1/predictions", body)
        assert (answer.status, answer.json["invalid_fields"][0]["field"]) == (422, field)
    answer = await sandbox_client.send("POST", "/v1/predictions", {"version": LLAMA})
    assert answer.json["invalid_fields"][0]["description"] == "input is required"
    body = {"version": LLAMA, "input": {"prompt": "hi"}}
    answer = await sandbox_client.send("POST", f"/v1/models/{LLAMA}/predictions", body)
    assert answer.status == 422


async def test_webhooks_are_part_of_the_prediction(sandbox_client: SandboxClient) -> None:
    """A webhook and its filter are part of the prediction; `stream` is taken and ignored."""
    extra = {"webhook": "https://127.0.0.1:9/x?tag=1", "webhook_events_filter": ["completed"]}
    body = {"version": LLAMA, "input": {"prompt": "hi"}, "stream": True, **extra}
    answer = await sandbox_client.send("POST", "/v1/predictions", body)
    assert answer.status == 201
    assert extra.items() <= answer.json.items()


@pytest.mark.parametrize(("raw", "status"), [(b"{", 400), (b"", 400), (b"[1]", 422)])
async def test_bodies_must_be_json_objects(
    sandbox_client: SandboxClient, raw: bytes, status: int
) -> None:
    """What cannot be read is 400, what is not an object 422."""
    answer = await sandbox_client.send("POST", "/v1/predictions", raw)
    assert answer.status == status


async def test_a_body_can_be_too_large(open_sandbox: Opener) -> None:
    """413 past the limit that is set."""
    async with open_sandbox(max_body_bytes=1000) as caller:
        assert (await caller.create(LLAMA, {"prompt": "x" * 2000})).status == 413


async def test_handling_of_unknown_inputs_is_configurable(
    sandbox_client: SandboxClient, open_sandbox: Opener
) -> None:
    """They are named in the log and change nothing else, or are refused when that is set."""
    given = {"prompt": "a boat", "negative_prompt": "storms", "x\n": "[[fail=no]]"}
    line = 'Stripped unknown input fields: ["negative_prompt","x\\n"]\n'
    for model in (SCHNELL, LLAMA):
        plain = await sandbox_client.ran(model, {"prompt": "a boat"})
        dropped = await sandbox_client.ran(model, given)
        assert dropped["status"] == "succeeded"
        assert dropped["logs"] == line + plain["logs"]
        assert dropped["metrics"] == plain["metrics"]
        assert dropped["input"] == given
        if model == LLAMA:
            assert dropped["output"] == plain["output"]
    fault = {"do": "fail", "error": "no", "tokens": 2}
    await sandbox_client.send("POST", "/sandbox/faults", {"faults": [fault]})
    assert len((await sandbox_client.ran(LLAMA, given))["output"]) == 2
    await sandbox_client.send("DELETE", "/sandbox/faults")
    async with open_sandbox(refuse_unknown_inputs=True) as strict:
        answer = await strict.create(SCHNELL, given)
        assert answer.status == 422
        assert "negative_prompt" in answer.json["detail"]


async def test_unknown_paths_and_methods(sandbox_client: SandboxClient) -> None:
    """404 and 405 speak problem+json as well."""
    assert (await sandbox_client.get("/v1/nothing")).json["status"] == 404
    assert (await sandbox_client.get("/v1/predictions/nothing")).json["status"] == 404
    answer = await sandbox_client.send("DELETE", "/v1/predictions")
    assert (answer.status, answer.json["status"]) == (405, 405)
    assert answer.headers["Allow"]
