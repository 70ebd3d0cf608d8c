"""Calls beyond the account's rate wait, and are told where and until when."""

from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import generation_pb2, text_pb2
from mediagate_sandbox.server import Sandbox
from tests.builders import stream_text_request, text_request

from .generation_waits import get_generation
from .stubs import OpenServer

State = generation_pb2.Generation


async def test_queued_callers_get_their_position_and_start_time(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Two creates a minute: those behind have places that rise, and times to match."""
    async with open_server(sandbox.url, creates_per_minute=2) as (stubs, _):
        names, status = [], text_pb2.TextStatus()
        for number in range(5):
            request = text_request(prompt=f"Hello {number}", wait=Duration())
            names.append((await stubs.text.GenerateText(request)).generation.id)
        generations = [(await get_generation(stubs, name)) for name in names]
        call = stubs.text.StreamText(stream_text_request(prompt="last"))
        async for event in call:
            if event.status.queue_position:
                status = event.status
                break
        call.cancel()
    waiting = [generation for generation in generations if generation.state == State.STATE_QUEUED]
    positions = [generation.queue_position for generation in waiting]
    assert len(waiting) >= 3
    assert positions == list(range(1, len(positions) + 1))
    times = [generation.expected_start_time.ToDatetime() for generation in waiting]
    assert times == sorted(times)
    assert all(
        at > generation.create_time.ToDatetime()
        for generation, at in zip(waiting, times, strict=True)
    )
    assert status.queue_position == len(positions) + 1
    assert status.state == State.STATE_QUEUED
    assert status.expected_wait.ToMilliseconds() > 0
    assert not any(
        generation.HasField("queue_position")
        for generation in generations
        if generation not in waiting
    )
