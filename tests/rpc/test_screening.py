"""`screen_prompt`: words are checked before anything is made, and nothing unreadable passes."""

from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import (
    generation_pb2,
    generations_pb2,
    medium_pb2,
    models_pb2,
    options_pb2,
    verdict_pb2,
)
from mediagate_sandbox.server import Sandbox
from tests.builders import image_request, run_model_request, stream_text_request
from tests.grpc_errors import fields_of, reason_of, rpc_error

from .generation_waits import get_bill, inject_faults, wait_for_end
from .scripted_upstream import ID, ScriptedUpstream, says
from .stubs import OpenServer

State = generation_pb2.Generation
Tried = generation_pb2.Attempt
SCREENED = options_pb2.GenerationOptions(screen_prompt=True)


async def test_a_safe_prompt_runs_and_the_screening_is_charged(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Text streams and pictures: the check first, then the run, both in the cost."""
    async with open_server(sandbox.url) as (stubs, _):
        call = stubs.text.StreamText(
            stream_text_request(prompt="[[tokens=9]] Hello", options=SCREENED)
        )
        events = [event async for event in call]
        image = await stubs.image.GenerateImage(
            image_request(prompt="A cat", count=2, options=SCREENED)
        )
        text = await stubs.generations.GetGeneration(
            generations_pb2.GetGenerationRequest(id=events[0].started.generation_id)
        )
    assert events[-1].completed.usage.output_tokens == 9
    assert "".join(event.delta.text for event in events) == text.generation.text.text
    for generation in (text.generation, image.generation):
        assert generation.state == State.STATE_SUCCEEDED
        assert generation.safety.verdict == verdict_pb2.SafetyVerdict.VERDICT_SAFE
        assert generation.attempts[0].purpose == Tried.PURPOSE_SCREEN
        assert {attempt.purpose for attempt in generation.attempts[1:]} == {Tried.PURPOSE_GENERATE}
        assert generation.cost.usd_nanos == sum(
            attempt.cost.usd_nanos for attempt in generation.attempts
        )
    # The bill knows no price for the check itself; what the server reckons for it is ASSUMED.
    billed = await get_bill(sandbox)
    runs = [attempt for response in (text, image) for attempt in response.generation.attempts[1:]]
    assert sum(attempt.cost.usd_nanos for attempt in runs) == billed["total_nanos"]


async def test_an_unsafe_prompt_is_not_run(sandbox: Sandbox, open_server: OpenServer) -> None:
    """CONTENT_BLOCKED with the categories; only the check was sent, and is paid."""
    request = image_request(
        prompt="[[unsafe=S1,S10]] x", count=2, request_id=str(uuid4()), options=SCREENED
    )
    async with open_server(sandbox.url) as (stubs, _):
        generation = (await stubs.image.GenerateImage(request)).generation
        again = await stubs.image.GenerateImage(request)
        error = await rpc_error(
            stubs.text.StreamText(stream_text_request(prompt="[[unsafe=S2]] x", options=SCREENED))
        )
    assert again.replayed
    assert generation.state == State.STATE_FAILED
    assert [harm.code for harm in generation.safety.categories] == ["S1", "S10"]
    assert "CONTENT_BLOCKED" in str(generation.error)
    assert reason_of(error) == "CONTENT_BLOCKED"
    entries = (await get_bill(sandbox))["entries"]
    assert len(entries) == 2
    assert all("guard" in entry["model"] for entry in entries)
    assert generation.cost.usd_nanos == generation.attempts[0].cost.usd_nanos > 0
    assert {attempt.state for attempt in generation.attempts[1:]} == {Tried.STATE_REFUSED}


@pytest.mark.parametrize(
    "fault",
    [
        {"do": "fail", "model": "*guard*", "error": "E1001"},
        {"do": "empty_output", "model": "*guard*"},
    ],
)
async def test_a_failed_screening_blocks_the_run(
    sandbox: Sandbox, open_server: OpenServer, fault: dict[str, Any]
) -> None:
    """Whatever came instead of a verdict."""
    await inject_faults(sandbox, fault)
    async with open_server(sandbox.url) as (stubs, _):
        response = await stubs.image.GenerateImage(image_request(prompt="A cat", options=SCREENED))
    assert response.generation.state == State.STATE_FAILED
    assert len((await get_bill(sandbox))["entries"]) == 1


async def test_screening_continues_after_a_restart(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """The check was on its way when the server ended: it is waited for, then the run is sent."""
    request = image_request(
        prompt="[[first_ms=1500]] A cat", request_id=str(uuid4()), wait=Duration(), options=SCREENED
    )
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
        generation = (await stubs.image.GenerateImage(request)).generation
    assert generation.state == State.STATE_SUCCEEDED
    billed = await get_bill(sandbox)
    assert len(billed["entries"]) == 2
    assert generation.attempts[1].cost.usd_nanos == billed["total_nanos"]


async def test_cancelling_while_it_is_screened(sandbox: Sandbox, open_server: OpenServer) -> None:
    """Nothing is made, and the check is settled on its terminal record."""
    async with open_server(sandbox.url) as (stubs, _):
        begun = await stubs.image.GenerateImage(
            image_request(prompt="[[hang]]", wait=Duration(), options=SCREENED)
        )
        await stubs.generations.CancelGeneration(
            generations_pb2.CancelGenerationRequest(id=begun.generation.id)
        )
        generation = await wait_for_end(stubs, begun.generation.id)
    assert generation.state == State.STATE_CANCELLED
    assert len((await get_bill(sandbox))["entries"]) <= 1
    attempts = generation.attempts
    assert attempts[1].state == Tried.STATE_REFUSED
    assert generation.cost.usd_nanos == attempts[0].cost.usd_nanos


SCHEMA = {
    "components": {
        "schemas": {
            "Input": {
                "type": "object",
                "properties": {
                    "prompt": {"type": "string"},
                    "image": {"type": "string", "format": "uri"},
                },
            },
            "Output": {"type": "string"},
        }
    }
}
ANY = {
    "owner": "acme",
    "name": "any",
    "latest_version": {"id": "1" * 64, "openapi_schema": SCHEMA},
}
PICTURE = "https://example.com/a.png"


def run(given: dict[str, Any], **media: bytes) -> models_pb2.RunModelRequest:
    """A screened run of a model by its own inputs."""
    request = run_model_request("acme/any", options=SCREENED)
    request.input.update(given)
    for name, data in media.items():
        inline = medium_pb2.InlineMedia(data=data, media_type="text/plain")
        request.media[name].media.add(inline=inline)
    return request


@pytest.mark.parametrize(
    ("request_", "expected_text"),
    [
        (run({"prompt": f"{PICTURE} is a cat", "image": PICTURE}), f"{PICTURE} is a cat"),
        (run({"prompt": "http://a cat"}), "http://a cat"),
        (run({"prompt": "data:a cat"}), "data:a cat\n\n"),
        (run({}, image=b"a cat"), "a cat"),
        (run({}, image=b"a cat" + b" " * 300_000), ""),
    ],
    ids=range(5),
)
async def test_the_input_of_a_screening(
    scripted_upstream: ScriptedUpstream,
    open_server: OpenServer,
    request_: models_pb2.RunModelRequest,
    expected_text: str,
) -> None:
    """What begins like a link is a text all the same, and a file of text is read."""
    scripted_upstream.models["acme/any"] = ANY
    scripted_upstream.creates = [says({"id": ID, "status": "succeeded", "output": "unsafe\nS1"})]
    async with open_server(scripted_upstream.url) as (stubs, _):
        if not expected_text:
            error = await rpc_error(stubs.models.RunModel(request_))
            assert fields_of(error) == {"options.screen_prompt"}
            assert not scripted_upstream.posted
            return
        generation = (await stubs.models.RunModel(request_)).generation
    (sent,) = scripted_upstream.posted
    assert sent["input"]["prompt"].strip() == expected_text.strip()
    assert generation.state == State.STATE_FAILED
    assert generation.safety.verdict == verdict_pb2.SafetyVerdict.VERDICT_UNSAFE


async def test_a_request_without_screenable_input(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer
) -> None:
    """It is run, and nobody is told that it is safe."""
    scripted_upstream.models["acme/any"] = ANY
    scripted_upstream.creates = [says({"id": ID, "status": "succeeded", "output": "x"})]
    request = run({"image": PICTURE})
    request.request_id = str(uuid4())
    async with open_server(scripted_upstream.url) as (stubs, _):
        generation = (await stubs.models.RunModel(request)).generation
        again = await stubs.models.RunModel(request)
    assert generation.state == State.STATE_SUCCEEDED
    assert generation.safety.verdict == verdict_pb2.SafetyVerdict.VERDICT_UNSPECIFIED
    assert "no text" in generation.safety.not_checked
    assert again.replayed
    assert again.generation.safety == generation.safety
    assert len(scripted_upstream.posted) == 1


async def test_a_stream_ends_with_its_verdict(sandbox: Sandbox, open_server: OpenServer) -> None:
    """As the generation itself has it; without a check there is none."""
    async with open_server(sandbox.url) as (stubs, _):
        for options in (SCREENED, None):
            request = stream_text_request(prompt="[[tokens=3]] Hello", options=options)
            events = [event async for event in stubs.text.StreamText(request)]
            verdict = events[-1].completed.safety.verdict
            assert (verdict == verdict_pb2.SafetyVerdict.VERDICT_SAFE) is (options is SCREENED)


async def test_a_negative_prompt_is_screened(sandbox: Sandbox, open_server: OpenServer) -> None:
    """It says what to draw as well as any other: some models draw it."""
    request = image_request(prompt="A cat", negative_prompt="[[unsafe=S1]]", options=SCREENED)
    async with open_server(sandbox.url) as (stubs, _):
        generation = (await stubs.image.GenerateImage(request)).generation
    assert [harm.code for harm in generation.safety.categories] == ["S1"]
    assert "CONTENT_BLOCKED" in str(generation.error)
