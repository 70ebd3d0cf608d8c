"""`screen_prompt`: words are checked before anything is made, and nothing unreadable passes."""

import asyncio
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
    verdict_pb2,
)
from mediagate_sandbox.control import SandboxControl
from mediagate_sandbox.server import Sandbox

from .asking import bill
from .failures import reason_of
from .gates import Opener

State = generation_pb2.Generation
Tried = generation_pb2.Attempt
SCREENED = options_pb2.GenerationOptions(screen_prompt=True)


async def test_what_is_safe_is_made_and_the_check_is_paid(
    sandbox: Sandbox, open_gate: Opener
) -> None:
    """Text streams and pictures: the check first, then the run, both in the cost."""
    async with open_gate(sandbox.url) as (stubs, _):
        call = stubs.text.StreamText(
            text_pb2.StreamTextRequest(prompt="[[tokens=9]] Hello", options=SCREENED)
        )
        events = [event async for event in call]
        image = await stubs.image.GenerateImage(
            image_pb2.GenerateImageRequest(prompt="A cat", count=2, options=SCREENED)
        )
        text = await stubs.generations.GetGeneration(
            generations_pb2.GetGenerationRequest(id=events[0].started.generation_id)
        )
    assert events[-1].completed.usage.output_tokens == 9
    assert "".join(event.delta.text for event in events) == text.generation.text.text
    for made in (text.generation, image.generation):
        assert made.state == State.STATE_SUCCEEDED
        assert made.safety.verdict == verdict_pb2.SafetyVerdict.VERDICT_SAFE
        assert made.attempts[0].purpose == Tried.PURPOSE_SCREEN
        assert {one.purpose for one in made.attempts[1:]} == {Tried.PURPOSE_GENERATE}
        assert made.cost.usd_nanos == sum(one.cost.usd_nanos for one in made.attempts)
    # The bill knows no price for the check itself; what the gate reckons for it is ASSUMED.
    billed = await bill(sandbox)
    runs = [one for made in (text, image) for one in made.generation.attempts[1:]]
    assert sum(one.cost.usd_nanos for one in runs) == billed["total_nanos"]


async def test_what_is_unsafe_is_not_made(sandbox: Sandbox, open_gate: Opener) -> None:
    """CONTENT_BLOCKED with the categories; only the check was sent, and is paid."""
    request = image_pb2.GenerateImageRequest(
        prompt="[[unsafe=S1,S10]] x", count=2, request_id=str(uuid4()), options=SCREENED
    )
    async with open_gate(sandbox.url) as (stubs, _):
        made = (await stubs.image.GenerateImage(request)).generation
        again = await stubs.image.GenerateImage(request)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _event in stubs.text.StreamText(
                text_pb2.StreamTextRequest(prompt="[[unsafe=S2]] x", options=SCREENED)
            ):
                pass
    assert again.replayed
    assert made.state == State.STATE_FAILED
    assert [harm.code for harm in made.safety.categories] == ["S1", "S10"]
    assert "CONTENT_BLOCKED" in str(made.error)
    assert reason_of(caught.value) == "CONTENT_BLOCKED"
    entries = (await bill(sandbox))["entries"]
    assert len(entries) == 2
    assert all("guard" in entry["model"] for entry in entries)
    assert made.cost.usd_nanos == made.attempts[0].cost.usd_nanos > 0
    assert {one.state for one in made.attempts[1:]} == {Tried.STATE_REFUSED}


@pytest.mark.parametrize(
    "fault",
    [
        {"do": "fail", "model": "*guard*", "error": "E1001"},
        {"do": "empty_output", "model": "*guard*"},
    ],
)
async def test_a_check_that_fails_lets_nothing_pass(
    sandbox: Sandbox, open_gate: Opener, fault: dict[str, Any]
) -> None:
    """Whatever came instead of a verdict."""
    await asyncio.to_thread(SandboxControl(sandbox.url).faults, fault)
    async with open_gate(sandbox.url) as (stubs, _):
        made = await stubs.image.GenerateImage(
            image_pb2.GenerateImageRequest(prompt="A cat", options=SCREENED)
        )
    assert made.generation.state == State.STATE_FAILED
    assert len((await bill(sandbox))["entries"]) == 1


async def test_screening_goes_on_after_a_restart(sandbox: Sandbox, open_gate: Opener) -> None:
    """The check was on its way when the gate ended: it is waited for, then the run is sent."""
    request = image_pb2.GenerateImageRequest(
        prompt="[[first_ms=1500]] A cat",
        request_id=str(uuid4()),
        wait=Duration(),
        options=SCREENED,
    )
    async with open_gate(sandbox.url) as (stubs, _):
        begun = await stubs.image.GenerateImage(request)
        watch = stubs.generations.WatchGeneration(
            generations_pb2.WatchGenerationRequest(id=begun.generation.id)
        )
        async for change in watch:
            if change.generation.attempts[0].prediction_id:
                break
    request.ClearField("wait")
    async with open_gate(sandbox.url) as (stubs, _):
        made = (await stubs.image.GenerateImage(request)).generation
    assert made.state == State.STATE_SUCCEEDED
    billed = await bill(sandbox)
    assert len(billed["entries"]) == 2
    assert made.attempts[1].cost.usd_nanos == billed["total_nanos"]


async def test_cancelling_while_it_is_screened(sandbox: Sandbox, open_gate: Opener) -> None:
    """Nothing is made, and the check is settled on its terminal record."""
    async with open_gate(sandbox.url) as (stubs, _):
        begun = await stubs.image.GenerateImage(
            image_pb2.GenerateImageRequest(prompt="[[hang]]", wait=Duration(), options=SCREENED)
        )
        await stubs.generations.CancelGeneration(
            generations_pb2.CancelGenerationRequest(id=begun.generation.id)
        )
        done = await stubs.generations.WaitGeneration(
            generations_pb2.WaitGenerationRequest(id=begun.generation.id)
        )
    assert done.generation.state == State.STATE_CANCELLED
    assert len((await bill(sandbox))["entries"]) <= 1
    attempts = done.generation.attempts
    assert attempts[1].state == Tried.STATE_REFUSED
    assert done.generation.cost.usd_nanos == attempts[0].cost.usd_nanos
