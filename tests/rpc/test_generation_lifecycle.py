"""Generations from end to end against the sandbox: bound once, followed, found again."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import (
    generation_pb2,
    generations_pb2,
    medium_pb2,
    models_pb2,
    options_pb2,
    text_pb2,
)
from mediagate_sandbox.server import Sandbox
from mediagate_server.app import Server
from mediagate_server.config import Configuration, Settings
from tests.builders import (
    audio_request,
    image_request,
    stream_text_request,
    text_request,
    video_request,
)
from tests.grpc_errors import fields_of, reason_of, retry_after, rpc_error

from .generation_waits import get_generation, read_stream, wait_for_end
from .stubs import OpenServer, Stubs

State = generation_pb2.Generation
Options = options_pb2.GenerationOptions


def joined(events: list[text_pb2.StreamTextResponse]) -> str:
    """The text in them."""
    return "".join(event.delta.text for event in events)


def kinds(events: list[text_pb2.StreamTextResponse]) -> list[str]:
    """What kinds of events, in order, repeats left out."""
    names = [str(event.WhichOneof("event")) for event in events]
    return [name for n, name in enumerate(names) if n == 0 or names[n - 1] != name]


async def test_tokens_are_streamed_as_they_are_generated(sandbox_stubs: Stubs) -> None:
    """20 tokens apart from each other upstream are 20 deltas here, then usage and cost."""
    events = await read_stream(
        sandbox_stubs.text.StreamText(
            stream_text_request(prompt="[[tokens=20 interval_ms=100]] Hello")
        )
    )
    assert kinds(events) == ["started", "status", "delta", "completed"]
    assert sum(event.WhichOneof("event") == "delta" for event in events) == 20
    sequences = [event.sequence for event in events if event.delta.text]
    assert sequences == sorted(set(sequences))
    assert sequences[-1] == len(joined(events).encode())
    last = events[-1].completed
    assert last.usage.output_tokens == 20
    assert last.cost.usd_nanos == last.usage.input_tokens * 650 + 20 * 2750


async def test_a_repeat_attaches_and_never_runs_twice(
    sandbox_stubs: Stubs, sandbox: Sandbox
) -> None:
    """While it runs and after it: the same generation, replayed, from any sequence."""
    request = stream_text_request(
        prompt="[[tokens=30 interval_ms=50]] Hello", request_id=str(uuid4())
    )
    first, second = await asyncio.gather(
        read_stream(sandbox_stubs.text.StreamText(request)),
        read_stream(sandbox_stubs.text.StreamText(request)),
    )
    assert joined(first) == joined(second)
    middle = first[len(first) // 2].sequence
    request.after_sequence = middle
    rest = await read_stream(sandbox_stubs.text.StreamText(request))
    assert rest[0].started.replayed
    assert joined(rest).encode() == joined(first).encode()[middle:]
    assert len({events[0].started.generation_id for events in (first, second, rest)}) == 1


async def test_another_request_under_the_same_id_is_refused(sandbox_stubs: Stubs) -> None:
    """Another body or another method: ALREADY_EXISTS. What may differ between repeats may."""
    name = str(uuid4())
    await sandbox_stubs.text.GenerateText(text_request(prompt="a", request_id=name))
    again = await sandbox_stubs.text.GenerateText(
        text_request(prompt="a", request_id=name, timeout=Duration(seconds=77))
    )
    assert again.replayed
    for other in (
        sandbox_stubs.text.GenerateText(text_request(prompt="b", request_id=name)),
        sandbox_stubs.image.GenerateImage(image_request(prompt="a", request_id=name)),
    ):
        error = await rpc_error(other)
        assert error.code() is grpc.StatusCode.ALREADY_EXISTS
        assert reason_of(error) == "REQUEST_ID_REUSED"
        assert fields_of(error) == {"request_id"}


async def test_all_four_kinds_of_media(sandbox_stubs: Stubs) -> None:
    """Each ends with its output, what it used and what it cost."""
    text = await sandbox_stubs.text.GenerateText(text_request(prompt="Hello"))
    assert "sandbox" in text.generation.text.text
    image = await sandbox_stubs.image.GenerateImage(
        image_request(prompt="A cat", size=medium_pb2.Size(width=640, height=384), model="sdxl")
    )
    assert image.generation.images.images[0].media_type == "image/png"
    assert image.generation.HasField("seed")
    audio = await sandbox_stubs.audio.GenerateAudio(
        audio_request(prompt="A song", duration=Duration(seconds=3))
    )
    assert audio.generation.audio.audio.uri.startswith("http://127.0.0.1:")
    video = await sandbox_stubs.video.GenerateVideo(video_request(prompt="A dog"))
    assert video.generation.state < State.STATE_SUCCEEDED
    generation = await wait_for_end(sandbox_stubs, video.generation.id)
    assert generation.state == State.STATE_SUCCEEDED
    assert generation.cost.usd_nanos == 500_000_000
    for response in (text, image, audio):
        assert response.generation.state == State.STATE_SUCCEEDED


async def test_watching_reports_every_state_to_the_end(sandbox_stubs: Stubs) -> None:
    """Versions grow, states only move on, and the watch ends by itself."""
    video = await sandbox_stubs.video.GenerateVideo(video_request(prompt="A dog"))
    seen = [
        change
        async for change in sandbox_stubs.generations.WatchGeneration(
            generations_pb2.WatchGenerationRequest(id=video.generation.id)
        )
    ]
    assert [c.sequence for c in seen] == sorted({c.sequence for c in seen})
    states = [c.generation.state for c in seen]
    assert states == sorted(states)
    assert states[-1] == State.STATE_SUCCEEDED


async def test_cancellation_is_settled_by_the_terminal_prediction(sandbox_stubs: Stubs) -> None:
    """Asked for by anybody: CANCELLED once upstream confirmed it; the stream says so too."""
    call = sandbox_stubs.text.StreamText(
        stream_text_request(prompt="[[tokens=500 interval_ms=200]] Hello")
    )
    started = None
    async for event in call:
        if event.WhichOneof("event") == "started":
            started = event.started
        if event.delta.text:
            break
    assert started is not None
    await sandbox_stubs.generations.CancelGeneration(
        generations_pb2.CancelGenerationRequest(id=started.generation_id)
    )
    error = await rpc_error(read_stream(call))
    assert error.code() is grpc.StatusCode.CANCELLED
    generation = await get_generation(sandbox_stubs, started.generation_id)
    assert generation.state == State.STATE_CANCELLED
    assert generation.cost.state in (1, 2, 3)
    assert generation.text.text


async def test_an_unknown_id_is_not_found(sandbox_stubs: Stubs) -> None:
    """An unknown id is NOT_FOUND in every rpc that takes one."""
    rpcs = sandbox_stubs.generations
    calls: list[Any] = [
        rpcs.GetGeneration(generations_pb2.GetGenerationRequest(id="gen_none")),
        rpcs.WaitGeneration(generations_pb2.WaitGenerationRequest(id="gen_none")),
        rpcs.CancelGeneration(generations_pb2.CancelGenerationRequest(id="gen_none")),
        rpcs.WatchGeneration(generations_pb2.WatchGenerationRequest(id="gen_none")).read(),
    ]
    for call in calls:
        error = await rpc_error(call)
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert reason_of(error) == "GENERATION_NOT_FOUND"


async def test_listing_pages_and_filters(sandbox_stubs: Stubs) -> None:
    """Newest first, each once, by label; a token of another filter is refused."""
    for number in range(5):
        await sandbox_stubs.text.GenerateText(
            text_request(prompt="a", labels={"n": str(number % 2)})
        )
    even = generations_pb2.GenerationFilter(labels={"n": "0"})
    seen: list[str] = []
    token = ""
    while True:
        page = await sandbox_stubs.generations.ListGenerations(
            generations_pb2.ListGenerationsRequest(filter=even, page_size=2, page_token=token)
        )
        seen += [g.id for g in page.generations]
        token = page.next_page_token
        if not token:
            break
        error = await rpc_error(
            sandbox_stubs.generations.ListGenerations(
                generations_pb2.ListGenerationsRequest(page_size=2, page_token=token)
            )
        )
        assert fields_of(error) == {"page_token"}
    assert len(seen) == len(set(seen)) == 3


async def test_validate_only_spends_nothing(sandbox_stubs: Stubs) -> None:
    """A plan with its cost and its parameter report, and nothing is stored."""
    answer = await sandbox_stubs.image.GenerateImage(
        image_request(prompt="x", steps=999, validate_only=True, model="flux-dev")
    )
    assert not answer.HasField("generation")
    assert answer.plan.model == "black-forest-labs/flux-dev"
    assert answer.plan.cost.expected_usd_nanos == 25_000_000
    assert answer.plan.fallback_models
    assert answer.plan.cost.maximum_usd_nanos > 25_000_000
    assert {p.parameter for p in answer.plan.parameters} >= {"prompt", "steps"}
    listed = await sandbox_stubs.generations.ListGenerations(
        generations_pb2.ListGenerationsRequest()
    )
    assert not listed.generations


async def test_the_catalog_is_listed(sandbox_stubs: Stubs) -> None:
    """At least two models of each kind, with prices; aliases work."""
    listed = await sandbox_stubs.models.ListModels(models_pb2.ListModelsRequest(page_size=1_000))
    for modality in range(1, 5):
        assert sum(model.modality == modality for model in listed.models) >= 2
    response = await sandbox_stubs.models.GetModel(models_pb2.GetModelRequest(model="claude"))
    assert response.model.slug.startswith("anthropic/")
    assert response.model.price.tiers
    error = await rpc_error(sandbox_stubs.models.GetModel(models_pb2.GetModelRequest(model="none")))
    assert reason_of(error) == "MODEL_NOT_FOUND"


async def test_an_unavailable_upstream_costs_nothing_and_frees_the_request_id(
    open_server: OpenServer,
) -> None:
    """UNAVAILABLE with RetryInfo; the same request_id may be sent again, and is not a replay."""
    async with open_server("http://127.0.0.1:9") as (stubs, _):
        request = text_request(prompt="a", request_id=str(uuid4()))
        for _ in range(2):
            error = await rpc_error(stubs.text.GenerateText(request))
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert reason_of(error) == "UPSTREAM_UNAVAILABLE"
            assert retry_after(error)
        listed = await stubs.generations.ListGenerations(generations_pb2.ListGenerationsRequest())
        assert [g.cost.usd_nanos for g in listed.generations] == [0, 0]


async def test_a_restart_resumes_running_predictions(
    open_server: OpenServer, sandbox: Sandbox
) -> None:
    """Draining cancels nothing: the next process finds the prediction and settles it."""
    async with open_server(sandbox.url) as (stubs, _):
        request = text_request(
            prompt="[[tokens=20 interval_ms=100]] Hello", request_id=str(uuid4()), wait=Duration()
        )
        begun = await stubs.text.GenerateText(request)
        watch = stubs.generations.WatchGeneration(
            generations_pb2.WatchGenerationRequest(id=begun.generation.id)
        )
        async for change in watch:
            if change.generation.state >= State.STATE_STARTING:
                break
    async with open_server(sandbox.url) as (stubs, _):
        request.ClearField("wait")
        done = await stubs.text.GenerateText(request)
        assert done.replayed
        assert done.generation.id == begun.generation.id
        assert done.generation.state == State.STATE_SUCCEEDED
        assert len(done.generation.attempts) == 1
        assert done.generation.usage.output_tokens == 20


async def test_the_timeout_ends_a_run(sandbox_stubs: Stubs) -> None:
    """Below what Replicate can be held to: refused. Over: DEADLINE, and upstream is cancelled."""
    error = await rpc_error(
        sandbox_stubs.text.GenerateText(text_request(prompt="a", timeout=Duration(seconds=4)))
    )
    assert error.code() in {
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
    }
    answer = await sandbox_stubs.text.GenerateText(
        text_request(prompt="[[hang]] a", timeout=Duration(seconds=5))
    )
    assert answer.generation.state == State.STATE_FAILED
    assert answer.generation.error.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]


async def test_the_embedded_sandbox_is_marked_in_responses(tmp_path: Path) -> None:
    """With no token and no upstream named, everything works, and every answer says whence."""
    settings = Settings(
        grpc_address="127.0.0.1:0",
        ops_address="127.0.0.1:0",
        web_address="127.0.0.1:0",
        data_dir=tmp_path,
        upstream="sandbox",
    )
    async with (
        Server(Configuration(settings)) as server,
        grpc.aio.insecure_channel(server.grpc_address) as channel,
    ):
        answer = await Stubs.on(channel).text.GenerateText(text_request(prompt="[[tokens=3]] a"))
        assert answer.generation.sandbox
        assert "sandbox" in server.upstream
