"""Creates whose answers are lost: found and paid once, or proven never to have arrived."""

import asyncio
from collections import Counter
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import (
    generation_pb2,
    generations_pb2,
    image_pb2,
    options_pb2,
    text_pb2,
    video_pb2,
)
from mediagate_sandbox.server import Sandbox
from tests.server_process import free_ports

from .generation_waits import QUICK, bill, ended, order
from .grpc_errors import reason_of, retry_after
from .stubs import OpenServer

State = generation_pb2.Generation
Tried = generation_pb2.Attempt
Options = options_pb2.GenerationOptions

AFTER_ACCEPTING = [
    {"do": "lose_answer", "on": "create"},
    {"do": "reset_body", "on": "create", "after_bytes": 3},
    {"do": "error", "on": "create", "status": 500, "at": "answer"},
    {"do": "error", "on": "create", "status": 502, "at": "answer"},
    {"do": "hang", "on": "create", "at": "answer"},
    {"do": "garbage", "on": "create", "text": "<html>"},
]
BEFORE_ACCEPTING = [
    {"do": "error", "on": "create", "status": 500, "at": "request"},
    {"do": "error", "on": "create", "status": 502, "at": "request"},
    {"do": "hang", "on": "create", "at": "request"},
    {"do": "refuse", "on": "create"},
]


def named(fault: dict[str, Any]) -> str:
    """A fault as a test's name."""
    return "-".join(str(value) for value in fault.values())


@pytest.mark.parametrize("fault", AFTER_ACCEPTING, ids=named)
async def test_what_was_taken_is_found_and_paid_once(
    sandbox: Sandbox, open_server: OpenServer, fault: dict[str, Any]
) -> None:
    """Text, image and video: one prediction each, adopted, its cost equal to the bill."""
    await order(sandbox, fault)
    async with open_server(sandbox.url, **QUICK) as (stubs, _):
        text = stubs.text.GenerateText(text_pb2.GenerateTextRequest(prompt="Hello"))
        image = stubs.image.GenerateImage(image_pb2.GenerateImageRequest(prompt="A cat"))
        video = await stubs.video.GenerateVideo(video_pb2.GenerateVideoRequest(prompt="A dog"))
        made = [
            (await text).generation,
            (await image).generation,
            await ended(stubs, video.generation.id),
        ]
    billed = await bill(sandbox)
    assert {generation.state for generation in made} == {State.STATE_SUCCEEDED}
    assert [len(generation.attempts) for generation in made] == [1, 1, 1]
    assert len(billed["entries"]) == 3
    assert sum(generation.cost.usd_nanos for generation in made) == billed["total_nanos"]


async def test_a_stream_waits_for_its_text_and_gets_it_whole(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """UNCONFIRMED is told as a status; then the text comes as if nothing had been."""
    await order(sandbox, {"do": "lose_answer", "on": "create"})
    async with open_server(sandbox.url, **QUICK) as (stubs, _):
        call = stubs.text.StreamText(text_pb2.StreamTextRequest(prompt="[[tokens=20]] Hello"))
        events = [event async for event in call]
        states = [event.status.state for event in events if event.HasField("status")]
        assert State.STATE_UNCONFIRMED in states
        assert events[-1].completed.usage.output_tokens == 20
        text = "".join(event.delta.text for event in events)
        found = await ended(stubs, events[0].started.generation_id)
        assert found.text.text == text


@pytest.mark.parametrize("fault", BEFORE_ACCEPTING, ids=named)
async def test_what_never_arrived_is_proven_absent_and_sent_anew(
    sandbox: Sandbox, open_server: OpenServer, fault: dict[str, Any]
) -> None:
    """The first attempt is ABSENT or REFUSED at no cost, the second one is paid."""
    await order(sandbox, {**fault, "times": 1})
    async with open_server(sandbox.url, **QUICK) as (stubs, _):
        answer = await stubs.text.GenerateText(text_pb2.GenerateTextRequest(prompt="Hello"))
    first, second = answer.generation.attempts
    assert first.state in {Tried.STATE_ABSENT, Tried.STATE_REFUSED}
    assert first.cost.usd_nanos == 0
    assert second.state == Tried.STATE_SUCCEEDED
    billed = await bill(sandbox)
    assert [entry["id"] for entry in billed["entries"]] == [second.prediction_id]
    assert answer.generation.cost.usd_nanos == billed["total_nanos"]


async def test_absent_without_time_left_ends_as_never_taken(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """No second attempt can end in time: UNAVAILABLE, at cost 0, and the request_id is free."""
    await order(sandbox, {"do": "error", "on": "create", "status": 502, "at": "request"})
    async with open_server(sandbox.url, **QUICK) as (stubs, _):
        request = text_pb2.GenerateTextRequest(
            prompt="Hello",
            request_id=str(uuid4()),
            options=Options(timeout=Duration(seconds=5)),
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.text.GenerateText(request)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert retry_after(caught.value)
        await order(sandbox)
        again = await stubs.text.GenerateText(request)
        assert not again.replayed
        assert again.generation.state == State.STATE_SUCCEEDED


async def test_equal_requests_in_doubt_get_one_prediction_each(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Four of eight equal creates arrived: four predictions are adopted, none by two."""
    await order(
        sandbox,
        {"do": "error", "on": "create", "status": 502, "at": "request", "every": 2, "times": 4},
        {"do": "lose_answer", "on": "create"},
    )
    async with open_server(sandbox.url, **QUICK) as (stubs, _):
        request = text_pb2.GenerateTextRequest(prompt="[[say=same]]", seed=7)
        answers = await asyncio.gather(*(stubs.text.GenerateText(request) for _ in range(8)))
    billed = await bill(sandbox)
    held = Counter(
        attempt.prediction_id
        for answer in answers
        for attempt in answer.generation.attempts
        if attempt.prediction_id
    )
    assert {answer.generation.state for answer in answers} == {State.STATE_SUCCEEDED}
    assert held == Counter(entry["id"] for entry in billed["entries"])
    assert set(held.values()) == {1}
    total = sum(answer.generation.cost.usd_nanos for answer in answers)
    assert total == billed["total_nanos"]


async def test_on_a_shared_account_nothing_is_adopted_by_its_looks(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """What fits may be somebody else's: it stays in doubt, and its callers are told so."""
    await order(sandbox, {"do": "lose_answer", "on": "create"})
    shared = {**QUICK, "upstream_exclusive": False}
    async with open_server(sandbox.url, **shared) as (stubs, _):
        request = text_pb2.StreamTextRequest(
            prompt="Hello",
            request_id=str(uuid4()),
            options=Options(timeout=Duration(seconds=5)),
        )
        for _ in range(2):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for _event in stubs.text.StreamText(request):
                    pass
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert reason_of(caught.value) == "SUBMIT_UNCONFIRMED"
            assert retry_after(caught.value)
    assert len((await bill(sandbox))["entries"]) == 1


async def test_a_cancel_in_doubt_is_remembered_also_over_a_restart(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Once the prediction is found it is cancelled, and settled on its terminal record."""
    await order(
        sandbox,
        {"do": "lose_answer", "on": "create"},
        {"do": "error", "on": "list", "status": 500, "at": "request"},
    )
    request = text_pb2.GenerateTextRequest(
        prompt="[[hang]]", request_id=str(uuid4()), wait=Duration()
    )
    async with open_server(sandbox.url, **QUICK) as (stubs, _):
        begun = (await stubs.text.GenerateText(request)).generation
        changes = stubs.generations.WatchGeneration(
            generations_pb2.WatchGenerationRequest(id=begun.id)
        )
        async for change in changes:
            if change.generation.state == State.STATE_UNCONFIRMED:
                break
        await stubs.generations.CancelGeneration(
            generations_pb2.CancelGenerationRequest(id=begun.id)
        )
    await order(sandbox)
    async with open_server(sandbox.url, **QUICK) as (stubs, _):
        found = await ended(stubs, begun.id)
    assert found.state == State.STATE_CANCELLED
    billed = await bill(sandbox)
    assert [entry["status"] for entry in billed["entries"]] == ["canceled"]
    assert found.attempts[0].prediction_id == billed["entries"][0]["id"]
    assert found.cost.usd_nanos == billed["total_nanos"]


async def test_a_webhook_finds_it_also_on_a_shared_account(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Signed by upstream, at our own address of the attempt: that is proof, the list is not."""
    await order(
        sandbox,
        {"do": "lose_answer", "on": "create"},
        {"do": "repeat_webhook", "copies": 3},
        {"do": "error", "on": "list", "status": 500, "at": "request"},
    )
    (port,) = free_ports(1)
    told = {
        **QUICK,
        "upstream_exclusive": False,
        "public_url": f"http://127.0.0.1:{port}",
        "web_address": f"127.0.0.1:{port}",
    }
    async with open_server(sandbox.url, **told) as (stubs, _):
        answer = await stubs.text.GenerateText(text_pb2.GenerateTextRequest(prompt="Hello"))
        video = await stubs.video.GenerateVideo(video_pb2.GenerateVideoRequest(prompt="A dog"))
        film = await ended(stubs, video.generation.id)
    billed = await bill(sandbox)
    made = [answer.generation, film]
    assert {generation.state for generation in made} == {State.STATE_SUCCEEDED}
    assert len(billed["entries"]) == 2
    assert sum(generation.cost.usd_nanos for generation in made) == billed["total_nanos"]
