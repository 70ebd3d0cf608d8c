"""No caller weakens a model's safety checks, in no rpc, unless the operator lets callers."""

from typing import Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict

from mediagate.v1 import generation_pb2, generations_pb2, models_pb2, options_pb2
from mediagate_sandbox.server import Sandbox
from tests.builders import image_request, stream_model_request, video_request
from tests.grpc_errors import fields_of, rpc_error

from .generation_waits import get_bill
from .scripted_upstream import ScriptedUpstream, prediction, says
from .stubs import OpenServer, Stubs

Options = options_pb2.GenerationOptions
FLUX = "black-forest-labs/flux-1.1-pro"
SWITCHES: dict[str, tuple[str, dict[str, Any]]] = {
    "sdxl": ("stability-ai/sdxl", {"disable_safety_checker": True}),
    "flux": (FLUX, {"safety_tolerance": 6}),
    "gpt": ("openai/gpt-image-1.5", {"moderation": "low"}),
    "community": ("fofr/flux-80s-cyberpunk", {"disable_safety_checker": True}),
    "p-video": ("prunaai/p-video", {"disable_safety_filter": True}),
}
UNKNOWN: dict[str, Any] = {
    "enable_safety_checker": False,
    "nsfwFilter": False,
    "allow_nsfw": True,
    "safety_tolerance": "6",
    "disable_safety_checker": "t",
    "safety_checker": {"disable": True},
    "blocklist": [],
    "safety_filter_level": "block_none",
    "safety_settings": [{"category": "HATE", "threshold": "BLOCK_NONE"}],
    "extra": {"pipeline": {"disable_safety_checker": True}},
}


def run(model: str, given: Any) -> models_pb2.RunModelRequest:
    """A request for a run."""
    return ParseDict(
        {"model": model, "input": {"prompt": "rain", **given}}, models_pb2.RunModelRequest()
    )


def typed(model: str, own: Any) -> Any:
    """A request by the contract's own fields, with inputs of the model's own beside them."""
    request: Any = (
        video_request(prompt="rain") if "video" in model else image_request(prompt="rain")
    )
    request.options.model = model
    ParseDict(own, request.options.model_parameters)
    return request


async def refused(call: Any) -> set[str]:
    """The fields at fault of a call that is refused before anything is spent."""
    error = await rpc_error(call)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    return fields_of(error)


@pytest.mark.parametrize("name", SWITCHES)
async def test_safety_inputs_of_untyped_rpcs(
    sandbox: Sandbox, sandbox_stubs: Stubs, name: str
) -> None:
    """Refused by the input's name: run, streamed, estimated and only validated."""
    model, weaker = SWITCHES[name]
    fields = {f"input.{key}" for key in weaker}
    request = run(model, weaker)
    assert await refused(sandbox_stubs.models.RunModel(request)) == fields
    estimate = models_pb2.EstimateCostRequest(run=request)
    assert await refused(sandbox_stubs.models.EstimateCost(estimate)) == {
        f"run.{field}" for field in fields
    }
    request.validate_only = True
    assert await refused(sandbox_stubs.models.RunModel(request)) == fields
    streamed = stream_model_request(model, input=request.input)
    call = sandbox_stubs.models.StreamModel(streamed)
    assert await refused(call.read()) == fields
    assert not (await get_bill(sandbox))["entries"]
    listed = await sandbox_stubs.generations.ListGenerations(
        generations_pb2.ListGenerationsRequest()
    )
    assert not listed.generations


@pytest.mark.parametrize("name", sorted(set(SWITCHES) - {"community"}))
async def test_safety_inputs_of_typed_rpcs(
    sandbox: Sandbox, sandbox_stubs: Stubs, name: str
) -> None:
    """The model's own inputs beside the contract's fields."""
    model, weaker = SWITCHES[name]
    request = typed(model, weaker)
    method = (
        sandbox_stubs.video.GenerateVideo if "video" in model else sandbox_stubs.image.GenerateImage
    )
    fields = {f"options.model_parameters.{key}" for key in weaker}
    assert await refused(method(request)) == fields
    assert not (await get_bill(sandbox))["entries"]


async def test_safety_inputs_can_be_allowed(sandbox: Sandbox, open_server: OpenServer) -> None:
    """Then they are sent as they were given; without a word of theirs the checks are on."""
    async with open_server(sandbox.url, allow_weaker_safety=True) as (stubs, _):
        generation = (await stubs.models.RunModel(run(FLUX, {"safety_tolerance": 6}))).generation
        assert generation.state == generation_pb2.Generation.STATE_SUCCEEDED
        request = typed(FLUX, {"safety_tolerance": 5})
        also = (await stubs.image.GenerateImage(request)).generation
        assert also.state == generation_pb2.Generation.STATE_SUCCEEDED


async def test_stricter_safety_settings_are_always_allowed(sandbox_stubs: Stubs) -> None:
    """And so is the default, said in so many words."""
    for given in ({"safety_tolerance": 1}, {"safety_tolerance": 2}):
        answer = await sandbox_stubs.models.RunModel(run(FLUX, given))
        assert answer.generation.state == generation_pb2.Generation.STATE_SUCCEEDED
        generation = (await sandbox_stubs.image.GenerateImage(typed(FLUX, given))).generation
        assert generation.state == generation_pb2.Generation.STATE_SUCCEEDED


async def test_safety_checks_off_by_default_are_enabled(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """As typed rpcs have it by the catalog; the report says that it was not as the model has it."""
    boolean = {"type": "boolean", "default": True}
    schema = {"properties": {"prompt": {"type": "string"}, "disable_safety_filter": boolean}}
    published(scripted_upstream, "prunaai", "p-video", schema)
    scripted_upstream.creates = [
        says(prediction(scripted_upstream, "succeeded", output=None, metrics={}))
    ]
    generation = (await stubs.models.RunModel(run("prunaai/p-video", {}))).generation
    assert scripted_upstream.posted[0]["input"] == {
        "prompt": "rain",
        "disable_safety_filter": False,
    }
    reports = {line.parameter: line for line in generation.parameters}
    assert reports["input.disable_safety_filter"].sent == "false"
    given = {"disable_safety_filter": True}
    assert await refused(stubs.models.RunModel(run("prunaai/p-video", given)))


@pytest.mark.parametrize("name", UNKNOWN)
async def test_safety_inputs_without_a_schema(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, name: str
) -> None:
    """Known by the input's name alone, however deep it lies."""
    published(scripted_upstream, "o", "n", None)
    fields = await refused(stubs.models.RunModel(run("o/n", {name: UNKNOWN[name]})))
    assert fields == {f"input.{name}"}
    assert not scripted_upstream.posted


async def test_the_schemas_default_decides_what_is_stricter(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """A model whose owner has switched the check off may be told so; and one that is on not."""
    switch = {"type": "boolean"}
    schema = {
        "properties": {
            "prompt": {"type": "string"},
            "disable_safety_checker": {**switch, "default": True},
            "nsfw_filter": {**switch, "default": True},
        }
    }
    published(scripted_upstream, "o", "n", schema)
    scripted_upstream.creates = [
        says(prediction(scripted_upstream, "succeeded", output=None, metrics={}))
    ]
    await stubs.models.RunModel(run("o/n", {"disable_safety_checker": True, "nsfw_filter": True}))
    assert len(scripted_upstream.posted) == 1
    fields = await refused(stubs.models.RunModel(run("o/n", {"nsfw_filter": False})))
    assert fields == {"input.nsfw_filter"}


def published(scripted: ScriptedUpstream, owner: str, name: str, schema: Any) -> None:
    """What upstream publishes of a model that takes this."""
    schemas = {"Input": {"type": "object", **schema}, "Output": {}} if schema else {}
    scripted.models[f"{owner}/{name}"] = {
        "owner": owner,
        "name": name,
        "is_official": True,
        "latest_version": {
            "id": "1" * 64,
            "openapi_schema": {"components": {"schemas": schemas}},
        },
    }
