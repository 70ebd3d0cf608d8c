"""Where a model fails another one takes over; never in doubt, never after a refusal of content."""

from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import audio_pb2, generation_pb2, generations_pb2, medium_pb2, options_pb2
from mediagate_sandbox.server import Sandbox
from tests.builders import (
    audio_request,
    image_request,
    stream_text_request,
    text_request,
    video_request,
)
from tests.grpc_errors import reason_of, rpc_error

from .generation_waits import QUICK, get_bill, inject_faults
from .stubs import OpenServer, Stubs

State = generation_pb2.Generation
Tried = generation_pb2.Attempt
Options = options_pb2.GenerationOptions
Policy = options_pb2.FallbackPolicy

CHAINS = {
    "text": ("llama-405b", "llama-70b", "mistral-large"),
    "image": ("flux-pro", "flux-dev", "sdxl", "playground-v2.5"),
    "video": ("minimax-video", "luma-dream", "runway-gen3", "stable-video"),
    "audio": ("suno", "musicgen", "audiocraft"),
}


async def generate(stubs: Stubs, kind: str, **options: Any) -> generation_pb2.Generation:
    """Something of a kind, at its end."""
    request_options = Options(timeout=Duration(seconds=1_800), **options)
    answer: Any
    if kind == "text":
        answer = await stubs.text.GenerateText(
            text_request(prompt="[[tokens=5]] Hello", options=request_options)
        )
    elif kind == "image":
        answer = await stubs.image.GenerateImage(
            image_request(prompt="A cat", options=request_options)
        )
    elif kind == "video":
        # With a picture to begin with: two models of the chain make no film without one.
        picture = medium_pb2.MediaInput(uri="https://example.com/dog.png")
        answer = await stubs.video.GenerateVideo(
            video_request(
                prompt="A dog",
                first_frame=picture,
                options=request_options,
                wait=Duration(seconds=60),
            )
        )
    else:
        answer = await stubs.audio.GenerateAudio(
            audio_request(prompt="A song", kind=audio_pb2.AUDIO_KIND_MUSIC, options=request_options)
        )
    generation: generation_pb2.Generation = answer.generation
    return generation


def failing(models: list[str]) -> list[dict[str, Any]]:
    """Runs of these models fail."""
    return [{"do": "fail", "model": model, "error": "E1001: out of memory"} for model in models]


@pytest.mark.parametrize("kind", CHAINS)
async def test_fallback_models_are_tried_in_order(
    sandbox: Sandbox, open_server: OpenServer, kind: str
) -> None:
    """However many fail before it: its attempts say so, and all that was billed is in the cost."""
    async with open_server(sandbox.url) as (stubs, _):
        first = await generate(stubs, kind, model=CHAINS[kind][0])
        failed: list[str] = []
        while True:
            failed.append(first.attempts[-1].model)
            before = {entry["id"] for entry in (await get_bill(sandbox))["entries"]}
            await inject_faults(sandbox, *failing(failed))
            first = await generate(stubs, kind, model=CHAINS[kind][0])
            new = [
                entry for entry in (await get_bill(sandbox))["entries"] if entry["id"] not in before
            ]
            assert [attempt.prediction_id for attempt in first.attempts] == [
                entry["id"] for entry in new
            ]
            if first.state != State.STATE_SUCCEEDED:
                break
            assert first.model == first.attempts[-1].model
            assert [attempt.model for attempt in first.attempts[:-1]] == failed
            assert {attempt.state for attempt in first.attempts[:-1]} == {Tried.STATE_FAILED}
            for attempt, entry in zip(first.attempts, new, strict=True):
                if entry["nanos"] is not None:  # else the bill has no price for that model
                    assert attempt.cost.usd_nanos == entry["nanos"]
            if all(attempt.cost.HasField("usd_nanos") for attempt in first.attempts):
                assert first.cost.usd_nanos == sum(
                    attempt.cost.usd_nanos for attempt in first.attempts
                )
            else:
                assert not first.cost.HasField("usd_nanos")
    assert len(failed) >= len(CHAINS[kind])
    assert first.state == State.STATE_FAILED


async def test_the_requests_own_fallback_list_is_used(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """The request's own list, and a request that wants nobody else."""
    await inject_faults(sandbox, *failing(["black-forest-labs/*"]))
    listed = Policy(mode=Policy.MODE_LIST, models=["flux-dev", "sdxl"])
    async with open_server(sandbox.url) as (stubs, _):
        done = await generate(stubs, "image", model="flux-pro", fallback=listed)
        alone = await generate(
            stubs, "image", model="flux-pro", fallback=Policy(mode=Policy.MODE_NONE)
        )
    assert done.state == State.STATE_SUCCEEDED
    assert [attempt.model for attempt in done.attempts][1:] == [
        "black-forest-labs/flux-dev",
        "stability-ai/sdxl",
    ]
    assert alone.state == State.STATE_FAILED
    assert len(alone.attempts) == 1


async def test_fallback_can_be_disabled_by_the_operator(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Then only a request that asks for it is carried over."""
    await inject_faults(sandbox, *failing(["black-forest-labs/flux-dev"]))
    async with open_server(sandbox.url, use_fallback=False) as (stubs, _):
        alone = await generate(stubs, "image", model="flux-dev")
        generation = await generate(
            stubs, "image", model="flux-dev", fallback=Policy(mode=Policy.MODE_CATALOG)
        )
    assert alone.state == State.STATE_FAILED
    assert generation.state == State.STATE_SUCCEEDED


async def test_there_is_no_fallback_while_a_create_is_unconfirmed(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """The answer is lost and the list is away: one create, and it stays in doubt."""
    await inject_faults(
        sandbox,
        {"do": "lose_answer", "on": "create"},
        {"do": "error", "on": "list", "status": 500, "at": "request"},
    )
    async with open_server(sandbox.url, **QUICK) as (stubs, _):
        answer = await stubs.image.GenerateImage(
            image_request(prompt="A cat", model="flux-pro", timeout=Duration(seconds=5))
        )
    assert answer.generation.state == State.STATE_UNCONFIRMED
    assert len((await get_bill(sandbox))["entries"]) == 1


async def test_a_content_refusal_ends_the_call(sandbox: Sandbox, open_server: OpenServer) -> None:
    """CONTENT_BLOCKED, and nobody else is asked, unless the request lists models and says so."""
    refusing = {"do": "fail", "model": "black-forest-labs/*"}
    await inject_faults(
        sandbox, {**refusing, "error": "The input was flagged as sensitive. (E005)"}
    )
    insists = Policy(mode=Policy.MODE_LIST, models=["sdxl"], after_content_refusal=True)
    async with open_server(sandbox.url) as (stubs, _):
        ended = await generate(stubs, "image", model="flux-pro")
        carried = await generate(stubs, "image", model="flux-pro", fallback=insists)
    assert ended.state == State.STATE_FAILED
    assert "CONTENT_BLOCKED" in str(ended.error)
    assert len(ended.attempts) == 1
    assert carried.state == State.STATE_SUCCEEDED
    assert carried.model == "stability-ai/sdxl"


async def test_there_is_no_fallback_after_text_was_streamed(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Two models' words must not stand in one stream."""
    async with open_server(sandbox.url) as (stubs, _):
        call = stubs.text.StreamText(
            stream_text_request(
                prompt="[[fail_after=3 tokens=9 interval_ms=20]] Hello", model="llama-405b"
            )
        )
        assert reason_of(await rpc_error(call)) == "RUN_FAILED"
    assert len((await get_bill(sandbox))["entries"]) == 1


async def test_fallback_continues_after_a_restart(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """The next server knows who takes over: it was kept with the call."""
    request = image_request(
        prompt="[[run_ms=1500]] A cat", request_id=str(uuid4()), wait=Duration(), model="flux-dev"
    )
    await inject_faults(sandbox, *failing(["black-forest-labs/flux-dev"]))
    async with open_server(sandbox.url) as (stubs, _):
        begun = await stubs.image.GenerateImage(request)
        watch = stubs.generations.WatchGeneration(
            generations_pb2.WatchGenerationRequest(id=begun.generation.id)
        )
        async for change in watch:
            if change.generation.attempts[0].prediction_id:
                break
    request.ClearField("wait")
    async with open_server(sandbox.url) as (stubs, _):
        done = (await stubs.image.GenerateImage(request)).generation
    assert done.state == State.STATE_SUCCEEDED
    assert len(done.attempts) == 2
    assert done.cost.usd_nanos == (await get_bill(sandbox))["total_nanos"]
