"""Calls beyond the account's rate wait, and are told where and until when."""

from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import generation_pb2, generations_pb2, text_pb2
from mediagate_sandbox.server import Sandbox

from .stubs import OpenServer

State = generation_pb2.Generation


async def test_who_waits_is_told_the_place_and_the_time(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Two creates a minute: those behind have places that rise, and times to match."""
    async with open_server(sandbox.url, creates_per_minute=2) as (stubs, _):
        names, told = [], text_pb2.TextStatus()
        for number in range(5):
            request = text_pb2.GenerateTextRequest(prompt=f"Hello {number}", wait=Duration())
            names.append((await stubs.text.GenerateText(request)).generation.id)
        found = [
            (
                await stubs.generations.GetGeneration(generations_pb2.GetGenerationRequest(id=name))
            ).generation
            for name in names
        ]
        call = stubs.text.StreamText(text_pb2.StreamTextRequest(prompt="last"))
        async for event in call:
            if event.status.queue_position:
                told = event.status
                break
        call.cancel()
    waiting = [one for one in found if one.state == State.STATE_QUEUED]
    places = [one.queue_position for one in waiting]
    assert len(waiting) >= 3
    assert places == list(range(1, len(places) + 1))
    times = [one.expected_start_time.ToDatetime() for one in waiting]
    assert times == sorted(times)
    assert all(at > one.create_time.ToDatetime() for one, at in zip(waiting, times, strict=True))
    assert told.queue_position == len(places) + 1
    assert told.state == State.STATE_QUEUED
    assert told.expected_wait.ToMilliseconds() > 0
    assert not any(one.HasField("queue_position") for one in found if one not in waiting)
