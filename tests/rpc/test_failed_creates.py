"""Creates that upstream fails to answer: the next model of the chain, and one paid create."""

import asyncio
from typing import Any

import grpc
import pytest

from mediagate.v1 import audio_pb2, generation_pb2, medium_pb2, options_pb2
from mediagate_sandbox.server import Sandbox
from mediagate_server.observability import metrics
from tests.builders import audio_request, image_request, text_request, video_request
from tests.grpc_errors import reason_of, retry_after, rpc_error

from .generation_waits import QUICK, get_bill, inject_faults, wait_until
from .stubs import OpenServer, Stubs

State = generation_pb2.Generation
Tried = generation_pb2.Attempt
Options = options_pb2.GenerationOptions
Policy = options_pb2.FallbackPolicy
BRISK: dict[str, Any] = {**QUICK, "api_error_margin": 0.5}

CHAINS = {
    "text": [
        "meta/llama-4-maverick-instruct",
        "meta/meta-llama-3-70b-instruct",
        "openai/gpt-4.1",
    ],
    "image": [
        "black-forest-labs/flux-1.1-pro",
        "black-forest-labs/flux-dev",
        "stability-ai/sdxl",
        "playgroundai/playground-v2.5-1024px-aesthetic",
    ],
    "video": [
        "minimax/video-01",
        "luma/ray-2-720p",
        "runwayml/gen4-turbo",
        "christophy/stable-video-diffusion",
    ],
    "audio": ["suno-ai/bark", "meta/musicgen", "lucataco/magnet"],
}
"""The chains of llama-405b, flux-pro, minimax-video and suno."""

FAULTS: dict[str, dict[str, Any]] = {
    "500": {"do": "error", "status": 500},
    "503": {"do": "error", "status": 503},
    "504": {"do": "error", "status": 504},
    "reset": {"do": "refuse"},
}


async def generate(stubs: Stubs, kind: str) -> generation_pb2.Generation:
    """Something of a kind by the default model of the brief, with its default timeout."""
    answer: Any
    if kind == "text":
        answer = await stubs.text.GenerateText(
            text_request(prompt="[[tokens=5]] Hello", model="llama-405b")
        )
    elif kind == "image":
        answer = await stubs.image.GenerateImage(image_request(prompt="A cat", model="flux-pro"))
    elif kind == "video":
        request = video_request(
            prompt="A dog",
            first_frame=medium_pb2.MediaInput(uri="https://example.com/dog.png"),
            model="minimax-video",
        )
        request.wait.FromSeconds(120)
        answer = await stubs.video.GenerateVideo(request)
    else:
        answer = await stubs.audio.GenerateAudio(
            audio_request(prompt="A song", kind=audio_pb2.AUDIO_KIND_MUSIC, model="suno")
        )
    generation: generation_pb2.Generation = answer.generation
    return generation


@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fallback_chain_can_end_on_each_model(
    sandbox: Sandbox, open_server: OpenServer, fault: str
) -> None:
    """However many creates before it never arrive: each model is tried once, one is paid."""
    async with open_server(sandbox.url, **BRISK) as (stubs, _):

        async def end_on(kind: str, link: int) -> None:
            done = await generate(stubs, kind)
            assert [attempt.model for attempt in done.attempts] == CHAINS[kind][: link + 1]
            assert done.state == State.STATE_SUCCEEDED
            assert [attempt.state for attempt in done.attempts] == [
                *[Tried.STATE_ABSENT] * link,
                Tried.STATE_SUCCEEDED,
            ]
            assert [attempt.cost.usd_nanos for attempt in done.attempts[:-1]] == [0] * link
            prediction_ids.append(done.attempts[-1].prediction_id)

        for link in range(1, 4):
            prediction_ids: list[str] = []
            kinds = {kind: models for kind, models in CHAINS.items() if len(models) > link}
            failing = [model for models in kinds.values() for model in models[:link]]
            await inject_faults(
                sandbox, *({**FAULTS[fault], "on": "create", "model": model} for model in failing)
            )
            before = len((await get_bill(sandbox))["entries"])
            await asyncio.gather(*(end_on(kind, link) for kind in kinds))
            entries = (await get_bill(sandbox))["entries"][before:]
            assert sorted(prediction_ids) == sorted(entry["id"] for entry in entries)


async def test_a_request_that_no_model_took_can_be_repeated(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """UNAVAILABLE with a time to come back, at no cost, after each model was tried once."""
    await inject_faults(sandbox, {"do": "error", "on": "create", "status": 500})
    async with open_server(sandbox.url, **BRISK) as (stubs, _):
        error = await rpc_error(generate(stubs, "text"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(error) == "UPSTREAM_UNAVAILABLE"
    assert retry_after(error)
    assert not (await get_bill(sandbox))["entries"]


async def test_without_a_fallback_the_create_is_retried(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Two creates of three never arrive; of four none is sent after the third."""
    fault = {"do": "error", "on": "create", "status": 503}
    alone = text_request(prompt="Hello", fallback=Policy(mode=Policy.MODE_NONE))
    await inject_faults(sandbox, {**fault, "times": 2})
    async with open_server(sandbox.url, **BRISK) as (stubs, _):
        done = (await stubs.text.GenerateText(alone)).generation
        assert [attempt.state for attempt in done.attempts] == [
            Tried.STATE_ABSENT,
            Tried.STATE_ABSENT,
            Tried.STATE_SUCCEEDED,
        ]
        assert len({attempt.model for attempt in done.attempts}) == 1
        await inject_faults(sandbox, {**fault, "times": 4})
        error = await rpc_error(stubs.text.GenerateText(alone))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert len((await get_bill(sandbox))["entries"]) == 1


@pytest.mark.parametrize("lag", [0, 700, 4_500])
async def test_a_create_reported_failed_but_made_is_settled_once_or_alarmed(
    sandbox: Sandbox, open_server: OpenServer, lag: int
) -> None:
    """What the list shows in time is adopted; later it is stopped, settled and counted.

    Each is in the cost of its generation, which is the bill. Times are a twentieth of the real.
    """
    await inject_faults(
        sandbox,
        {"do": "accept_late", "on": "create", "ms": 50, "times": 1},
        {"do": "list_late", "on": "create", "ms": lag, "times": 1},
    )
    before = metrics.attempts_late._value.get()
    margin = {**BRISK, "api_error_margin": 1.0, "sweep_seconds": 0.2}
    async with open_server(sandbox.url, **margin) as (stubs, _):
        request = text_request(prompt="[[run_ms=50]] Hello", model="openai/gpt-4o")
        done = (await stubs.text.GenerateText(request)).generation
        assert done.state == State.STATE_SUCCEEDED
        overruns = lag > 2_000
        billed = await get_bill(sandbox)
        assert len(billed["entries"]) == 1 + overruns
        if overruns:
            done = await wait_until(
                stubs.generations, done.id, lambda it: bool(it.attempts[0].prediction_id)
            )
        assert metrics.attempts_late._value.get() - before == overruns
        prediction_ids = [attempt.prediction_id for attempt in done.attempts]
        assert sorted(prediction_ids) == sorted(entry["id"] for entry in billed["entries"])
        assert done.cost.usd_nanos == (await get_bill(sandbox))["total_nanos"]
