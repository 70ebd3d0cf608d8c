"""A prediction that upstream no longer knows is lost, at an unknown cost, and never free."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from aiohttp import web
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import cost_pb2, generation_pb2, generations_pb2, options_pb2
from mediagate_sandbox.files import render_file
from mediagate_sandbox.generators.spec import ImageRecipe
from tests.builders import image_request, stream_text_request, text_request
from tests.grpc_errors import status_of
from tests.media.file_server import file

from .fake_clocks import AcceleratedClock
from .generation_waits import wait_for_end
from .scripted_upstream import ID, Answer, ScriptedUpstream, prediction, says, streams, token
from .stubs import OpenServer, Stubs

State, Tried = generation_pb2.Generation, generation_pb2.Attempt
METRICS = {"input_token_count": 12, "output_token_count": 34, "predict_time": 1.25}
COST = 12 * 650 + 34 * 2750


def done(**more: Any) -> dict[str, Any]:
    """The prediction at its end."""
    return {"id": ID, "status": "succeeded", "output": ["a", "b"], "metrics": METRICS, **more}


def running(**more: Any) -> dict[str, Any]:
    """The prediction before it."""
    return {"id": ID, "status": "processing", "created_at": now(), **more}


def now() -> str:
    """As Replicate writes it."""
    return datetime.now(UTC).isoformat()


def gone(status: int = 404) -> Answer:
    """It is not there."""
    return says({"detail": "The requested resource could not be found."}, status)


async def said(stubs: Stubs) -> generation_pb2.Generation:
    """A text, whole, whatever becomes of it."""
    return (await stubs.text.GenerateText(text_request(prompt="x"))).generation


def check_lost(generation: generation_pb2.Generation) -> None:
    """It says so, and claims to know neither how it ended nor what it cost."""
    assert generation.state == State.STATE_FAILED
    assert "OUTPUT_LOST" in str(generation.error)
    assert "the run is lost" in generation.error.message
    assert generation.cost.state == cost_pb2.COST_STATE_UNKNOWN
    assert not generation.cost.HasField("usd_nanos")
    (attempt,) = generation.attempts
    assert attempt.cost.state == cost_pb2.COST_STATE_UNKNOWN


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("listed", [None, [], [{"id": "another", "status": "succeeded"}]])
async def test_a_prediction_that_vanishes_while_polled_is_lost(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer, status: int, listed: Any
) -> None:
    """By its id and in the list: lost, once, and nothing is sent again."""
    scripted_upstream.creates = [says(running(), 201)]
    scripted_upstream.gets = [says(running()), gone(status)]
    scripted_upstream.listed = listed
    async with open_server(scripted_upstream.url, clock=AcceleratedClock()) as (stubs, _):
        check_lost(await said(stubs))
    assert len(scripted_upstream.posted) == 1


@pytest.mark.parametrize("status", [404, 410])
async def test_a_prediction_that_is_temporarily_not_found(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer, status: int
) -> None:
    """It comes back, more than once, and is as any other."""
    scripted_upstream.creates = [says(running(), 201)]
    scripted_upstream.gets = [
        gone(status),
        says(running()),
        gone(status),
        gone(status),
        says(done()),
    ]
    async with open_server(scripted_upstream.url) as (stubs, _):
        generation = await said(stubs)
    assert (generation.state, generation.text.text) == (State.STATE_SUCCEEDED, "ab")
    assert (generation.cost.state, generation.cost.usd_nanos) == (cost_pb2.COST_STATE_SETTLED, COST)


@pytest.mark.parametrize("end", [done(), done(status="failed", output=None, error="no")])
async def test_a_vanished_prediction_is_settled_from_the_list(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer, end: dict[str, Any]
) -> None:
    """Settled by that, whatever its end was."""
    scripted_upstream.creates = [says(running(), 201)]
    scripted_upstream.gets = [gone()]
    scripted_upstream.listed = [
        {"id": "another", "status": "succeeded"},
        {**end, "created_at": now()},
    ]
    async with open_server(scripted_upstream.url, clock=AcceleratedClock()) as (stubs, _):
        generation = await said(stubs)
    first = generation.attempts[0]  # Another model may have taken over.
    succeeded = end["status"] == "succeeded"
    expected = Tried.STATE_SUCCEEDED if succeeded else Tried.STATE_FAILED
    assert (first.state, first.cost.state) == (expected, cost_pb2.COST_STATE_SETTLED)
    assert first.cost.usd_nanos == COST


async def test_a_vanished_prediction_listed_as_running_is_followed(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer
) -> None:
    """Only what asks by its id does not see it."""
    scripted_upstream.creates = [says(running(), 201)]
    scripted_upstream.listed = [running()]

    async def ends_later(request: web.Request) -> web.StreamResponse:
        if scripted_upstream.get_count == 30:
            scripted_upstream.listed = [done(created_at=now())]
        return await gone()(request)

    scripted_upstream.gets = [ends_later]
    async with open_server(scripted_upstream.url, clock=AcceleratedClock()) as (stubs, _):
        generation = await said(stubs)
    assert scripted_upstream.get_count >= 30
    assert (generation.state, generation.cost.usd_nanos) == (State.STATE_SUCCEEDED, COST)


async def test_an_end_listed_after_the_timeout_is_settled(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer
) -> None:
    """It was paid, and what it made is there: late is not lost."""
    scripted_upstream.creates, scripted_upstream.gets, scripted_upstream.listed = (
        [says(running(), 201)],
        [gone()],
        [running()],
    )

    async def cancel(request: web.Request) -> web.StreamResponse:
        scripted_upstream.listed = [done(created_at=now())]
        return await says({})(request)

    scripted_upstream.on_cancel = cancel
    request = text_request(
        prompt="x",
        timeout=Duration(seconds=25),
        fallback=options_pb2.FallbackPolicy(mode=options_pb2.FallbackPolicy.MODE_NONE),
    )
    async with open_server(scripted_upstream.url, clock=AcceleratedClock()) as (stubs, _):
        generation = (await stubs.text.GenerateText(request)).generation
    (attempt,) = generation.attempts
    assert attempt.state == Tried.STATE_SUCCEEDED
    assert (generation.cost.state, generation.cost.usd_nanos) == (cost_pb2.COST_STATE_SETTLED, COST)


async def test_one_of_several_predictions_may_vanish(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer
) -> None:
    """The others are kept; what they cost is known, and the whole is not."""
    picture = render_file(ImageRecipe("a/b", "x", 1, 64, 64, "png"))
    link = scripted_upstream.files.put("/a.png", file(picture, "image/png"))
    metrics = {"image_output_count": 1, "predict_time": 1.0}
    end = says({"id": ID, "status": "succeeded", "output": [link], "metrics": metrics}, 201)
    scripted_upstream.creates, scripted_upstream.gets = [end, says(running(), 201), end], [gone()]
    request = image_request(prompt="x", count=3, model="flux-pro")
    async with open_server(scripted_upstream.url, clock=AcceleratedClock()) as (stubs, _):
        generation = (await stubs.image.GenerateImage(request)).generation
    assert generation.state == State.STATE_SUCCEEDED
    assert generation.HasField("partial")
    errors = [image.error.message for image in generation.images.images]
    assert sum("the run is lost" in message for message in errors) == 1
    assert errors.count("") == 2
    assert generation.cost.state == cost_pb2.COST_STATE_UNKNOWN
    states = sorted(attempt.cost.state for attempt in generation.attempts)
    assert states == [cost_pb2.COST_STATE_SETTLED] * 2 + [cost_pb2.COST_STATE_UNKNOWN]
    assert len(scripted_upstream.posted) == 3


@pytest.mark.parametrize("seen", ["", "Hel"])
async def test_a_prediction_that_vanishes_while_streamed(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer, seen: str
) -> None:
    """By its stream, too: what was told of it stays, and the end says that it is lost."""
    scripted_upstream.creates = [says(prediction(scripted_upstream, "starting"), 201)]
    scripted_upstream.gets = [gone()]
    scripted_upstream.streams = [streams(token(seen, 0)), gone()] if seen else [gone()]
    request = stream_text_request(prompt="x")
    streamed, generation_id, error = "", "", None
    async with open_server(scripted_upstream.url, clock=AcceleratedClock()) as (stubs, _):
        try:
            async for event in stubs.text.StreamText(request):
                streamed += event.delta.text
                generation_id = generation_id or event.started.generation_id
        except grpc.aio.AioRpcError as failed:
            error = failed
        generation = await wait_for_end(stubs, generation_id)
    if error is not None:
        assert "OUTPUT_LOST" in str(status_of(error))
    assert streamed == seen
    check_lost(generation)


async def test_a_prediction_that_vanished_during_downtime(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer
) -> None:
    """Found out at recovery."""
    polled = asyncio.Event()

    async def runs(request: web.Request) -> web.StreamResponse:
        polled.set()
        return await says(running())(request)

    scripted_upstream.creates, scripted_upstream.gets = [says(running(), 201)], [runs]
    request = text_request(prompt="x", on_disconnect=options_pb2.ON_DISCONNECT_DETACH)
    request.wait.FromSeconds(0)
    async with open_server(scripted_upstream.url) as (stubs, _):
        begun = (await stubs.text.GenerateText(request)).generation
        await polled.wait()
    scripted_upstream.gets = [gone()]
    async with open_server(scripted_upstream.url, clock=AcceleratedClock()) as (stubs, _):
        check_lost(await wait_for_end(stubs, begun.id))
    assert len(scripted_upstream.posted) == 1


async def test_a_prediction_that_vanishes_when_cancelled(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer
) -> None:
    """A cancel that is answered 404 is no proof of anything."""
    scripted_upstream.creates, scripted_upstream.gets = [says(running(), 201)], [says(running())]

    async def vanishes(request: web.Request) -> web.StreamResponse:
        scripted_upstream.gets = [gone()]
        return await gone()(request)

    scripted_upstream.on_cancel = vanishes
    request = image_request(prompt="x")
    request.wait.FromSeconds(0)
    async with open_server(scripted_upstream.url, clock=AcceleratedClock()) as (stubs, _):
        begun = (await stubs.image.GenerateImage(request)).generation
        await stubs.generations.CancelGeneration(
            generations_pb2.CancelGenerationRequest(id=begun.id)
        )
        check_lost(await wait_for_end(stubs, begun.id))
