"""Connections that are cut for their age: no unary call fails, watches and streams go on."""

import asyncio
from uuid import uuid4

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import generation_pb2, generations_pb2, options_pb2, text_pb2, video_pb2
from mediagate_sandbox.server import Sandbox

from .gates import Opener, Stubs

State = generation_pb2.Generation
YOUNG = {"connection_age": 1.0, "connection_grace": 0.5}


async def watched(stubs: Stubs, name: str) -> tuple[list[tuple[int, int]], list[grpc.StatusCode]]:
    """Every change of a generation, over as many watches as it takes, and what cut them."""
    seen: list[tuple[int, int]] = []
    cuts: list[grpc.StatusCode] = []
    while True:
        after = seen[-1][0] if seen else 0
        watch = stubs.generations.WatchGeneration(
            generations_pb2.WatchGenerationRequest(id=name, after_sequence=after)
        )
        try:
            async for change in watch:
                seen += [(change.sequence, change.generation.state)]
        except grpc.aio.AioRpcError as error:
            cuts.append(error.code())
        else:
            return seen, cuts


async def test_watch_and_text_go_on_over_new_connections(
    sandbox: Sandbox, open_gate: Opener
) -> None:
    """A watch longer than any connection, a text cut in its midst, and calls all the while."""
    async with open_gate(sandbox.url, **YOUNG) as (stubs, _):
        begun = await stubs.video.GenerateVideo(
            video_pb2.GenerateVideoRequest(prompt="[[run_ms=4000]] A dog")
        )
        watching = asyncio.create_task(watched(stubs, begun.generation.id))
        request = text_pb2.StreamTextRequest(
            prompt="[[tokens=100 interval_ms=40]] Hello",
            request_id=str(uuid4()),
            options=options_pb2.GenerationOptions(disconnect_grace=Duration(seconds=60)),
        )
        text, done = "", False
        cuts: list[grpc.StatusCode] = []
        while not done:
            request.after_sequence = len(text.encode())
            try:
                async for event in stubs.text.StreamText(request):
                    text += event.delta.text
                    done = event.HasField("completed")
            except grpc.aio.AioRpcError as error:
                cuts.append(error.code())
            answer = await stubs.generations.GetGeneration(
                generations_pb2.GetGenerationRequest(id=begun.generation.id)
            )
            assert answer.generation.id == begun.generation.id
        listed = await stubs.generations.ListGenerations(generations_pb2.ListGenerationsRequest())
        seen, watches = await watching
    assert set(cuts) == {grpc.StatusCode.UNAVAILABLE}
    assert set(watches) == {grpc.StatusCode.UNAVAILABLE}
    assert text == next(one.text.text for one in listed.generations if one.text.text)
    sequences = [sequence for sequence, _ in seen]
    assert sequences == sorted(set(sequences))
    assert seen[-1][1] == State.STATE_SUCCEEDED


async def test_unary_calls_never_notice(sandbox: Sandbox, open_gate: Opener) -> None:
    """Hundreds of calls over several connections, none refused."""
    async with open_gate(sandbox.url, **YOUNG) as (stubs, _):
        video = await stubs.video.GenerateVideo(
            video_pb2.GenerateVideoRequest(prompt="[[run_ms=3000]] A dog")
        )
        watching = asyncio.create_task(watched(stubs, video.generation.id))
        while not watching.done():
            await stubs.generations.ListGenerations(generations_pb2.ListGenerationsRequest())
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stubs.generations.GetGeneration(
                    generations_pb2.GetGenerationRequest(id="gen_none")
                )
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        _, cuts = await watching
    assert set(cuts) == {grpc.StatusCode.UNAVAILABLE}
