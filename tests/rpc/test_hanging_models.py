"""A model that hangs is cancelled and settled for the next of its chain, never both paid."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import cost_pb2, generation_pb2, image_pb2, options_pb2, text_pb2
from tests.builders import image_request, stream_text_request
from tests.grpc_errors import reason_of, rpc_error

from .fake_clocks import AcceleratedClock
from .scripted_upstream import (
    ID,
    Answer,
    ScriptedUpstream,
    hangs_up,
    prediction,
    says,
    stays_open,
    token,
)
from .stubs import OpenServer, Stubs

State = generation_pb2.Generation
Tried = generation_pb2.Attempt
RUNS = {"id": ID, "status": "processing"}
SUCCEEDED = {"id": ID, "status": "succeeded", "output": ["data:image/png;base64,iVBORw0KGgo="]}
LINKS = ("black-forest-labs/flux-schnell", "prunaai/p-image")


@pytest.fixture
async def hurried(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer
) -> AsyncIterator[Stubs]:
    """A server whose minutes are seconds."""
    async with open_server(scripted_upstream.url, clock=AcceleratedClock()) as (stubs, _):
        yield stubs


def picture(*links: str, seconds: int = 60) -> image_pb2.GenerateImageRequest:
    """A picture by these models, one after the other."""
    return image_request(
        prompt="a lighthouse",
        model=links[0],
        timeout=Duration(seconds=seconds),
        fallback=options_pb2.FallbackPolicy(
            mode=options_pb2.FallbackPolicy.MODE_LIST, models=list(links[1:])
        )
        if links[1:]
        else options_pb2.FallbackPolicy(mode=options_pb2.FallbackPolicy.MODE_NONE),
    )


async def read_into(events: list[Any], call: Any) -> None:
    """All events of a stream, as they come."""
    async for event in call:
        events.append(event)  # noqa: PERF401 - what came before a failure counts


def ends_as(scripted: ScriptedUpstream, status: str, **fields: Any) -> None:
    """What runs goes on until it is cancelled, and ends so."""
    scripted.gets = [says(RUNS)]

    async def cancel(request: Any) -> Any:
        scripted.gets = [says({"id": ID, "status": status, **fields})]
        scripted.cancelled.set()
        return await says({})(request)

    scripted.on_cancel = cancel


def only_after_the_end(scripted: ScriptedUpstream, answer: Answer) -> Answer:
    """A create that must not come while the one before it runs."""

    async def create(request: Any) -> Any:
        assert scripted.cancelled.is_set()
        return await answer(request)

    return create


@pytest.mark.parametrize("status", ["canceled", "aborted"])
async def test_a_hanging_model_is_replaced_in_time(
    scripted_upstream: ScriptedUpstream, hurried: Stubs, status: str
) -> None:
    """The one that hangs is cancelled after its share, and settled before the next is sent."""
    ends_as(scripted_upstream, status, metrics={"image_count": 1})
    scripted_upstream.creates = [
        says(RUNS, 201),
        only_after_the_end(scripted_upstream, says(SUCCEEDED, 201)),
    ]
    generation = (await hurried.image.GenerateImage(picture(*LINKS))).generation
    assert generation.state == State.STATE_SUCCEEDED
    first, second = generation.attempts
    assert (first.model, second.model, generation.model) == (*LINKS, LINKS[1])
    assert first.state == getattr(
        Tried, "STATE_CANCELLED" if status == "canceled" else "STATE_ABORTED"
    )
    assert first.reason == "out of time"
    assert first.cost.state != cost_pb2.COST_STATE_ESTIMATED
    took = first.complete_time.ToDatetime() - first.create_time.ToDatetime()
    assert 5 <= took.total_seconds() < 55
    assert len(scripted_upstream.posted) == 2


async def test_every_model_of_the_chain_hangs(
    scripted_upstream: ScriptedUpstream, hurried: Stubs
) -> None:
    """Each has its time, the last one the rest; the end is the timeout's own."""
    links = (*LINKS, "black-forest-labs/flux-dev")

    async def create(request: Any) -> Any:
        ends_as(scripted_upstream, "canceled", metrics={})
        return await says(RUNS, 201)(request)

    scripted_upstream.creates = [create]
    generation = (await hurried.image.GenerateImage(picture(*links))).generation
    assert generation.state == State.STATE_FAILED
    assert [attempt.model for attempt in generation.attempts] == list(links)
    assert {attempt.state for attempt in generation.attempts} == {Tried.STATE_CANCELLED}
    assert generation.error.message == "the timeout was over before the end"


async def test_a_single_model_gets_the_whole_timeout(
    scripted_upstream: ScriptedUpstream, hurried: Stubs
) -> None:
    """Nobody takes over, so nothing is cut."""
    ends_as(scripted_upstream, "canceled", metrics={})
    scripted_upstream.creates = [says(RUNS, 201)]
    generation = (await hurried.image.GenerateImage(picture(LINKS[0], seconds=20))).generation
    assert generation.state == State.STATE_FAILED
    took = generation.complete_time.ToDatetime() - generation.create_time.ToDatetime()
    assert took.total_seconds() >= 20
    assert len(generation.attempts) == 1


async def test_a_success_during_cancellation_is_kept(
    scripted_upstream: ScriptedUpstream, hurried: Stubs
) -> None:
    """It is paid: no second model is."""
    ends_as(scripted_upstream, "succeeded", output=SUCCEEDED["output"], metrics={"image_count": 1})
    scripted_upstream.creates = [says(RUNS, 201)]
    generation = (await hurried.image.GenerateImage(picture(*LINKS))).generation
    assert generation.state == State.STATE_SUCCEEDED
    assert (generation.model, len(scripted_upstream.posted)) == (LINKS[0], 1)


async def test_a_started_text_is_not_cancelled(
    scripted_upstream: ScriptedUpstream, hurried: Stubs
) -> None:
    """Nobody could go on with what its caller has: it may use the whole timeout."""
    scripted_upstream.creates = [says(prediction(scripted_upstream, "starting"), 201)]
    scripted_upstream.streams = [stays_open(token("Once", 0), until=asyncio.Event())]
    ends_as(scripted_upstream, "canceled", output=["Once"], metrics={})
    request = stream_text_request(prompt="Hello", model="llama-70b", timeout=Duration(seconds=100))
    events: list[text_pb2.StreamTextResponse] = []
    error = await rpc_error(read_into(events, hurried.text.StreamText(request)))
    assert reason_of(error) == "DEADLINE"
    assert "".join(event.delta.text for event in events) == "Once"
    assert len(scripted_upstream.posted) == 1


async def test_a_text_that_does_not_start_is_cancelled(
    scripted_upstream: ScriptedUpstream, hurried: Stubs
) -> None:
    """Its stream is silent, and another model's text is told whole."""
    done = {"id": ID, "status": "succeeded", "output": ["All", " of it"], "metrics": {}}
    ends_as(scripted_upstream, "canceled", metrics={})
    scripted_upstream.creates = [
        says(prediction(scripted_upstream, "starting"), 201),
        only_after_the_end(scripted_upstream, says(done, 201)),
    ]
    scripted_upstream.streams = [stays_open(until=asyncio.Event())]
    request = stream_text_request(prompt="Hello", model="llama-70b", timeout=Duration(seconds=120))
    streamed, last = "", text_pb2.StreamTextResponse()
    async for last in hurried.text.StreamText(request):
        streamed += last.delta.text
    assert streamed == "All of it"
    assert last.completed.model != "meta/meta-llama-3-70b-instruct"
    assert len(scripted_upstream.posted) == 2


def at_percent(*percents: int) -> list[Answer]:
    """Looks at a run that says how far it is; the last one for ever."""
    return [says(RUNS | {"logs": f"{done}%|###| {done}/100 [00:01<00:09]"}) for done in percents]


async def test_a_run_with_sufficient_progress_continues(
    scripted_upstream: ScriptedUpstream, hurried: Stubs
) -> None:
    """Its share is over, its log moves, and what is left by it fits into the timeout."""
    begun = asyncio.get_running_loop().time()

    async def look(request: Any) -> Any:
        passed = (asyncio.get_running_loop().time() - begun) * AcceleratedClock.FACTOR
        if passed < 45:
            return await at_percent(min(int(100 * passed / 50), 99))[0](request)
        return await says(SUCCEEDED)(request)

    scripted_upstream.creates, scripted_upstream.gets = [says(RUNS, 201)], [look]
    generation = (await hurried.image.GenerateImage(picture(*LINKS, seconds=80))).generation
    assert generation.state == State.STATE_SUCCEEDED
    assert (generation.model, len(scripted_upstream.posted)) == (LINKS[0], 1)
    took = generation.complete_time.ToDatetime() - generation.create_time.ToDatetime()
    assert took.total_seconds() >= 44


async def test_a_run_without_progress_is_cancelled(
    scripted_upstream: ScriptedUpstream, hurried: Stubs
) -> None:
    """It came to 60 %, and no further."""
    ends_as(scripted_upstream, "canceled", metrics={})
    scripted_upstream.gets = at_percent(20, 40, 60)
    scripted_upstream.creates = [
        says(RUNS, 201),
        only_after_the_end(scripted_upstream, says(SUCCEEDED, 201)),
    ]
    generation = (await hurried.image.GenerateImage(picture(*LINKS, seconds=200))).generation
    assert generation.state == State.STATE_SUCCEEDED
    assert generation.model == LINKS[1]
    assert generation.attempts[0].reason == "out of time"


SLOW = "black-forest-labs/flux-2-max"
"""A run of it takes 25 s as a rule."""


def ends_after(seconds: float, end: Any, *, percent: int = 0) -> Answer:
    """Looks at a run that ends so many seconds from now; its bar stands still."""
    begun = asyncio.get_running_loop().time()

    async def look(request: Any) -> Any:
        passed = (asyncio.get_running_loop().time() - begun) * AcceleratedClock.FACTOR
        return await (says(end) if passed >= seconds else at_percent(percent)[0])(request)

    return look


async def test_a_run_is_not_cancelled_without_time_for_a_fallback(
    scripted_upstream: ScriptedUpstream, hurried: Stubs
) -> None:
    """It got more than its share, and no other model's run would be over any more."""
    scripted_upstream.creates, scripted_upstream.gets = (
        [says(RUNS, 201)],
        [ends_after(92, SUCCEEDED, percent=33)],
    )
    generation = (
        await hurried.image.GenerateImage(picture(LINKS[0], SLOW, seconds=100))
    ).generation
    assert generation.state == State.STATE_SUCCEEDED
    assert (generation.model, len(scripted_upstream.posted)) == (LINKS[0], 1)
    assert not scripted_upstream.cancelled.is_set()


async def test_a_slow_cancellation_is_still_followed_by_a_fallback(
    scripted_upstream: ScriptedUpstream, hurried: Stubs
) -> None:
    """Nobody else would have a usual run's time then: rather one that may not be over than none."""
    scripted_upstream.gets = [ends_after(81, {"id": ID, "status": "canceled", "metrics": {}})]

    async def cancel(request: Any) -> Any:
        scripted_upstream.cancelled.set()
        return await says({})(request)

    scripted_upstream.on_cancel = cancel
    scripted_upstream.creates = [
        says(RUNS, 201),
        only_after_the_end(scripted_upstream, says(SUCCEEDED, 201)),
    ]
    generation = (
        await hurried.image.GenerateImage(picture(LINKS[0], SLOW, seconds=100))
    ).generation
    assert generation.state == State.STATE_SUCCEEDED
    assert generation.model == SLOW
    assert generation.attempts[0].reason == "out of time"


async def test_a_run_beside_an_unconfirmed_one_is_not_cancelled(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer
) -> None:
    """Whether the first was taken is not known, and the list is away: this one surely runs."""
    scripted_upstream.creates, scripted_upstream.gets = (
        [hangs_up(), says(RUNS, 201)],
        [ends_after(88, SUCCEEDED)],
    )
    request = picture(*LINKS, SLOW, seconds=100)
    request.options.max_cost_usd_nanos = 10**9
    request.options.when_unconfirmed = options_pb2.WHEN_UNCONFIRMED_NEXT
    permitted = {"clock": AcceleratedClock(), "allow_next_when_unconfirmed": True}
    async with open_server(scripted_upstream.url, **permitted) as (stubs, _):
        generation = (await stubs.image.GenerateImage(request)).generation
    assert generation.state == State.STATE_SUCCEEDED
    assert generation.model == LINKS[1]
    assert [attempt.state for attempt in generation.attempts] == [
        Tried.STATE_UNCONFIRMED,
        Tried.STATE_SUCCEEDED,
    ]
    assert not scripted_upstream.cancelled.is_set()
