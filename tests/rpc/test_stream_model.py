"""StreamModel through the whole server: any model's text as it comes, any output at the end."""

from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from mediagate.v1 import generation_pb2, models_pb2
from tests.grpc_errors import fields_of, reason_of, rpc_error

from .scripted_upstream import ScriptedUpstream, prediction, says, streams, token
from .stubs import Stubs

NAME = "6f7a3c1e-0000-4000-8000-000000000003"
LLM = "snowflake/snowflake-arctic-instruct"
PIECES = {
    "type": "array",
    "items": {"type": "string"},
    "x-cog-array-type": "iterator",
    "x-cog-array-display": "concatenate",
}
STREAMING = {
    "owner": "o",
    "name": "n",
    "is_official": True,
    "latest_version": {
        "id": "1" * 64,
        "openapi_schema": {"components": {"schemas": {"Input": {}, "Output": PIECES}}},
    },
}


def run(model: str, given: Any = None, **fields: Any) -> models_pb2.StreamModelRequest:
    """A request for a streamed run."""
    return ParseDict(
        {"model": model, "input": given or {}}, models_pb2.StreamModelRequest(**fields)
    )


async def events(
    stubs: Stubs, request: models_pb2.StreamModelRequest, received: list[Any] | None = None
) -> list[Any]:
    """All events of a stream, as far as it came."""
    received = [] if received is None else received
    async for event in stubs.models.StreamModel(request):
        received += [event]
    return received


def text_of(received: list[Any]) -> str:
    """All deltas, joined."""
    return "".join(event.delta.text for event in received)


async def test_a_text_is_streamed_while_it_is_generated(sandbox_stubs: Stubs) -> None:
    """Started, then deltas in order, then the generation with the whole of it."""
    received = await events(sandbox_stubs, run(LLM, {"prompt": "[[tokens=30 interval_ms=2]]Hi"}))
    kinds = [event.WhichOneof("event") for event in received]
    assert kinds[0] == "started"
    assert kinds[-1] == "completed"
    assert kinds.count("delta") > 1
    assert received[0].started.model == LLM
    generation = received[-1].completed.generation
    assert generation.state == generation_pb2.Generation.STATE_SUCCEEDED
    assert generation.raw.value.string_value == text_of(received)
    assert received[-1].sequence == len(text_of(received).encode())
    assert generation.usage.output_tokens == 30


async def test_text_is_streamed_before_the_run_ends(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """By upstream's own stream, cut and gone on with like any other."""
    scripted_upstream.models["o/n"] = STREAMING
    scripted_upstream.creates = [says(prediction(scripted_upstream, "starting"), 201)]
    scripted_upstream.gets = [
        says(prediction(scripted_upstream, "processing")),
        says(prediction(scripted_upstream, "succeeded", output=["a", "b", "c"], metrics={})),
    ]
    scripted_upstream.streams = [
        streams(token("a", 0), token("b", 1)),
        streams(token("b", 1), token("c", 2), "event: done\ndata: {}\n\n"),
    ]
    received = await events(stubs, run("o/n", request_id=NAME))
    assert text_of(received) == "abc"
    assert scripted_upstream.last_event_ids == [None, "1690212292:1"]
    again = await events(stubs, run("o/n", request_id=NAME, after_sequence=1))
    assert again[0].started.replayed
    assert text_of(again) == "bc"
    assert again[-1].completed.generation.raw.value.string_value == "abc"
    assert len(scripted_upstream.posted) == 1


async def test_an_image_comes_at_the_end(sandbox_stubs: Stubs) -> None:
    """A model that does not stream tells how it stands, then gives its output."""
    request = run("nightmareai/real-esrgan", {"image": "https://example.com/a.png", "scale": 2})
    received = await events(sandbox_stubs, request)
    kinds = [event.WhichOneof("event") for event in received]
    assert (kinds[0], kinds[-1]) == ("started", "completed")
    assert "delta" not in kinds
    assert received[-1].completed.generation.raw.value.string_value == "media:0"
    assert {event.sequence for event in received} == {0}


async def test_a_failure_ends_the_stream_with_its_status(sandbox_stubs: Stubs) -> None:
    """After the text that there was."""
    prompt = "[[say=a|b|c|d]] [[fail=E1001: out of memory]] [[fail_after=2]]"
    received: list[Any] = []
    error = await rpc_error(events(sandbox_stubs, run(LLM, {"prompt": prompt}), received))
    assert reason_of(error) == "RUN_FAILED"
    assert text_of(received) == "ab"


@pytest.mark.parametrize(
    ("request_", "reason", "field"),
    [
        (run(LLM, {"promt": "x"}), "INVALID_REQUEST", "input.promt"),
        (run("nobody/nothing"), "MODEL_NOT_FOUND", "model"),
        (run(LLM, after_sequence=3), "INVALID_REQUEST", "request_id"),
        (run(LLM, {"prompt": "x"}, request_id="7"), "INVALID_REQUEST", "request_id"),
    ],
)
async def test_bad_requests_are_refused_by_field(
    sandbox_stubs: Stubs, request_: models_pb2.StreamModelRequest, reason: str, field: str
) -> None:
    """Like those of RunModel and StreamText."""
    error = await rpc_error(events(sandbox_stubs, request_))
    assert reason_of(error) == reason
    assert fields_of(error) == {field}


async def test_streamed_and_unary_runs_do_not_share_request_ids(sandbox_stubs: Stubs) -> None:
    """Another rpc is another request."""
    await events(sandbox_stubs, run(LLM, {"prompt": "x"}, request_id=NAME))
    request = ParseDict(
        {"model": LLM, "input": {"prompt": "x"}}, models_pb2.RunModelRequest(request_id=NAME)
    )
    error = await rpc_error(sandbox_stubs.models.RunModel(request))
    assert reason_of(error) == "REQUEST_ID_REUSED"
