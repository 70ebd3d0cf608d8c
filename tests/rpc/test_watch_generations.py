"""WatchGenerations: one stream for everything that a filter matches, on from any sequence."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from mediagate.v1 import generation_pb2, generations_pb2
from mediagate_sandbox.server import Sandbox
from mediagate_server.api.convert import responses
from tests.builders import image_request, text_request
from tests.grpc_errors import reason_of, rpc_error

from .stubs import OpenServer, Stubs

State = generation_pb2.Generation
Response = generations_pb2.WatchGenerationsResponse


async def watching(stubs: Stubs, after: int = 0, **filters: Any) -> Any:
    """A watch that has begun: no change from now on is missed."""
    call = stubs.generations.WatchGenerations(
        generations_pb2.WatchGenerationsRequest(
            filter=generations_pb2.GenerationFilter(**filters), after_sequence=after
        )
    )
    await call.initial_metadata()
    return call


async def until(call: AsyncIterator[Response], ends: int) -> list[Response]:
    """What is told up to the end of so many generations."""
    seen = []
    async for change in call:
        seen.append(change)
        ends -= change.generation.state >= State.STATE_SUCCEEDED
        if not ends:
            break
    return seen


async def text(stubs: Stubs, label: str) -> str:
    """Make a text; its generation's id."""
    answer = await stubs.text.GenerateText(text_request(prompt="Hello", labels={"n": label}))
    return answer.generation.id


async def test_matching_changes_are_reported_in_order(sandbox_stubs: Stubs) -> None:
    """Sequences grow, each generation is told up to its end, and no other is."""
    watch = await watching(sandbox_stubs, labels={"n": "1"})
    tasks = asyncio.gather(*(text(sandbox_stubs, str(number % 2)) for number in range(6)))
    seen = await until(watch, 3)
    ids = await tasks
    assert {change.generation.id for change in seen} == set(ids[1::2])
    sequences = [change.sequence for change in seen]
    assert sequences == sorted(set(sequences))


async def test_a_watch_resumes_from_any_sequence(sandbox: Sandbox, open_server: OpenServer) -> None:
    """What happened while nobody watched is told later, also by the next server; nothing twice."""
    async with open_server(sandbox.url) as (stubs, _):
        watch = await watching(stubs)
        first = await text(stubs, "a")
        seen = await until(watch, 1)
        watch.cancel()
        second = await text(stubs, "b")
    async with open_server(sandbox.url) as (stubs, _):
        watch = await watching(stubs, seen[-1].sequence)
        later = await until(watch, 1)
        assert {change.generation.id for change in seen} == {first}
        assert {change.generation.id for change in later} == {second}
        assert later[0].sequence > seen[-1].sequence


async def test_a_state_filter_reports_generations_that_reach_it(sandbox_stubs: Stubs) -> None:
    """Only what has succeeded."""
    watch = await watching(sandbox_stubs, states=[State.STATE_SUCCEEDED])
    ids = {await text(sandbox_stubs, "a"), await text(sandbox_stubs, "b")}
    image = await sandbox_stubs.image.GenerateImage(image_request(prompt="A cat"))
    seen = await until(watch, 3)
    assert {change.generation.id for change in seen} == ids | {image.generation.id}
    assert {change.generation.state for change in seen} == {State.STATE_SUCCEEDED}


async def test_a_future_sequence_is_out_of_range(sandbox_stubs: Stubs) -> None:
    """OUT_OF_RANGE rather than silence for ever."""
    error = await rpc_error((await watching(sandbox_stubs, 10**12)).read())
    assert error.code() is grpc.StatusCode.OUT_OF_RANGE
    assert reason_of(error) == "STREAM_EXPIRED"


async def test_a_change_is_serialized_once_for_all_watchers(
    sandbox_stubs: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many: each is sent the same, and one more costs the server no more than sending."""
    ids: list[str] = []

    def generation(record: Any, *rest: Any, **more: Any) -> generation_pb2.Generation:
        ids.append(record.state.name)
        return show(record, *rest, **more)

    show = responses.encode_generation
    monkeypatch.setattr(responses, "encode_generation", generation)
    watches = [await watching(sandbox_stubs) for _ in range(30)]
    await text(sandbox_stubs, "a")
    seen = await asyncio.gather(*(until(watch, 1) for watch in watches))
    assert all(changes[-1] == seen[0][-1] for changes in seen)
    # Who reads slowly may be told several changes as one, by a read of its own: never all of them.
    assert len(ids) < len(watches)


async def test_draining_ends_a_watch(sandbox: Sandbox, open_server: OpenServer) -> None:
    """UNAVAILABLE, so that the caller goes on with another server."""
    async with open_server(sandbox.url) as (stubs, server):
        watch = await watching(stubs)
        reading = asyncio.create_task(watch.read())
        await server.__aexit__(None, None, None)
        error = await rpc_error(reading)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(error) == "DRAINING"
