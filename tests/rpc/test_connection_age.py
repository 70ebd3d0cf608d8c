"""Connections that grow old: their clients are asked to connect anew, and no call is cut."""

import asyncio
from uuid import uuid4

import pytest
from pydantic import ValidationError

from mediagate.v1 import generation_pb2, generations_pb2, text_pb2
from mediagate_sandbox.server import Sandbox
from mediagate_server.api.server_options import server_options
from mediagate_server.config import Settings
from tests.api.http2_peer import Peer
from tests.builders import image_request, stream_text_request, video_request

from .generation_waits import get_bill
from .stubs import OpenServer, Stubs

State = generation_pb2.Generation
YOUNG = {"connection_age": 1.0}
RUN = "[[run_ms=4000]] A dog"
"""Several times as long as a connection lives, the tenth added that gRPC may give it more."""


async def until_old(address: str) -> None:
    """Until a connection that is as old as this moment has been sent away."""
    async with await Peer.of(address) as peer:
        with pytest.raises(ConnectionError, match="max_age"):
            await peer.receive(-1)


async def streamed(stubs: Stubs) -> text_pb2.StreamTextResponse:
    """The last event of a text of four seconds; it asks for no grace and comes back from no cut."""
    last = text_pb2.StreamTextResponse()
    async for event in stubs.text.StreamText(
        stream_text_request(prompt="[[tokens=100 interval_ms=40]] Hello", request_id=str(uuid4()))
    ):
        last = event
    return last


async def watched(stubs: Stubs) -> generation_pb2.Generation:
    """A video as the one watch of it saw it last."""
    begun = await stubs.video.GenerateVideo(video_request(prompt=RUN))
    last = begun.generation
    async for change in stubs.generations.WatchGeneration(
        generations_pb2.WatchGenerationRequest(id=last.id)
    ):
        last = change.generation
    return last


async def test_paid_calls_outlive_their_connection(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Streams, unary calls and watches of raw stubs: none is cut, cancelled or made twice."""
    async with open_server(sandbox.url, **YOUNG) as (stubs, server):
        drawing = stubs.image.GenerateImage(image_request(prompt=RUN))
        reading = asyncio.create_task(streamed(stubs))
        watching = asyncio.create_task(watched(stubs))
        while (await get_bill(sandbox))["entries"] == []:
            pass
        for _ in range(2):
            await until_old(server.grpc_address)
            assert not (reading.done() and watching.done())
            # A new call is taken on a new connection, whatever runs on the old one.
            await stubs.generations.ListGenerations(generations_pb2.ListGenerationsRequest())
        text, video = await reading, await watching
        image = (await drawing).generation
    assert text.HasField("completed")
    assert video.state == image.state == State.STATE_SUCCEEDED
    assert len((await get_bill(sandbox))["entries"]) == 3


async def test_unary_calls_survive_connection_age(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Hundreds of calls over several connections, none refused."""
    async with open_server(sandbox.url, **YOUNG) as (stubs, server):
        ages = asyncio.create_task(until_old(server.grpc_address))
        for _ in range(2):
            while not ages.done():
                await stubs.generations.ListGenerations(generations_pb2.ListGenerationsRequest())
            await ages
            ages = asyncio.create_task(until_old(server.grpc_address))
        ages.cancel()


def test_the_connection_grace_exceeds_any_paid_call() -> None:
    """24 h is the longest `timeout` there is; a shorter grace is refused by its name."""
    longest = 24 * 3600 * 1000
    assert dict(server_options(Settings()))["grpc.max_connection_age_grace_ms"] > longest
    with pytest.raises(ValidationError, match="connection_grace"):
        Settings(connection_grace=300.0)
