"""Responses as recorded of the real API, or worse: the server tells the truth about each."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import generation_pb2, text_pb2
from tests.builders import image_request, stream_text_request, text_request
from tests.grpc_errors import reason_of, rpc_error

from .scripted_upstream import (
    ID,
    ScriptedUpstream,
    hangs_up,
    prediction,
    says,
    stays_open,
    streams,
    token,
)
from .stubs import Stubs

State = generation_pb2.Generation
METRICS = {"input_token_count": 12, "output_token_count": 34, "predict_time": 1.25}


def text(**options: Any) -> text_pb2.StreamTextRequest:
    """A request for a text."""
    return stream_text_request(prompt="Hello", model="llama-70b", **options)


async def read(call: Any) -> tuple[str, Any]:
    """All deltas of a stream, joined, and its last event."""
    pieces, last = [], None
    async for event in call:
        last = event
        pieces.append(event.delta.text)
    return "".join(pieces), last


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"output": None, "metrics": None, "logs": None, "urls": None},
        {"created_at": "2024-04-18T18:58:19.14Z", "completed_at": "2024-04-18T18:58:21.123456789Z"},
        {"created_at": "2023-11-27T17:07:13.0Z", "started_at": "2023-11-27T17:07:13.12345Z"},
        {"version": "hidden", "model": "replicate/lifeboat-70b", "source": "api"},
        {"urls": {"get": "https://elsewhere.example/p", "cancel": None}},
    ],
)
async def test_a_create_that_answers_processing_is_followed_to_its_end(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, odd: dict[str, Any]
) -> None:
    """Complete output under `processing` is no end; whatever is missing or odd does not matter."""
    complete = {"id": ID, "status": "processing", "output": ["Hel", "lo"], **odd}
    scripted_upstream.creates = [says(complete, 201)]
    done = {"id": ID, "status": "succeeded", "output": ["Hel", "lo"], "metrics": METRICS}
    scripted_upstream.gets = [says(complete), says({**odd, **done})]
    answer = await stubs.text.GenerateText(text_request(prompt="Hello"))
    generation = answer.generation
    assert generation.state == State.STATE_SUCCEEDED
    assert generation.text.text == "Hello"
    assert generation.model == "meta/meta-llama-3-70b-instruct"
    assert generation.usage.output_tokens == 34
    assert generation.cost.usd_nanos == 12 * 650 + 34 * 2750
    assert "lifeboat" not in str(answer)
    assert len(scripted_upstream.posted) == 1


async def test_a_create_that_answers_succeeded_is_terminal(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """No poll is needed where the create itself is terminal."""
    done = {"id": ID, "status": "succeeded", "output": ["a", "b"], "metrics": METRICS}
    scripted_upstream.creates = [says(done, 201)]
    got, last = await read(stubs.text.StreamText(text()))
    assert got == "ab"
    assert last.completed.usage.input_tokens == 12
    assert scripted_upstream.get_count == 0


async def test_an_image_as_a_data_uri_is_accepted(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """Sync answers once held data URIs; a client must take both forms."""
    uri = "data:image/png;base64,iVBORw0KGgo="
    done = {"id": ID, "status": "succeeded", "output": [uri], "metrics": {"image_count": 1}}
    scripted_upstream.creates = [says(done, 201)]
    answer = await stubs.image.GenerateImage(image_request(prompt="x", model="flux-schnell"))
    (medium,) = answer.generation.images.images
    assert (medium.uri, medium.media_type) == (uri, "image/png")


async def test_a_broken_stream_resumes_from_the_last_event_id(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """Closed without `done`, and the server even repeats: nothing is lost, nothing comes twice."""
    scripted_upstream.creates = [says(prediction(scripted_upstream, "starting"), 201)]
    scripted_upstream.gets = [
        says(prediction(scripted_upstream, "processing")),
        says(prediction(scripted_upstream, "succeeded", output=["a", "b", "c"], metrics=METRICS)),
    ]
    scripted_upstream.streams = [
        streams(": hi\n\n", token("a", 0), token("b", 1)),
        streams(token("b", 1), token("c", 2), "event: done\ndata: {}\n\n"),
    ]
    got, last = await read(stubs.text.StreamText(text()))
    assert got == "abc"
    assert last.WhichOneof("event") == "completed"
    assert scripted_upstream.last_event_ids == [None, "1690212292:1"]


async def test_a_stream_without_ids_is_completed_from_the_output(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """Without ids a second opening could repeat text, so the rest comes from the record."""
    scripted_upstream.creates = [says(prediction(scripted_upstream, "starting"), 201)]
    scripted_upstream.gets = [
        says(prediction(scripted_upstream, "succeeded", output=["ab", "cd"], metrics=METRICS))
    ]
    scripted_upstream.streams = [streams("event: output\ndata: abc\n\n")]
    got, _ = await read(stubs.text.StreamText(text()))
    assert got == "abcd"
    assert len(scripted_upstream.last_event_ids) == 1


async def test_a_broken_stream_of_a_failed_run_fails(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """What came is kept, and the status says that it failed; upstream's words are not passed on."""
    scripted_upstream.creates = [says(prediction(scripted_upstream, "starting"), 201)]
    failed = prediction(scripted_upstream, "failed", error="CUDA out of memory at node-7 (E1001)")
    scripted_upstream.gets = [says(failed)]
    scripted_upstream.streams = [streams(token("half", 0))]
    error = await rpc_error(read(stubs.text.StreamText(text())))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(error) == "RUN_FAILED"
    assert "node-7" not in str(error)


async def test_a_stream_that_contradicts_the_record_fails(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """The stream was cut and the record holds another text: the pieces must not pass for it."""
    scripted_upstream.creates = [says(prediction(scripted_upstream, "starting"), 201)]
    scripted_upstream.gets = [
        says(prediction(scripted_upstream, "succeeded", output=["other"], metrics=METRICS))
    ]
    scripted_upstream.streams = [streams(token("half", 0))]
    error = await rpc_error(read(stubs.text.StreamText(text())))
    assert error.code() is grpc.StatusCode.DATA_LOSS
    assert reason_of(error) == "STREAM_INTERRUPTED"


async def test_unusual_characters_are_preserved(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """Line separators that are none in SSE, and tokens that look like links."""
    odd = ["x\u2028y", "\x85z\x0b\x1c", "https:", "data:", "é"]
    scripted_upstream.creates = [says(prediction(scripted_upstream, "starting"), 201)]
    scripted_upstream.gets = [
        says(prediction(scripted_upstream, "succeeded", output=odd, metrics=METRICS))
    ]
    events = [token(piece, number) for number, piece in enumerate(odd)]
    scripted_upstream.streams = [streams(*events, "event: done\ndata: {}\n\n")]
    got, _ = await read(stubs.text.StreamText(text()))
    assert got == "".join(odd)


async def test_a_lost_create_response_causes_no_second_create(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """The connection broke after the POST: it may run, so it is never sent again.

    Its callers wait for it to be found, for as long as its timeout allows; those that come later
    are told at once.
    """
    scripted_upstream.creates = [hangs_up()]
    request = text(timeout=Duration(seconds=5))
    request.request_id = "6f9b8f3e-3a39-4c0e-9df4-0b1c6a0e8a01"
    for _ in range(2):
        error = await rpc_error(read(stubs.text.StreamText(request)))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert reason_of(error) == "SUBMIT_UNCONFIRMED"
    assert len(scripted_upstream.posted) == 1


async def test_a_throttled_create_is_a_new_attempt(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """429 is a definite no: the next POST is a new attempt, and the first one cost nothing."""
    throttled = {"detail": "Request was throttled.", "status": 429, "retry_after": 0}
    done = {"id": ID, "status": "succeeded", "output": ["ok"], "metrics": METRICS}
    scripted_upstream.creates = [says(throttled, 429), says(done, 201)]
    answer = await stubs.text.GenerateText(text_request(prompt="Hello"))
    first, second = answer.generation.attempts
    assert first.state == generation_pb2.Attempt.STATE_REFUSED
    assert first.cost.usd_nanos == 0
    assert second.state == generation_pb2.Attempt.STATE_SUCCEEDED
    assert answer.generation.cost.usd_nanos == second.cost.usd_nanos


async def test_refused_input_names_the_field(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """422: nothing ran; the request_id is free again."""
    refusal = {
        "title": "Input validation failed",
        "detail": "- input.top_k: Must be less than or equal to 100\n",
        "status": 422,
        "invalid_fields": [
            {
                "type": "max",
                "field": "input.top_k",
                "description": "Must be less than or equal to 100",
            }
        ],
    }
    done = {"id": ID, "status": "succeeded", "output": ["ok"], "metrics": METRICS}
    scripted_upstream.creates = [says(refusal, 422), says(done, 201)]
    request = text_request(prompt="Hello", request_id="6f9b8f3e-3a39-4c0e-9df4-0b1c6a0e8a02")
    error = await rpc_error(stubs.text.GenerateText(request))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(error) == "INPUT_REJECTED"
    again = await stubs.text.GenerateText(request)
    assert not again.replayed
    assert again.generation.state == State.STATE_SUCCEEDED


async def test_the_token_never_appears_in_errors(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """A refused account is the operator's affair: no token, no words of upstream's."""
    body = {"title": "Unauthenticated", "detail": "r8_test_token is not valid", "status": 401}
    scripted_upstream.creates = [says(body, 401)]
    error = await rpc_error(stubs.text.GenerateText(text_request(prompt="Hello")))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(error) == "UPSTREAM_ACCOUNT"
    assert "r8_" not in str(error)
    assert scripted_upstream.headers[0]["Authorization"] == "Bearer r8_test_token"


async def test_the_last_caller_to_leave_cancels_upstream(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """Killed in mid-stream, with no grace: upstream is told at once."""
    scripted_upstream.creates = [says(prediction(scripted_upstream, "starting"), 201)]
    scripted_upstream.gets = [says(prediction(scripted_upstream, "processing"))]
    scripted_upstream.streams = [stays_open(token("a", 0), until=scripted_upstream.cancelled)]
    request = text()
    request.options.disconnect_grace.FromSeconds(0)
    call = stubs.text.StreamText(request)
    async for event in call:
        if event.delta.text:
            break
    call.cancel()
    async with asyncio.timeout(5):
        await scripted_upstream.cancelled.wait()


async def test_one_disconnect_of_fifty_cancels_nothing(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """As long as one caller is attached the generation runs on, and all get all of it."""
    go_on = asyncio.Event()
    scripted_upstream.creates = [says(prediction(scripted_upstream, "starting"), 201)]
    scripted_upstream.gets = [
        says(prediction(scripted_upstream, "succeeded", output=["a"], metrics=METRICS))
    ]
    scripted_upstream.streams = [
        stays_open(token("a", 0), "event: done\ndata: {}\n\n", until=go_on)
    ]
    scripted_upstream.streams = [stays_open(token("a", 0), until=go_on)]
    request = text()
    request.request_id = "6f9b8f3e-3a39-4c0e-9df4-0b1c6a0e8a03"
    calls = [stubs.text.StreamText(request) for _ in range(50)]
    for call in calls:
        async for event in call:
            if event.delta.text:
                break
    calls[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await calls[0].read()
    go_on.set()
    for call in calls[1:]:
        _, last = await read(call)
        assert last.WhichOneof("event") == "completed"
    assert not scripted_upstream.cancelled.is_set()
    assert len(scripted_upstream.posted) == 1


async def test_an_upstream_that_says_the_same_of_all_is_still_followed(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """A server that plays back one recording tells nothing apart but the ids."""
    complete = {"id": ID, "status": "processing", "output": None}
    done = {"id": ID, "status": "succeeded", "output": ["ok"], "metrics": METRICS}
    scripted_upstream.creates = [says(complete, 201)]
    scripted_upstream.gets = [says(complete), says(done)]
    for _ in range(3):
        answer = await stubs.text.GenerateText(text_request(prompt="Hello"))
        assert answer.generation.state == State.STATE_SUCCEEDED
        assert answer.generation.text.text == "ok"
