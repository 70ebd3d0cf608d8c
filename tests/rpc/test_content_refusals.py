"""Content that a model refuses, or may have refused, is sent to no other model."""

import asyncio
from typing import Any

import pytest
from aiohttp import web
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

from mediagate.v1 import generation_pb2, generations_pb2, options_pb2
from mediagate_sandbox.server import Sandbox
from tests.builders import image_request, video_request
from tests.grpc_errors import reason_of, rpc_error

from .generation_waits import get_bill, inject_faults
from .scripted_upstream import ID, Answer, ScriptedUpstream, prediction, says
from .stubs import OpenServer, Stubs

State = generation_pb2.Generation
Options = options_pb2.GenerationOptions
Policy = options_pb2.FallbackPolicy
VERTEX = "Veo could not generate 1 videos because they violated Vertex AI's usage guidelines."


def error_info(generation: generation_pb2.Generation) -> error_details_pb2.ErrorInfo:
    """What programs are told of its failure."""
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in generation.error.details)
    return info


async def film(stubs: Stubs, **options: Any) -> generation_pb2.Generation:
    """A film of Google's, with others behind it."""
    chain = Policy(mode=Policy.MODE_LIST, models=["minimax-video", "kling"], **options)
    answer = await stubs.video.GenerateVideo(
        video_request(
            prompt="A dog", model="google/veo-3", fallback=chain, wait=Duration(seconds=60)
        )
    )
    return answer.generation


async def picture(stubs: Stubs, count: int = 1) -> generation_pb2.Generation:
    """A picture by a model with others behind it."""
    chain = Policy(mode=Policy.MODE_LIST, models=["flux-dev", "sdxl"])
    answer = await stubs.image.GenerateImage(
        image_request(prompt="A cat", count=count, model="flux-pro", fallback=chain)
    )
    return answer.generation


@pytest.mark.parametrize(
    "error",
    [
        VERTEX,
        "The input or output was flagged as sensitive. (E005)",
        "OutputVideoSensitiveContentDetected.PolicyViolation",
        "Your request was rejected by the safety system. moderation_blocked",
        "finish_reason: PROHIBITED_CONTENT",
        "生成视频涉及敏感内容",
    ],
)
async def test_a_content_refusal_ends_the_fallback_chain(
    sandbox: Sandbox, open_server: OpenServer, error: str
) -> None:
    """CONTENT_BLOCKED after one attempt; the vendor's words are not passed on."""
    await inject_faults(sandbox, {"do": "fail", "model": "google/*", "error": error})
    async with open_server(sandbox.url) as (stubs, _):
        generation = await film(stubs)
    assert generation.state == State.STATE_FAILED
    info = error_info(generation)
    assert info.reason == "CONTENT_BLOCKED"
    assert info.metadata["by"] == "model"
    assert [attempt.model for attempt in generation.attempts] == ["google/veo-3"]
    assert generation.attempts[0].reason == "CONTENT_BLOCKED"
    assert len((await get_bill(sandbox))["entries"]) == 1
    assert error not in str(generation)


async def test_a_possible_content_refusal_ends_the_fallback_chain(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """RUN_FAILED, with a word about why nobody else was asked, unless the request insists."""
    await inject_faults(
        sandbox, {"do": "fail", "model": "google/*", "error": "Your input was rejected."}
    )
    async with open_server(sandbox.url) as (stubs, _):
        generation = await film(stubs)
        carried = await film(stubs, after_content_refusal=True)
    info = error_info(generation)
    assert info.reason == "RUN_FAILED"
    assert info.metadata["may_be_content_refusal"] == "true"
    assert len(generation.attempts) == 1
    assert carried.state == State.STATE_SUCCEEDED
    assert len(carried.attempts) == 2


@pytest.mark.parametrize(
    "error",
    [
        "queue reached limit",
        "Service is currently unavailable due to high demand. (E003)",
        "model container failed to boot and complete setup within 600 seconds",
        "could not load the safety checker",
        "403 Client Error: Forbidden for url: https://cdn.discordapp.com/a.png?ex=6&hm=7",
        None,
    ],
)
async def test_technical_failures_fall_back(
    sandbox: Sandbox, open_server: OpenServer, error: str | None
) -> None:
    """No room, a set-up that failed, an input that could not be fetched: nobody refused a thing."""
    await inject_faults(sandbox, {"do": "fail", "model": "google/*", "error": error})
    async with open_server(sandbox.url) as (stubs, _):
        generation = await film(stubs)
    assert generation.state == State.STATE_SUCCEEDED
    assert generation.attempts[0].reason == "RUN_FAILED"
    assert len(generation.attempts) == 2


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, {"detail": "Your prompt violates our content policies"}, "CONTENT_BLOCKED"),
        (422, {"title": "Refused", "detail": "prompt was flagged as unsafe"}, "CONTENT_BLOCKED"),
        (409, {"detail": "Blocked by our safety system"}, "CONTENT_BLOCKED"),
        (409, {"error": {"code": "moderation_blocked"}}, "CONTENT_BLOCKED"),
        (451, {}, "CONTENT_BLOCKED"),
        (410, {"detail": "The request was declined"}, "RUN_FAILED"),
    ],
)
async def test_a_create_refused_for_content_does_not_fall_back(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, status: int, body: Any, reason: str
) -> None:
    """One create, whatever the status; nothing was taken, so it costs nothing."""
    scripted_upstream.creates = [says(body, status)]
    error = await rpc_error(picture(stubs))
    assert reason_of(error) == reason
    assert len(scripted_upstream.posted) == 1
    listed = await stubs.generations.ListGenerations(generations_pb2.ListGenerationsRequest())
    [generation] = listed.generations
    assert generation.cost.HasField("usd_nanos")
    assert generation.cost.usd_nanos == 0


async def test_a_create_refused_for_other_reasons_falls_back(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """Also where it names an input that is about safety."""
    scripted_upstream.creates = [
        says({"detail": "gone"}, 410),
        says(
            prediction(scripted_upstream, "succeeded", output=[], metrics={"image_output_count": 1})
        ),
    ]
    await picture(stubs)
    assert len(scripted_upstream.posted) == 2
    scripted_upstream.posted.clear()
    fields = [{"field": "safety_tolerance", "description": "Must be less than or equal to 6"}]
    detail = "- input.safety_tolerance: Must be less than or equal to 6\n"
    body = {"title": "Input validation failed", "detail": detail, "invalid_fields": fields}
    scripted_upstream.creates = [says(body, 422)]
    error = await rpc_error(picture(stubs))
    assert reason_of(error) == "INPUT_REJECTED"


async def test_one_refused_output_stops_fallback_of_the_others(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """Two pictures of one prompt: the first is refused, then the run of the second breaks."""
    refused = asyncio.Event()
    scripted_upstream.creates = [says(prediction(scripted_upstream, "starting"))]

    async def get(request: web.Request) -> web.StreamResponse:
        if request.match_info["id"] == ID:
            answer: Answer = says({"id": ID, "status": "failed", "error": VERTEX})
        elif refused.is_set():
            answer = says({"id": ID, "status": "failed", "error": "CUDA out of memory"})
        else:
            answer = says(prediction(scripted_upstream, "processing"))
        return await answer(request)

    scripted_upstream.gets = [get]
    task = asyncio.create_task(picture(stubs, count=2))
    while not refused.is_set():
        listed = await stubs.generations.ListGenerations(generations_pb2.ListGenerationsRequest())
        attempts = [attempt for each in listed.generations for attempt in each.attempts]
        if any(attempt.state == generation_pb2.Attempt.STATE_FAILED for attempt in attempts):
            refused.set()
    generation = await task
    assert generation.state == State.STATE_FAILED
    assert len(scripted_upstream.posted) == 2
    assert {attempt.model for attempt in generation.attempts} == {"black-forest-labs/flux-1.1-pro"}
