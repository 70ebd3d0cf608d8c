"""Calls that are answered at once pass where streams and waits have filled their connections."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from mediagate.v1.generations_pb2 import GetGenerationResponse
from mediagate_client import AsyncClient, Client

from .sample_generations import DONE
from .scripted_server import HeldCall, ScriptedServer, open_scripted_server
from .stream_events import started

ROOM = 3
"""Streams that a connection of this server has room for; a real one's has 500."""


@pytest.fixture
def narrow() -> Iterator[ScriptedServer]:
    with open_scripted_server(max_concurrent_streams=ROOM) as server:
        yield server


def filled(server: ScriptedServer) -> None:
    """Every stream and every watch says nothing for ever."""
    for _ in range(ROOM):
        server.plays("StreamText", started(), HeldCall())
        server.plays("WatchGeneration", HeldCall())
    server.plays("GetGeneration", GetGenerationResponse(generation=DONE))


async def test_a_cancel_passes_silent_streams_on_asyncio(narrow: ScriptedServer) -> None:
    """And one whose connection is full of watches."""
    filled(narrow)
    async with AsyncClient(narrow.target, read_timeout=10) as client:
        streams = [client.stream_text("x") for _ in range(ROOM)]
        watches = [client.watch("gen_1") for _ in range(ROOM)]
        reading: list[Any] = [*streams, *watches]
        silent = [asyncio.ensure_future(anext(each)) for each in reading]
        await asyncio.to_thread(narrow.until_called, 2 * ROOM)
        assert (await client.cancel("gen_1")).id == "gen_1"
        assert await client.get("gen_1") == DONE
        for each in silent:
            each.cancel()
        await asyncio.gather(*silent, return_exceptions=True)


def test_a_cancel_passes_silent_streams(narrow: ScriptedServer) -> None:
    """Likewise without an event loop."""
    filled(narrow)
    with ThreadPoolExecutor(2 * ROOM) as pool, Client(narrow.target, read_timeout=10) as client:
        streams = [client.stream_text("x") for _ in range(ROOM)]
        watches = [client.watch("gen_1") for _ in range(ROOM)]
        reading: list[Any] = [*streams, *watches]
        silent: list[Future[Any]] = [pool.submit(next, each) for each in reading]
        narrow.until_called(2 * ROOM)
        assert client.cancel("gen_1").id == "gen_1"
        assert client.get("gen_1") == DONE
        client.close()
        for each in silent:
            each.exception(10)
