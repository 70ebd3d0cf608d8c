"""Creates whose answers are lost: found and paid once, or proven never to have arrived."""

import asyncio
from collections import Counter
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import generation_pb2, generations_pb2, options_pb2
from mediagate_sandbox.server import Sandbox
from tests.builders import image_request, stream_text_request, text_request, video_request
from tests.grpc_errors import reason_of, retry_after, rpc_error
from tests.server_process import free_ports

from .generation_waits import QUICK, get_bill, inject_faults, wait_for_end
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
async def test_an_unconfirmed_prediction_is_found_and_charged_once(
    sandbox: Sandbox, open_server: OpenServer, fault: dict[str, Any]
) -> None:
    """Text, image and video: one prediction each, adopted, its cost equal to the bill."""
    await inject_faults(sandbox, fault)
    async with open_server(sandbox.url, **QUICK) as (stubs, _):
        text = stubs.text.GenerateText(text_request(prompt="Hello"))
        image = stubs.image.GenerateImage(image_request(prompt="A cat"))
        video = await stubs.video.GenerateVideo(video_request(prompt="A dog"))
        generations = [
            (await text).generation,
            (await image).generation,
            await wait_for_end(stubs, video.generation.id),
        ]
    billed = await get_bill(sandbox)
    assert {generation.state for generation in generations} == {State.STATE_SUCCEEDED}
    assert [len(generation.attempts) for generation in generations] == [1, 1, 1]
    assert len(billed["entries"]) == 3
    assert sum(generation.cost.usd_nanos for generation in generations) == billed["total_nanos"]


async def test_a_stream_waits_for_its_unconfirmed_prediction(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """UNCONFIRMED is told as a status; then the text comes as if nothing had been."""
    await inject_faults(sandbox, {"do": "lose_answer", "on": "create"})
    async with open_server(sandbox.url, **QUICK) as (stubs, _):
        call = stubs.text.StreamText(stream_text_request(prompt="[[tokens=20]] Hello"))
        events = [event async for event in call]
        states = [event.status.state for event in events if event.HasField("status")]
        assert State.STATE_UNCONFIRMED in states
        assert events[-1].completed.usage.output_tokens == 20
        text = "".join(event.delta.text for event in events)
        generation = await wait_for_end(stubs, events[0].started.generation_id)
        assert generation.text.text == text


@pytest.mark.parametrize("fault", BEFORE_ACCEPTING, ids=named)
async def test_an_absent_create_is_sent_again(
    sandbox: Sandbox, open_server: OpenServer, fault: dict[str, Any]
) -> None:
    """The first attempt is ABSENT or REFUSED at no cost, the second one is paid."""
    await inject_faults(sandbox, {**fault, "times": 1})
    async with open_server(sandbox.url, **QUICK) as (stubs, _):
        answer = await stubs.text.GenerateText(text_request(prompt="Hello"))
    first, second = answer.generation.attempts
    assert first.state in {Tried.STATE_ABSENT, Tried.STATE_REFUSED}
    assert first.cost.usd_nanos == 0
    assert second.state == Tried.STATE_SUCCEEDED
    billed = await get_bill(sandbox)
    assert [entry["id"] for entry in billed["entries"]] == [second.prediction_id]
    assert answer.generation.cost.usd_nanos == billed["total_nanos"]


async def test_an_absent_create_without_time_left_is_unavailable(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """No second attempt can end in time: UNAVAILABLE, at cost 0, and the request_id is free."""
    await inject_faults(sandbox, {"do": "error", "on": "create", "status": 502, "at": "request"})
    async with open_server(sandbox.url, **QUICK) as (stubs, _):
        request = text_request(prompt="Hello", request_id=str(uuid4()), timeout=Duration(seconds=5))
        error = await rpc_error(stubs.text.GenerateText(request))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert retry_after(error)
        await inject_faults(sandbox)
        again = await stubs.text.GenerateText(request)
        assert not again.replayed
        assert again.generation.state == State.STATE_SUCCEEDED


async def test_equal_unconfirmed_requests_get_one_prediction_each(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Four of eight equal creates arrived: four predictions are adopted, none by two."""
    await inject_faults(
        sandbox,
        {"do": "error", "on": "create", "status": 502, "at": "request", "every": 2, "times": 4},
        {"do": "lose_answer", "on": "create"},
    )
    async with open_server(sandbox.url, **QUICK) as (stubs, _):
        request = text_request(prompt="[[say=same]]", seed=7)
        answers = await asyncio.gather(*(stubs.text.GenerateText(request) for _ in range(8)))
    billed = await get_bill(sandbox)
    reservations = Counter(
        attempt.prediction_id
        for answer in answers
        for attempt in answer.generation.attempts
        if attempt.prediction_id
    )
    assert {answer.generation.state for answer in answers} == {State.STATE_SUCCEEDED}
    assert reservations == Counter(entry["id"] for entry in billed["entries"])
    assert set(reservations.values()) == {1}
    total = sum(answer.generation.cost.usd_nanos for answer in answers)
    assert total == billed["total_nanos"]


async def test_on_a_shared_account_nothing_is_matched_by_input(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """What fits may be somebody else's: it stays in doubt, and its callers are told so."""
    await inject_faults(sandbox, {"do": "lose_answer", "on": "create"})
    shared = {**QUICK, "upstream_exclusive": False}
    async with open_server(sandbox.url, **shared) as (stubs, _):
        request = stream_text_request(
            prompt="Hello", request_id=str(uuid4()), timeout=Duration(seconds=5)
        )
        for _ in range(2):
            error = await rpc_error(stubs.text.StreamText(request))
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert reason_of(error) == "SUBMIT_UNCONFIRMED"
            assert retry_after(error)
    assert len((await get_bill(sandbox))["entries"]) == 1


async def test_a_cancel_while_unconfirmed_survives_a_restart(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Once the prediction is found it is cancelled, and settled on its terminal record."""
    await inject_faults(
        sandbox,
        {"do": "lose_answer", "on": "create"},
        {"do": "error", "on": "list", "status": 500, "at": "request"},
    )
    request = text_request(prompt="[[hang]]", request_id=str(uuid4()), wait=Duration())
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
    await inject_faults(sandbox)
    async with open_server(sandbox.url, **QUICK) as (stubs, _):
        generation = await wait_for_end(stubs, begun.id)
    assert generation.state == State.STATE_CANCELLED
    billed = await get_bill(sandbox)
    assert [entry["status"] for entry in billed["entries"]] == ["canceled"]
    assert generation.attempts[0].prediction_id == billed["entries"][0]["id"]
    assert generation.cost.usd_nanos == billed["total_nanos"]


async def test_a_webhook_confirms_a_create_on_a_shared_account(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Signed by upstream, at our own address of the attempt: that is proof, the list is not."""
    await inject_faults(
        sandbox,
        {"do": "lose_answer", "on": "create"},
        {"do": "repeat_webhook", "copies": 3},
        {"do": "error", "on": "list", "status": 500, "at": "request"},
    )
    (port,) = free_ports(1)
    outcome = {
        **QUICK,
        "upstream_exclusive": False,
        "public_url": f"http://127.0.0.1:{port}",
        "web_address": f"127.0.0.1:{port}",
    }
    async with open_server(sandbox.url, **outcome) as (stubs, _):
        answer = await stubs.text.GenerateText(text_request(prompt="Hello"))
        video = await stubs.video.GenerateVideo(video_request(prompt="A dog"))
        film = await wait_for_end(stubs, video.generation.id)
    billed = await get_bill(sandbox)
    generations = [answer.generation, film]
    assert {generation.state for generation in generations} == {State.STATE_SUCCEEDED}
    assert len(billed["entries"]) == 2
    assert sum(generation.cost.usd_nanos for generation in generations) == billed["total_nanos"]
