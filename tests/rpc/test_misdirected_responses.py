"""Creates that upstream answers with another's prediction: nobody gets what another paid for."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import cost_pb2, generation_pb2, image_pb2, options_pb2, text_pb2, text_pb2_grpc
from mediagate_sandbox.server import Sandbox
from mediagate_server.observability import metrics as telemetry
from tests.builders import image_request, stream_text_request, text_request
from tests.grpc_errors import reason_of, rpc_error

from .generation_waits import QUICK, get_bill, get_generation, inject_faults, wait_for_end
from .scripted_upstream import ID, NAMED, ScriptedUpstream, says
from .stubs import OpenServer, Stubs
from .tenant_keys import channel_of, tenant

State = generation_pb2.Generation
Tried = generation_pb2.Attempt
Options = options_pb2.GenerationOptions
MISTAKE = {"do": "duplicate_id", "times": 1}


def text(prompt: str, **options: Any) -> text_pb2.GenerateTextRequest:
    """A request for a text."""
    return text_request(prompt=prompt, model="llama-70b", **options)


def image(prompt: str) -> image_pb2.GenerateImageRequest:
    """A request for an image."""
    return image_request(prompt=prompt, model="flux-schnell")


async def said(stubs: Stubs, prompt: str) -> generation_pb2.Generation:
    """A text, whole."""
    return (await stubs.text.GenerateText(text(prompt))).generation


def counted() -> float:
    """How many such answers were counted so far."""
    value = telemetry.REGISTRY.get_sample_value("mediagate_attempts_misanswered_total")
    assert value is not None
    return value


async def check_books(sandbox: Sandbox, *generations: generation_pb2.Generation) -> None:
    """Each has succeeded on a prediction of its own, and costs what that one is billed."""
    billed = {entry["id"]: entry["nanos"] for entry in (await get_bill(sandbox))["entries"]}
    assert [generation.state for generation in generations] == [State.STATE_SUCCEEDED] * len(
        generations
    )
    tries = [attempt for generation in generations for attempt in generation.attempts]
    assert {attempt.prediction_id: attempt.cost.usd_nanos for attempt in tries} == billed
    assert len(tries) == len(generations) == len(billed)


async def test_a_create_answered_with_another_prediction(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """It is looked for as if no answer had come, and found under its true id; it is counted."""
    before = counted()
    async with open_server(sandbox.url, **QUICK) as (stubs, _):
        first = await said(stubs, "[[tokens=7]] One's own")
        await inject_faults(sandbox, MISTAKE)
        second = await said(stubs, "[[tokens=11]] The other's")
    assert (first.usage.output_tokens, second.usage.output_tokens) == (7, 11)
    assert first.text.text != second.text.text
    await check_books(sandbox, first, second)
    assert counted() == before + 1


async def test_a_stream_shows_nothing_of_another_prediction(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Not a token: it says that it is in doubt, then comes its own text, whole."""
    async with open_server(sandbox.url, **QUICK) as (stubs, _):
        first = await said(stubs, "[[tokens=7]] One's own")
        await inject_faults(sandbox, MISTAKE)
        request = stream_text_request(prompt="[[tokens=11]] The other's", model="llama-70b")
        events = [event async for event in stubs.text.StreamText(request)]
        second = await wait_for_end(stubs, events[0].started.generation_id)
    states = [event.status.state for event in events if event.HasField("status")]
    assert State.STATE_UNCONFIRMED in states
    assert "".join(event.delta.text for event in events) == second.text.text
    assert second.usage.output_tokens == 11
    await check_books(sandbox, first, second)


async def test_an_image_is_no_text_and_a_text_no_image(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Whatever another's prediction has put out."""
    async with open_server(sandbox.url, **QUICK) as (stubs, _):
        first = await said(stubs, "[[tokens=7]] A text")
        await inject_faults(sandbox, MISTAKE)
        second = (await stubs.image.GenerateImage(image("A cat"))).generation
        await inject_faults(sandbox, MISTAKE)
        third = await said(stubs, "[[tokens=9]] A text again")
    assert len(second.images.images) == 1
    assert third.usage.output_tokens == 9
    await check_books(sandbox, first, second, third)


async def test_misdirected_responses_across_a_restart(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """What an earlier process has written down is as much another's."""
    async with open_server(sandbox.url, **QUICK) as (stubs, _):
        first = await said(stubs, "[[tokens=7]] One's own")
    await inject_faults(sandbox, MISTAKE)
    async with open_server(sandbox.url, **QUICK) as (stubs, _):
        second = await said(stubs, "[[tokens=11]] The other's")
    assert second.usage.output_tokens == 11
    await check_books(sandbox, first, second)


async def test_misdirected_responses_across_tenants(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """One tenant's text is not told to another."""
    tenants = tuple(map(tenant, ("a", "b")))
    generations = []
    async with open_server(sandbox.url, tenants=tenants, **QUICK) as (_, server):
        for name, tokens in (("a", 7), ("b", 11)):
            async with channel_of(server.grpc_address, name) as channel:
                stub: text_pb2_grpc.TextServiceAsyncStub = text_pb2_grpc.TextServiceStub(channel)
                answer = await stub.GenerateText(text(f"[[tokens={tokens}]] For {name}"))
            generations.append(answer.generation)
            await inject_faults(sandbox, MISTAKE)
    assert [generation.usage.output_tokens for generation in generations] == [7, 11]
    await check_books(sandbox, *generations)


async def test_outputs_of_one_call_are_not_mixed_up(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Runs of one generation are no less strangers: each has its own prediction."""
    async with open_server(sandbox.url, **QUICK) as (stubs, _):
        before = counted()
        await inject_faults(sandbox, {**MISTAKE, "after": 1})
        request = image_request(prompt="Cats", count=3, model="flux-pro")
        generation = (await stubs.image.GenerateImage(request)).generation
    billed = await get_bill(sandbox)
    assert generation.state == State.STATE_SUCCEEDED
    assert len(generation.images.images) == 3
    ids = [attempt.prediction_id for attempt in generation.attempts]
    assert sorted(ids) == sorted(entry["id"] for entry in billed["entries"])
    assert generation.cost.usd_nanos == billed["total_nanos"]
    assert counted() == before + 1


@pytest.mark.parametrize("status", ["succeeded", "processing"])
@pytest.mark.parametrize("restarted", [False, True])
async def test_a_terminal_response_of_another_prediction_is_ignored(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer, status: str, *, restarted: bool
) -> None:
    """In whatever state it is answered. Where no list tells, it stays in doubt, unpaid so far."""
    metrics = {"input_token_count": 1, "output_token_count": 1, "predict_time": 1.0}
    done = {"status": "succeeded", "output": ["private"], "metrics": metrics}
    scripted_upstream.gets = [says({"id": ID, **done})]

    async def repeats(request: Any) -> Any:
        request[NAMED] = ID  # Whatever its number is.
        answer = {"id": ID, **done, "status": status, "created_at": now()}
        return await says(answer, 201)(request)

    scripted_upstream.creates = [repeats]
    async with open_server(scripted_upstream.url, **QUICK) as (stubs, _):
        first = await said(stubs, "One's own")
        assert first.text.text == "private"
        if not restarted:
            await check_unconfirmed(stubs)
    if restarted:
        async with open_server(scripted_upstream.url, **QUICK) as (stubs, _):
            await check_unconfirmed(stubs)
    assert len(scripted_upstream.posted) == 2


def now() -> str:
    """As Replicate writes it."""
    return datetime.now(UTC).isoformat()


OLD_OR_NO_TIMES = [
    {},
    {"created_at": None},
    {"created_at": "no time"},
    {"created_at": "2025-06-01T10:00:00.123456789Z"},
]


@pytest.mark.parametrize("created", OLD_OR_NO_TIMES)
async def test_a_recorded_upstream_can_be_followed(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer, created: dict[str, str]
) -> None:
    """Ids and all, where the operator says that it is one."""
    metrics = {"input_token_count": 1, "output_token_count": 1, "predict_time": 1.0}
    done = {"status": "succeeded", "output": ["recorded"], "metrics": metrics, **created}

    async def repeats(request: Any) -> Any:
        request[NAMED] = ID
        return await says({"id": ID, **done, "status": "processing"}, 201)(request)

    scripted_upstream.creates, scripted_upstream.gets = [repeats], [says({"id": ID, **done})]
    async with open_server(scripted_upstream.url, upstream_playback=True) as (stubs, _):
        for number in range(3):
            assert (await said(stubs, f"Question {number}")).text.text == "recorded"


@pytest.mark.parametrize("created", OLD_OR_NO_TIMES)
@pytest.mark.parametrize("status", ["succeeded", "processing"])
async def test_a_timestamp_does_not_prove_ownership(
    scripted_upstream: ScriptedUpstream,
    open_server: OpenServer,
    status: str,
    created: dict[str, str],
) -> None:
    """One caller's prediction is told to no other, old, without a time or with none that is one."""
    metrics = {"input_token_count": 1, "output_token_count": 1, "predict_time": 1.0}
    done = {"status": "succeeded", "output": ["private"], "metrics": metrics, **created}
    scripted_upstream.gets = [says({"id": ID, **done})]

    async def repeats(request: Any) -> Any:
        request[NAMED] = ID
        return await says({"id": ID, **done, "status": status}, 201)(request)

    scripted_upstream.creates = [repeats]
    async with open_server(scripted_upstream.url, **QUICK) as (stubs, _):
        assert (await said(stubs, "One's own")).text.text == "private"
        await check_unconfirmed(stubs)
    assert len(scripted_upstream.posted) == 2


@pytest.mark.parametrize("again", [1, 99])
async def test_a_poll_answered_with_another_prediction(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer, again: int
) -> None:
    """It is asked once more; where nothing else comes, it is lost at an unknown cost."""
    metrics = {"input_token_count": 1, "output_token_count": 1, "predict_time": 1.0}
    others = says({"id": "another", "status": "succeeded", "output": ["private"]})
    own = says({"id": ID, "status": "succeeded", "output": ["own"], "metrics": metrics})
    scripted_upstream.creates = [says({"id": ID, "status": "processing"}, 201)]
    scripted_upstream.gets = [*[others] * again, own]
    async with open_server(scripted_upstream.url) as (stubs, _):
        generation = await said(stubs, "x")
    assert "private" not in str(generation)
    if again == 1:
        assert (generation.text.text, generation.cost.state) == ("own", cost_pb2.COST_STATE_SETTLED)
    else:
        assert generation.state == State.STATE_FAILED
        assert generation.cost.state == cost_pb2.COST_STATE_UNKNOWN


async def check_unconfirmed(stubs: Stubs) -> None:
    """A text of which nothing is found out by its timeout, and nothing of another's told."""
    request = stream_text_request(
        prompt="The other's",
        request_id=str(uuid4()),
        model="llama-70b",
        timeout=Duration(seconds=5),
    )
    events: list[text_pb2.StreamTextResponse] = []

    async def read() -> None:
        async for event in stubs.text.StreamText(request):
            events.append(event)  # noqa: PERF401 - what came before the error counts

    error = await rpc_error(read())
    assert reason_of(error) == "SUBMIT_UNCONFIRMED"
    assert not any(event.HasField("delta") for event in events)
    generation = await get_generation(stubs, events[0].started.generation_id)
    (attempt,) = generation.attempts
    assert attempt.state == Tried.STATE_UNCONFIRMED
    assert not attempt.prediction_id


async def test_concurrent_creates_cannot_share_a_prediction(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer
) -> None:
    """Before anything of the first is durable."""
    come = asyncio.Event()
    metrics = {"input_token_count": 1, "output_token_count": 1, "predict_time": 1.0}
    end = {"id": ID, "status": "succeeded", "output": ["one's"], "metrics": metrics}
    end["created_at"] = now()

    async def both(request: Any) -> Any:
        if len(scripted_upstream.posted) == 2:
            come.set()
        await come.wait()
        request[NAMED] = ID
        return await says(end, 201)(request)

    scripted_upstream.creates = [both]
    async with open_server(scripted_upstream.url, **QUICK) as (stubs, _):
        requests = [text(name, timeout=Duration(seconds=5)) for name in ("a", "b")]
        responses = await asyncio.gather(
            *(stubs.text.GenerateText(request) for request in requests)
        )
    states = sorted(answer.generation.state for answer in responses)
    assert states == sorted([State.STATE_SUCCEEDED, State.STATE_UNCONFIRMED])
    assert len({answer.generation.text.text for answer in responses}) == 2
