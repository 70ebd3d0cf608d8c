"""A scripted gate, and a client of each face that is quick to try again."""

from collections.abc import AsyncIterator, Iterator

import pytest

from mediagate_client import AsyncClient, Client, RetryPolicy

from .gate import Gate, open_gate

HASTY = RetryPolicy(initial_delay=0.001, max_delay=0.002)


@pytest.fixture
def scripted() -> Iterator[Gate]:
    with open_gate() as scripted:
        yield scripted


@pytest.fixture
def client(scripted: Gate) -> Iterator[Client]:
    with Client(scripted.target, api_key="k-1", retry=HASTY) as client:
        yield client


@pytest.fixture
async def async_client(scripted: Gate) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(scripted.target, api_key="k-1", retry=HASTY) as client:
        yield client
