"""RunModel through the whole server and the sandbox: models that no file of the catalog names."""

import json
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict

from mediagate.v1 import (
    cost_pb2,
    generation_pb2,
    generations_pb2,
    medium_pb2,
    modality_pb2,
    models_pb2,
    options_pb2,
    plan_pb2,
)
from mediagate_sandbox.models import load_catalog
from mediagate_sandbox.server import Sandbox
from mediagate_server.observability import metrics
from tests.grpc_errors import fields_of, reason_of, retry_after, rpc_error

from .fake_clocks import InstantClock
from .scripted_upstream import ID, ScriptedUpstream, says
from .stubs import OpenServer, Stubs

Options = options_pb2.GenerationOptions
UPSCALER = "nightmareai/real-esrgan"
TRANSCRIBER = "openai/whisper"
LORA = "fofr/flux-80s-cyberpunk"
SHAPES = "sandbox/new-shapes"
LLM = "snowflake/snowflake-arctic-instruct"
PICTURE = "https://example.com/a.png"
VERSIONS = {model.slug: model.version for model in load_catalog()}


def run(model: str, given: Any = None, **fields: Any) -> models_pb2.RunModelRequest:
    """A request for a run."""
    return ParseDict({"model": model, "input": given or {}}, models_pb2.RunModelRequest(**fields))


def media(**uris: str | list[str]) -> dict[str, models_pb2.RunModelMedia]:
    """Media by input."""
    return {
        name: models_pb2.RunModelMedia(
            media=[
                medium_pb2.MediaInput(uri=uri)
                for uri in ([value] if isinstance(value, str) else value)
            ]
        )
        for name, value in uris.items()
    }


async def test_an_upscaling_model(sandbox_stubs: Stubs) -> None:
    """A link in, a link out; what its runs cost nobody publishes, so the cost is unknown."""
    answer = await sandbox_stubs.models.RunModel(
        run(UPSCALER, {"scale": 2, "face_enhance": True}, media=media(image=PICTURE))
    )
    generation = answer.generation
    assert generation.state == generation_pb2.Generation.STATE_SUCCEEDED
    assert (generation.model, generation.requested_model) == (UPSCALER, UPSCALER)
    assert generation.modality == modality_pb2.MODALITY_RAW
    assert generation.raw.value.string_value == "media:0"
    (picture,) = generation.raw.media
    assert picture.media_type == "image/png"
    assert picture.uri.startswith("http")
    assert picture.HasField("uri_expire_time")
    assert generation.cost.state == cost_pb2.COST_STATE_UNKNOWN
    assert not generation.cost.HasField("usd_nanos")
    assert generation.usage.run_duration.ToNanoseconds() > 0
    reports = {line.parameter: line for line in generation.parameters}
    assert set(reports) == {"input.scale", "input.face_enhance", "input.image"}
    assert {line.handling for line in generation.parameters} == {
        plan_pb2.ParameterReport.HANDLING_HONOURED
    }
    assert reports["input.scale"].sent == "2"
    assert not reports["input.image"].requested


async def test_a_transcription_model(sandbox_stubs: Stubs) -> None:
    """An object out, with lists and numbers in it, as the model gave it."""
    answer = await sandbox_stubs.models.RunModel(
        run(TRANSCRIBER, {"language": "en", "temperature": 0.5}, media=media(audio=PICTURE))
    )
    heard = MessageToDict(answer.generation.raw.value)
    assert heard["detected_language"] == "english"
    assert heard["transcription"].strip()
    assert heard["segments"][0]["start"] == 0
    assert heard["translation"] is None
    assert not answer.generation.raw.media


async def test_a_fine_tuned_model_and_its_version(sandbox_stubs: Stubs) -> None:
    """Several links out; by its newest version, or by the one that is named."""
    for name in (LORA, f"{LORA}:{VERSIONS[LORA]}"):
        answer = await sandbox_stubs.models.RunModel(
            run(name, {"prompt": "rain", "num_outputs": 2, "seed": 7, "lora_scale": 1.5})
        )
        generation = answer.generation
        assert generation.state == generation_pb2.Generation.STATE_SUCCEEDED
        value: Any = MessageToDict(generation.raw.value)
        assert value == ["media:0", "media:1"]
        assert [medium.media_type for medium in generation.raw.media] == ["image/webp"] * 2
        assert (generation.model, generation.requested_model) == (LORA, name)
        assert generation.seed == 7


async def test_a_language_model_gives_one_text(sandbox_stubs: Stubs) -> None:
    """The pieces of an iterator are one string."""
    answer = await sandbox_stubs.models.RunModel(run(LLM, {"prompt": "[[say=Hel|lo|!]]"}))
    assert answer.generation.raw.value.string_value == "Hello!"


async def test_every_new_form_of_schema_output_and_metrics(sandbox_stubs: Stubs) -> None:
    """Inputs are checked by each form, files of nested objects are kept, metrics stop nothing."""
    good = {"prompt": "x", "strength": "much", "points": {"x": 1}, "options": {"a": [1, None]}}
    answer = await sandbox_stubs.models.RunModel(
        run(SHAPES, {**good, "color": None, "api_key": "sk", "tags": [{}], "code": "abc-1"})
    )
    generation = answer.generation
    assert generation.state == generation_pb2.Generation.STATE_SUCCEEDED
    output = MessageToDict(generation.raw.value)
    assert len(generation.raw.media) == 3
    assert output["picture"].startswith("media:")
    assert [each["file"].startswith("media:") for each in output["variants"]] == [True, True]
    assert output["facts"]["notes"] == ["first", None]
    for given, field in (
        ({"strength": [1]}, "input.strength"),
        ({"points": 7}, "input.points"),
        ({"color": ""}, "input.color"),
        ({"code": "abc-1!"}, "input.code"),
        ({"options": "x"}, "input.options"),
        ({"guidnce": 7}, "input.guidnce"),
    ):
        error = await rpc_error(sandbox_stubs.models.RunModel(run(SHAPES, good | given)))
        assert fields_of(error) == {field}


async def test_catalog_models_keep_their_price(sandbox_stubs: Stubs) -> None:
    """By slug, with their own inputs, and settled by the price of the list."""
    request = run("black-forest-labs/flux-schnell", {"prompt": "a cat", "num_outputs": 3})
    estimate = await sandbox_stubs.models.EstimateCost(models_pb2.EstimateCostRequest(run=request))
    assert estimate.plan.cost.maximum_usd_nanos == 9_000_000
    generation = (await sandbox_stubs.models.RunModel(request)).generation
    assert generation.cost.state == cost_pb2.COST_STATE_SETTLED
    assert generation.cost.usd_nanos == 9_000_000
    assert len(generation.raw.media) == 3


async def test_a_deployment(sandbox_stubs: Stubs) -> None:
    """Named as such; an official model behind it costs what the model costs."""
    answer = await sandbox_stubs.models.RunModel(
        run("deployments/sandbox/text", {"prompt": "Hi", "max_tokens": 20})
    )
    generation = answer.generation
    assert generation.state == generation_pb2.Generation.STATE_SUCCEEDED
    assert generation.model == "deployments/sandbox/text"
    assert generation.raw.value.string_value
    assert generation.cost.usd_nanos > 0


async def test_callers_models_create_no_metric_series(sandbox_stubs: Stubs) -> None:
    """Its runs are counted, under one name for all of their kind."""
    kind = {"modality": "raw", "model": "other", "state": "succeeded"}
    before = metrics.REGISTRY.get_sample_value("mediagate_generations_total", kind) or 0
    await sandbox_stubs.models.RunModel(run(UPSCALER, media=media(image=PICTURE)))
    assert metrics.REGISTRY.get_sample_value("mediagate_generations_total", kind) == before + 1
    labels = {
        sample.labels.get("model")
        for metric in metrics.REGISTRY.collect()
        for sample in metric.samples
    }
    assert UPSCALER not in labels


BAD_INPUT: dict[str, tuple[Any, dict[str, models_pb2.RunModelMedia], set[str]]] = {
    "missing": ({}, {}, {"input.prompt"}),
    "null is missing": ({"prompt": None}, {}, {"input.prompt"}),
    "type": ({"prompt": 5}, {}, {"input.prompt"}),
    "range": ({"prompt": "x", "num_outputs": 9}, {}, {"input.num_outputs"}),
    "no whole number": ({"prompt": "x", "num_outputs": 1.5}, {}, {"input.num_outputs"}),
    "enum": ({"prompt": "x", "aspect_ratio": "7:5"}, {}, {"input.aspect_ratio"}),
    "unknown": ({"prompt": "x", "promt": "y"}, {}, {"input.promt"}),
    "uri": ({"prompt": "x", "image": "a cat"}, {}, {"input.image"}),
    "several": (
        {"num_outputs": 0, "lora_scale": "much"},
        {},
        {"input.prompt", "input.num_outputs", "input.lora_scale"},
    ),
    "media for text": ({"prompt": "x"}, media(nothing=PICTURE), {'media["nothing"]'}),
    "media twice": ({"prompt": "x", "image": PICTURE}, media(image=PICTURE), {'media["image"]'}),
    "too many media": (
        {"prompt": "x"},
        media(image=[PICTURE, PICTURE]),
        {'media["image"].media'},
    ),
    "no media": ({"prompt": "x"}, media(image=[]), {'media["image"].media'}),
    "media uri": (
        {"prompt": "x"},
        media(image="ftp://example.com/a.png"),
        {'media["image"].media[0].uri'},
    ),
}


@pytest.mark.parametrize("name", BAD_INPUT)
async def test_an_input_outside_the_schema_is_refused_by_name(
    sandbox: Sandbox, sandbox_stubs: Stubs, name: str
) -> None:
    """All that is wrong at once; nothing is created, and nothing of the input is repeated."""
    given, inputs_, fields = BAD_INPUT[name]
    error = await rpc_error(sandbox_stubs.models.RunModel(run(LORA, given, media=inputs_)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(error) == "INVALID_REQUEST"
    assert fields_of(error) == fields
    listed = await sandbox_stubs.generations.ListGenerations(
        generations_pb2.ListGenerationsRequest()
    )
    assert not listed.generations


async def test_refused_inputs_are_not_echoed(sandbox_stubs: Stubs) -> None:
    """An input may be a secret or a prompt: errors name it and never show it."""
    error = await rpc_error(
        sandbox_stubs.models.RunModel(
            run(LORA, {"prompt": ["xyzzy"], "aspect_ratio": "xyzzy", "image": "xyzzy"})
        )
    )
    assert "xyzzy" not in str(error)
    assert len(fields_of(error)) == 3


@pytest.mark.parametrize(
    ("model", "code", "reason"),
    [
        ("nobody/nothing", grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"),
        (f"{LORA}:{'0' * 64}", grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"),
        ("deployments/nobody/nothing", grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"),
        ("llama-70b", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ("a/b/c", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ("../predictions", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ("a/b:c/d", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ("", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
    ],
)
async def test_malformed_and_unknown_model_names(
    sandbox_stubs: Stubs, model: str, code: grpc.StatusCode, reason: str
) -> None:
    """A form that can name nothing, and a name that nobody has."""
    error = await rpc_error(sandbox_stubs.models.RunModel(run(model, {"prompt": "x"})))
    assert (error.code(), reason_of(error)) == (code, reason)
    assert fields_of(error) == {"model"}


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (Options(model="llama-70b"), "options.model"),
        (Options(max_cost_usd_nanos=10**12), ""),
    ],
)
async def test_options_that_run_model_refuses(
    sandbox_stubs: Stubs, options: Options, field: str
) -> None:
    """A second name; and a bound on a cost that nobody knows."""
    request = run(UPSCALER, media=media(image=PICTURE), options=options)
    error = await rpc_error(sandbox_stubs.models.RunModel(request))
    if field:
        assert fields_of(error) == {field}
    else:
        assert reason_of(error) == "PRICE_UNKNOWN"


async def test_numbers_outside_json_are_refused(sandbox_stubs: Stubs) -> None:
    """NaN, and JSON deeper than any parser reads."""
    request = run(LORA, {"prompt": "x"})
    request.input.fields["lora_scale"].number_value = float("nan")
    deep = run(LORA, {"prompt": json.loads("[" * 40 + "]" * 40)})
    for wrong, field in ((request, "input.lora_scale"), (deep, "input")):
        error = await rpc_error(sandbox_stubs.models.RunModel(wrong))
        assert fields_of(error) == {field}


async def test_a_repeat_needs_no_upstream(sandbox: Sandbox, open_server: OpenServer) -> None:
    """The schema is read for a new run only; after a restart the output is still there."""
    request = run(LORA, {"prompt": "x"}, request_id="6f7a3c1e-0000-4000-8000-000000000002")
    async with open_server(sandbox.url) as (stubs, _):
        first = await stubs.models.RunModel(request)
        assert not first.replayed
    async with open_server("http://127.0.0.1:9") as (stubs, _):
        again = await stubs.models.RunModel(request)
        assert again.replayed
        assert again.generation.raw == first.generation.raw
        error = await rpc_error(stubs.models.RunModel(run(LORA, {"prompt": "x"})))
    assert reason_of(error) == "UPSTREAM_UNAVAILABLE"
    assert retry_after(error)


SCHEMA = {
    "components": {
        "schemas": {
            "Input": {"type": "object", "properties": {"a": {"type": "string"}}},
            "Output": {
                "type": "object",
                "properties": {
                    "clips": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {"url": {"type": "string", "format": "uri"}},
                        },
                    }
                },
            },
        }
    }
}


async def test_media_urls_are_found_at_any_depth(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer
) -> None:
    """Nested, by the schema; of Replicate's own host also where the schema does not say."""
    scripted_upstream.models["o/n"] = {
        "owner": "o",
        "name": "n",
        "is_official": True,
        "latest_version": {"id": "1" * 64, "openapi_schema": SCHEMA},
    }
    output = {
        "clips": [{"url": "https://x.example/1.mp4", "note": "https://x.example/no"}, {"url": ""}],
        "extra": ["https://a.replicate.delivery/b.png", "https://replicate.delivery.evil.example/"],
    }
    scripted_upstream.creates = [says({"id": ID, "status": "succeeded", "output": output}, 201)]
    async with open_server(scripted_upstream.url, clock=InstantClock()) as (stubs, _):
        generation = (await stubs.models.RunModel(run("o/n", {"a": "b"}))).generation
    assert MessageToDict(generation.raw.value) == {
        "clips": [{"url": "media:0", "note": "https://x.example/no"}, {"url": ""}],
        "extra": ["media:1", "https://replicate.delivery.evil.example/"],
    }
    assert [medium.media_type for medium in generation.raw.media] == ["video/mp4", "image/png"]
    assert scripted_upstream.posted == [{"input": {"a": "b"}}]


async def test_a_model_without_a_schema_is_run_unchecked(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """An official model need not publish one; the report says that nothing was checked."""
    scripted_upstream.models["o/n"] = {"owner": "o", "name": "n", "is_official": True}
    scripted_upstream.creates = [says({"id": ID, "status": "succeeded", "output": None}, 201)]
    generation = (await stubs.models.RunModel(run("o/n", {"b": {"c": [1, 2.5, None]}}))).generation
    assert generation.state == generation_pb2.Generation.STATE_SUCCEEDED
    assert generation.raw.value.HasField("null_value")
    assert "unchecked" in generation.parameters[0].reason
    assert scripted_upstream.posted == [{"input": {"b": {"c": [1, 2.5, None]}}}]
