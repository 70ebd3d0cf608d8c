"""Lifetime of clients: keys, closed clients, several event loops, streams that are dropped."""

import asyncio
import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from mediagate_client import (
    AsyncClient,
    Client,
    ClientNotUsable,
    MediagateError,
    Unauthenticated,
)

from .scripted_server import HeldCall, ScriptedServer
from .stream_events import delta, started

SURROGATE = "\ud800"


@pytest.mark.parametrize("key", ["kéy", "secret\n", SURROGATE, "a b", b"k", 5])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_key_that_no_metadata_can_carry(kind: Any, key: Any) -> None:
    with pytest.raises(Unauthenticated) as raised:
        kind(api_key=key)
    assert "secret" not in f"{raised.value} {raised.value!r}"


CALLS: dict[str, Callable[[Any], Any]] = {
    "generate_text": lambda c: c.generate_text("a"),
    "get": lambda c: c.get("gen_1"),
    "wait": lambda c: c.wait("gen_1"),
    "upload": lambda c: c.upload(b"a"),
    "model": lambda c: c.model("m"),
    "get_usage": lambda c: c.get_usage(),
    "redeliver_webhook": lambda c: c.redeliver_webhook("w"),
}
ITERATORS: dict[str, Callable[[Any], Any]] = {
    "stream_text": lambda c: c.stream_text("a"),
    "watch": lambda c: c.watch("gen_1"),
    "list": lambda c: c.list(),
    "read_media": lambda c: c.read_media("gen_1/0"),
}


def test_a_closed_client_says_so(scripted_server: ScriptedServer) -> None:
    client = Client(scripted_server.target)
    client.close()
    for call in CALLS.values():
        with pytest.raises(ClientNotUsable):
            call(client)
    for iterate in ITERATORS.values():
        with pytest.raises(ClientNotUsable):
            list(iterate(client))


async def test_a_closed_client_of_asyncio_says_so(scripted_server: ScriptedServer) -> None:
    client = AsyncClient(scripted_server.target)
    await client.close()
    for call in CALLS.values():
        with pytest.raises(ClientNotUsable):
            await call(client)
    for iterate in ITERATORS.values():
        with pytest.raises(ClientNotUsable):
            [piece async for piece in iterate(client)]


def test_a_client_made_without_a_loop_is_used_in_several(scripted_server: ScriptedServer) -> None:
    client = AsyncClient(scripted_server.target)
    assert copy.deepcopy(client) is client
    with pytest.raises(ClientNotUsable):
        pickle.dumps(client)
    for _ in range(2):
        with pytest.raises(MediagateError) as raised:
            asyncio.run(client.get("gen_none"))
        assert not isinstance(raised.value, ClientNotUsable)
    with pytest.raises(ClientNotUsable):
        client.get("gen_1").send(None)


async def test_a_text_that_is_dropped_is_cancelled(
    async_client: AsyncClient, scripted_server: ScriptedServer
) -> None:
    """Nobody closes it: the loop is left, and nothing refers to the stream any more."""
    scripted_server.plays("StreamText", started(), delta("so", 2), HeldCall())
    async for _ in async_client.stream_text("Why?"):
        break
    assert await asyncio.to_thread(scripted_server.cancelled.get, timeout=20) == "gen-1"
    assert await asyncio.to_thread(scripted_server.left.get, timeout=20) == "StreamText"


def test_a_blocking_text_that_is_dropped_is_cancelled(
    client: Client, scripted_server: ScriptedServer
) -> None:
    """So is that of the blocking client."""
    scripted_server.plays("StreamText", started(), delta("so", 2), HeldCall())
    for _ in client.stream_text("Why?"):
        break
    assert scripted_server.cancelled.get(timeout=20) == "gen-1"
    assert scripted_server.left.get(timeout=20) == "StreamText"


def test_a_detached_text_that_is_dropped_runs_on(
    client: Client, scripted_server: ScriptedServer
) -> None:
    """The rpc ends; the generation is nobody's to cancel."""
    scripted_server.plays("StreamText", started(), delta("so", 2), HeldCall())
    with client.stream_text("Why?", on_disconnect="detach") as stream:
        assert next(stream) == "so"
    assert scripted_server.left.get(timeout=20) == "StreamText"
    assert scripted_server.cancelled.empty()
