"""Each kind of request with each kind of medium, by every model's name and without one: all of it
reaches the model that is run, or the call is refused before anything is spent.
"""

import asyncio
import itertools
import json
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import (
    audio_pb2,
    generation_pb2,
    image_pb2,
    medium_pb2,
    modality_pb2,
    models_pb2,
    options_pb2,
    plan_pb2,
    text_pb2,
    video_pb2,
)
from mediagate_sandbox.server import Sandbox
from mediagate_server.api.convert.requests import decode_model_request
from mediagate_server.catalog.catalog import DEFAULT_MODELS
from mediagate_server.catalog.models.model import Model, ModelStatus
from mediagate_server.catalog.request import Modality
from mediagate_server.errors import MediagateError
from tests.catalog.builders import shipped_catalog
from tests.grpc_errors import fields_of, reason_of, rpc_error
from tests.sandbox_process import INSTANT

from .generation_waits import get_bill
from .stubs import OpenServer, Stubs

CATALOG = shipped_catalog(optimize_cost=True)
Handling = plan_pb2.ParameterReport
KINDS = {
    "text": (text_pb2.GenerateTextRequest, "GenerateText", Modality.TEXT),
    "image": (image_pb2.GenerateImageRequest, "GenerateImage", Modality.IMAGE),
    "video": (video_pb2.GenerateVideoRequest, "GenerateVideo", Modality.VIDEO),
    "audio": (audio_pb2.GenerateAudioRequest, "GenerateAudio", Modality.AUDIO),
}
WORDS = {"prompt", "text", "lyrics"}


def medium(name: str) -> medium_pb2.MediaInput:
    """A link that can be told from all others."""
    return medium_pb2.MediaInput(uri=f"https://example.com/{name}")


def media(name: str, number: int) -> list[medium_pb2.MediaInput]:
    """So many of them."""
    return [medium(f"{name}-{index}.png") for index in range(number)]


def loras(number: int) -> list[image_pb2.Lora]:
    """So many adapters."""
    return [image_pb2.Lora(uri=f"https://example.com/w{index}.tar") for index in range(number)]


def messages_with_images(number: int) -> list[text_pb2.ChatMessage]:
    """A turn with so many pictures."""
    chat_parts = [text_pb2.ChatPart(text="What is this?")]
    chat_parts += [text_pb2.ChatPart(image=image) for image in media("seen", number)]
    return [text_pb2.ChatMessage(role=text_pb2.ChatMessage.ROLE_USER, parts=chat_parts)]


IMAGE_MEDIA: dict[str, dict[str, Any]] = {
    "one picture": {"reference_images": media("look", 1)},
    "two pictures": {"reference_images": media("look", 2)},
    "sixteen pictures": {"reference_images": media("look", 16)},
    "mask": {"mask": medium("mask.png")},
    "adapter": {"loras": loras(1)},
    "two adapters": {"loras": loras(2)},
}
VIDEO_MEDIA: dict[str, dict[str, Any]] = {
    "first frame": {"first_frame": medium("first.png")},
    "last frame": {"last_frame": medium("last.png")},
    "one reference": {"reference_images": media("look", 1)},
    "four references": {"reference_images": media("look", 4)},
    "film": {"source_video": medium("film.mp4")},
    "sound": {"source_audio": medium("sound.mp3")},
}
AUDIO_MEDIA: dict[str, dict[str, Any]] = {
    "going on": {"continue_from": medium("song.mp3")},
    "reference": {"reference_audio": medium("voice.mp3")},
}
AUDIO_WORDS: dict[str, dict[str, Any]] = {
    "prompt": {"prompt": "a slow waltz"},
    "text": {"text": "good evening"},
    "lyrics": {"lyrics": "la la la"},
    "prompt and lyrics": {"prompt": "a slow waltz", "lyrics": "la la la"},
    "speech": {"text": "good evening", "kind": audio_pb2.AUDIO_KIND_SPEECH},
    "music": {"prompt": "a slow waltz", "kind": audio_pb2.AUDIO_KIND_MUSIC},
    "effect": {"prompt": "rain on a roof", "kind": audio_pb2.AUDIO_KIND_SOUND_EFFECT},
    "spoken prompt": {"prompt": "a slow waltz", "kind": audio_pb2.AUDIO_KIND_SPEECH},
    "voice": {"prompt": "a slow waltz", "voice": "Rachel"},
}


def mixed(*groups: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One of the first group, with none, one or two of the others'."""
    first, *rest = groups
    others = [each for group in rest for each in group.values()]
    for words, number in itertools.product(first.values(), range(3)):
        for chosen in itertools.combinations(others, number):
            combined = dict(words)
            for each in chosen:
                combined |= each
            yield combined


REQUESTS: dict[str, list[dict[str, Any]]] = {
    "text": [
        {"prompt": "Hello"},
        *({"messages": messages_with_images(number)} for number in range(3)),
    ],
    "image": [*mixed({"prompt": {"prompt": "a red door"}}, IMAGE_MEDIA)],
    "video": [*mixed({"prompt": {"prompt": "a red door"}, "none": {}}, VIDEO_MEDIA)],
    "audio": [*mixed(AUDIO_WORDS, AUDIO_MEDIA)],
}
LIVE = [model for model in CATALOG.models() if model.status is ModelStatus.LIVE]


def request_of(kind: str, fields: dict[str, Any], **options: Any) -> Any:
    """As it goes through the wire."""
    alone = options_pb2.FallbackPolicy(mode=options_pb2.FallbackPolicy.MODE_NONE)
    request_class, _, _ = KINDS[kind]
    return request_class(**fields, options=options_pb2.GenerationOptions(fallback=alone, **options))


def precious(kind: str, fields: dict[str, Any]) -> dict[str, list[str]]:
    """The strings that must reach a model, by the field of the request that has them."""
    texts: dict[str, list[str]] = {}
    for name, value in fields.items():
        if name in WORDS:
            texts[name] = [value]
        elif isinstance(value, list):
            links = [item.uri for item in value if not isinstance(item, text_pb2.ChatMessage)]
            chat_parts = [
                part for message in value if hasattr(message, "parts") for part in message.parts
            ]
            texts[name] = links + [part.image.uri or part.text for part in chat_parts]
        elif isinstance(value, medium_pb2.MediaInput):
            texts[name] = [value.uri]
    return texts


def check_report(kind: str, fields: dict[str, Any], plan: plan_pb2.Plan) -> None:
    """No line says that a medium or words go lost."""
    lines = {line.parameter: line for line in plan.parameters}
    for name in precious(kind, fields):
        assert lines[name].handling != Handling.HANDLING_DROPPED, (plan.model, lines[name])
        if name != "messages":
            assert lines[name].handling != Handling.HANDLING_ADJUSTED, (plan.model, lines[name])


def check_refusal(error: grpc.aio.AioRpcError, kind: str, fields: dict[str, Any]) -> None:
    """It names a field, in words of the request."""
    codes = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)
    assert error.code() in codes, error
    assert reason_of(error) in ("INVALID_REQUEST", "PARAMETER_UNSUPPORTED", "NO_MODEL_FITS"), error
    named = {field.removeprefix(f"{kind}.").partition("[")[0] for field in fields_of(error)}
    needed = {"prompt", "first_frame", "source_video", "source_audio", "text", "lyrics"}
    assert named & {*fields, *needed}


async def estimated(stubs: Stubs, kind: str, request: Any) -> plan_pb2.Plan | None:
    """Its plan; None where it is refused, and the refusal is as it should be."""
    estimate_request = models_pb2.EstimateCostRequest(**{kind: request})
    try:
        return (await stubs.models.EstimateCost(estimate_request)).plan
    except grpc.aio.AioRpcError as error:
        given = {field.name: value for field, value in request.ListFields()}
        check_refusal(error, kind, given)
        return None


@pytest.mark.parametrize("kind", KINDS)
async def test_every_live_model_gets_all_inputs_or_refuses(
    sandbox: Sandbox, open_server: OpenServer, kind: str
) -> None:
    """It runs and gets everything, or the call is refused; nobody else is run."""
    _, _, modality = KINDS[kind]
    planned = 0
    async with open_server(sandbox.url) as (stubs, _):
        for model in (model for model in LIVE if model.modality is modality):
            for fields in REQUESTS[kind]:
                plan = await estimated(stubs, kind, request_of(kind, fields, model=model.slug))
                if plan is not None:
                    assert plan.model == model.slug
                    check_report(kind, fields, plan)
                    planned += 1
        assert not (await get_bill(sandbox))["entries"]
    assert planned


def sent(kind: str, fields: dict[str, Any], model: Model, **options: Any) -> str | None:
    """The whole input that the model would get; None where it cannot take the request."""
    _, _, modality = KINDS[kind]
    message = request_of(kind, fields, model=model.slug, **options)
    request = decode_model_request(message, modality, 600.0)
    try:
        return json.dumps(CATALOG.plan(request).input, ensure_ascii=False)
    except MediagateError:
        return None


@pytest.mark.parametrize(
    "model", [each for each in LIVE if each.modality.value in KINDS], ids=lambda model: model.slug
)
def test_the_whole_request_is_in_the_input(model: Model) -> None:
    """Whatever a plan says of it, each link and each word is there to be read."""
    kind = model.modality.value
    for fields in REQUESTS[kind]:
        if (full_input := sent(kind, fields, model)) is not None:
            for name, texts in precious(kind, fields).items():
                assert [text for text in texts if text not in full_input] == [], (name, fields)


def supports(model: Model, fields: dict[str, Any]) -> bool:
    """Whether its kinds of sound are what a request without a name means."""
    if "kind" in fields:
        word = audio_pb2.AudioKind.Name(fields["kind"]).removeprefix("AUDIO_KIND_").lower()
        return word in model.makes
    if fields.keys() & {"text", "voice"}:
        return "speech" in model.makes
    return "music" in model.makes if "lyrics" in fields else model.makes != ("speech",)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["PARAMETER_MODE_LENIENT", "PARAMETER_MODE_STRICT"])
@pytest.mark.parametrize("quality", ["UNSPECIFIED", "ECONOMY", "STANDARD", "PREMIUM"])
async def test_model_selection_finds_a_model_that_takes_all_inputs(
    sandbox: Sandbox, open_server: OpenServer, kind: str, mode: str, quality: str
) -> None:
    """Of the quality asked for, or of the default's; a refusal means that there is nobody."""
    _, _, modality = KINDS[kind]
    default = CATALOG.find(modality, DEFAULT_MODELS[modality]).quality.name
    expected_quality = default if quality == "UNSPECIFIED" else quality
    strictness = {"parameter_mode": options_pb2.ParameterMode.Value(mode)}
    options = {**strictness, "quality": modality_pb2.Quality.Value(f"QUALITY_{quality}")}
    async with open_server(sandbox.url) as (stubs, _):
        for fields in REQUESTS[kind]:
            able = [
                model.slug
                for model in LIVE
                if model.modality is modality
                and model.quality.name == expected_quality
                and (kind != "audio" or supports(model, fields))
                and sent(kind, fields, model, **strictness) is not None
            ]
            plan = await estimated(stubs, kind, request_of(kind, fields, **options))
            if plan is None:
                assert not able, fields
            else:
                assert plan.model in able, fields
                check_report(kind, fields, plan)
        assert not (await get_bill(sandbox))["entries"]


def input_of(sandbox: Sandbox, prediction_id: str) -> Any:
    """What upstream was given."""
    with closing(HTTPConnection(urlsplit(sandbox.url).netloc, timeout=30)) as connection:
        headers = {"Authorization": "Bearer r8_test_token"}
        connection.request("GET", f"/v1/predictions/{prediction_id}", headers=headers)
        return json.loads(connection.getresponse().read())["input"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_selected_model_gets_all_inputs(open_server: OpenServer, kind: str) -> None:
    """In earnest: one prediction for each that is taken, with everything in its input."""
    _, method, _ = KINDS[kind]
    async with Sandbox(INSTANT) as sandbox, open_server(sandbox.url) as (stubs, _):

        async def run(fields: dict[str, Any]) -> generation_pb2.Generation | None:
            request = request_of(kind, fields)
            if kind != "text":
                request.wait.CopyFrom(Duration(seconds=60))
            try:
                answer = await getattr(getattr(stubs, kind), method)(request)
            except grpc.aio.AioRpcError as error:
                check_refusal(error, kind, fields)
                return None
            generation: generation_pb2.Generation = answer.generation
            assert generation.state == generation_pb2.Generation.STATE_SUCCEEDED, generation
            model_input = await asyncio.to_thread(
                input_of, sandbox, generation.attempts[0].prediction_id
            )
            for texts in precious(kind, fields).values():
                assert [text for text in texts if text not in json.dumps(model_input)] == [], (
                    generation.model
                )
            return generation

        results = [await run(fields) for fields in REQUESTS[kind]]
        generations = [generation for generation in results if generation is not None]
        assert generations
        assert len((await get_bill(sandbox))["entries"]) == len(generations)


async def test_default_models_run_where_they_can(sandbox: Sandbox, open_server: OpenServer) -> None:
    """The models of the brief, whatever was asked of them that they only adjust."""
    many = {
        "text": {"prompt": "Hello", "system_prompt": "Be brief", "max_output_tokens": 200},
        "image": {
            "prompt": "A bottle",
            "negative_prompt": "people",
            "size": medium_pb2.Size(width=1024, height=1024),
            "guidance_scale": 7.5,
            "seed": 7,
        },
        "video": {
            "prompt": "Coffee",
            "duration": Duration(seconds=6),
            "fps": 30,
            "size": medium_pb2.Size(width=1920, height=1080),
            "guidance_scale": 7.5,
            "motion_strength": 0.8,
            "first_frame": medium("first.png"),
        },
        "audio": {"prompt": "A waltz", "duration": Duration(seconds=30), "top_k": 250},
    }
    slugs = {
        "text": "meta/meta-llama-3-70b-instruct",
        "image": "black-forest-labs/flux-1.1-pro",
        "video": "minimax/video-01",
        "audio": "meta/musicgen",
    }
    async with open_server(sandbox.url) as (stubs, _):
        for kind, fields in many.items():
            plain = {"prompt": fields["prompt"]}
            for each in (plain, fields):
                plan = await estimated(stubs, kind, request_of(kind, each))
                assert plan is not None
                assert plan.model == slugs[kind]
                assert not plan.HasField("choice")


async def test_the_last_of_several_inputs_is_named(sandbox_stubs: Stubs) -> None:
    """By its place, also in the words of an estimate."""
    request = request_of("image", {"prompt": "x", **IMAGE_MEDIA["two pictures"]}, model="flux-pro")
    error = await rpc_error(sandbox_stubs.image.GenerateImage(request))
    assert reason_of(error) == "PARAMETER_UNSUPPORTED"
    assert fields_of(error) == {"reference_images[1]"}
    error = await rpc_error(
        sandbox_stubs.models.EstimateCost(models_pb2.EstimateCostRequest(image=request))
    )
    assert fields_of(error) == {"image.reference_images[1]"}
