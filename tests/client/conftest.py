"""A scripted server, and a client of each face that is quick to try again."""

from collections.abc import AsyncIterator, Iterator

import pytest

from mediagate_client import AsyncClient, Client, RetryPolicy

from .scripted_server import ScriptedServer, open_scripted_server

HASTY = RetryPolicy(initial_delay=0.001, max_delay=0.002)


@pytest.fixture
def scripted_server() -> Iterator[ScriptedServer]:
    with open_scripted_server() as scripted:
        yield scripted


@pytest.fixture
def client(scripted_server: ScriptedServer) -> Iterator[Client]:
    with Client(scripted_server.target, api_key="k-1", retry=HASTY) as client:
        yield client


@pytest.fixture
async def async_client(scripted_server: ScriptedServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(scripted_server.target, api_key="k-1", retry=HASTY) as client:
        yield client
