"""Upstream's limit is met: the caller waits, told its place and when it starts, and is served."""

import asyncio
from itertools import pairwise

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import generation_pb2, generations_pb2, text_pb2
from tests.builders import stream_text_request, text_request
from tests.grpc_errors import reason_of, retry_after

from .scripted_upstream import ID, ScriptedUpstream, says
from .stubs import Stubs

State = generation_pb2.Generation
DONE = {"id": ID, "status": "succeeded", "output": ["ok"], "metrics": {}}
LIMIT = {"detail": "Request was throttled. Your rate limit resets in ~1s.", "status": 429}


def text(seconds: int) -> text_pb2.StreamTextRequest:
    """A request for a text that may take so long."""
    return stream_text_request(prompt="Hello", model="llama-70b", timeout=Duration(seconds=seconds))


async def test_a_stream_reports_queue_position_and_wait(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """For each refusal a status of the attempt that waits."""
    scripted_upstream.creates = [says(LIMIT, 429), says(LIMIT, 429), says(DONE, 201)]
    statuses, last = [], text_pb2.StreamTextResponse()
    async for last in stubs.text.StreamText(text(60)):
        if last.status.HasField("queue_position"):
            statuses.append(last.status)
    assert last.HasField("completed")
    assert [status.attempt for status in statuses] == [2, 3]
    assert {(status.state, status.queue_position) for status in statuses} == {
        (State.STATE_QUEUED, 1)
    }
    assert all(0.5 < status.expected_wait.ToMilliseconds() / 1000 <= 1.2 for status in statuses)


async def test_a_watch_reports_queue_position_and_start(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """While it waits it is QUEUED, and starts after the wait that upstream has told."""
    scripted_upstream.creates = [says(LIMIT, 429), says(DONE, 201)]
    request = text_request(prompt="Hello", wait=Duration())
    begun = (await stubs.text.GenerateText(request)).generation
    seen = [
        event.generation
        async for event in stubs.generations.WatchGeneration(
            generations_pb2.WatchGenerationRequest(id=begun.id)
        )
    ]
    waiting = [generation for generation in seen if generation.HasField("queue_position")]
    assert waiting
    for generation in waiting:
        start = (
            generation.expected_start_time.ToDatetime()
            - generation.attempts[-1].create_time.ToDatetime()
        )
        assert (generation.state, generation.queue_position) == (State.STATE_QUEUED, 1)
        assert 0.5 < start.total_seconds() < 2
    assert seen[-1].state == State.STATE_SUCCEEDED


async def test_many_waiters_behind_one_refusal_send_one_probe(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """Ten that come while the account waits add no POST: one probe, and then one each."""
    scripted_upstream.creates = [says(LIMIT, 429), says(DONE, 201)]
    first = asyncio.ensure_future(stubs.text.GenerateText(text_request(prompt="1")))
    await scripted_upstream.received(1)
    crowd = [stubs.text.GenerateText(text_request(prompt=f"Hello {n}")) for n in range(10)]
    answers = [await first, *[await call for call in crowd]]
    assert {response.generation.state for response in answers} == {State.STATE_SUCCEEDED}
    assert len(scripted_upstream.posted) == 12
    assert sum(len(response.generation.attempts) for response in answers) == 12


async def test_a_hold_beyond_the_timeout_is_unavailable(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """UNAVAILABLE with the time to come again; nothing was paid, and the id is free."""
    scripted_upstream.creates = [says(LIMIT | {"retry_after": 2}, 429)]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stubs.text.StreamText(text(5)):
            pass
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(caught.value) == "UPSTREAM_UNAVAILABLE"
    assert retry_after(caught.value)
    assert len(scripted_upstream.posted) == 3


async def test_a_reduced_rate_for_low_credit_is_respected(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """Those behind are told when six a minute come to them, not when ten a second would."""
    low = "Your rate is reduced to 6 requests per minute with a burst of 1 requests."
    scripted_upstream.creates = [
        says(LIMIT | {"detail": low, "retry_after": 5}, 429),
        says(DONE, 201),
    ]
    names = []
    for number in range(4):
        request = text_request(prompt=f"Hello {number}", wait=Duration())
        names.append((await stubs.text.GenerateText(request)).generation.id)
        await scripted_upstream.received(1)
    waits: list[float] = []
    async with asyncio.timeout(4):
        while sorted(waits) != waits or len(waits) < 4:
            responses = [
                await stubs.generations.GetGeneration(generations_pb2.GetGenerationRequest(id=name))
                for name in names
            ]
            generations = [
                response.generation for response in responses if response.generation.queue_position
            ]
            generations.sort(key=lambda generation: generation.queue_position)
            waits = [
                generation.expected_start_time.ToDatetime().timestamp()
                for generation in generations
            ]
    assert all(9.5 < b - a < 10.5 for a, b in pairwise(waits))
    assert len(scripted_upstream.posted) == 1
