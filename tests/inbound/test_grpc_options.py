"""What each option of the server does, as its peers see it: gRPC says nothing of one it ignores."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from mediagate.v1 import text_pb2, text_pb2_grpc
from mediagate_server.config import Settings
from mediagate_server.grpc_options import server_options

from .http2 import INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, MAX_HEADER_LIST_SIZE, Peer
from .servicers import Texts

Options = dict[str, Any]
Serve = Callable[[Options], Awaitable[str]]


def options() -> Options:
    """Those of a gate that has nothing configured."""
    return dict(server_options(Settings()))


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts servers with some options, without anything around the handlers; stops them."""
    async with AsyncExitStack() as stack:

        async def serve_one(wanted: Options) -> str:
            server = grpc.aio.server(options=tuple(wanted.items()))
            text_pb2_grpc.add_TextServiceServicer_to_server(Answers(), server)
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            stack.push_async_callback(server.stop, 0)
            return f"127.0.0.1:{port}"

        yield serve_one


class Answers(Texts):
    """Answers at once."""

    async def GenerateText(
        self, request: text_pb2.GenerateTextRequest, context: Any
    ) -> text_pb2.GenerateTextResponse:
        return text_pb2.GenerateTextResponse()


@pytest.mark.parametrize("name", options())
def test_grpc_knows_the_option(name: str) -> None:
    """One that is misspelt is ignored in silence: pings were, and quiet clients were cut off."""
    assert name.encode() + b"\0" in Path(cygrpc.__file__).read_bytes()


async def test_what_a_peer_is_told(serve: Serve) -> None:
    """Streams, headers and the window, in the first frame of a connection."""
    async with await Peer.of(await serve(options())) as peer:
        told = await peer.settings()
    assert told[MAX_CONCURRENT_STREAMS] == 500
    assert told[MAX_HEADER_LIST_SIZE] == 20 * 1024  # A quarter more than what is never refused.
    assert told[INITIAL_WINDOW_SIZE] == 512 * 1024


async def _ping(address: str, times: int) -> None:
    async with await Peer.of(address) as peer:
        for _ in range(times):
            await peer.ping()


async def test_pings_within_the_interval_end_a_connection(serve: Serve) -> None:
    """The option's own name decides: with 0 as many as one likes, with ours not these."""
    name = "grpc.http2.min_ping_interval_without_data_ms"
    assert options()[name] == 10_000
    with pytest.raises(ConnectionError, match="too_many_pings"):
        await _ping(await serve(options()), 10)
    await _ping(await serve({**options(), name: 0}), 10)


async def _burst(address: str, connections: int, calls: int) -> Counter[str]:
    """All at once, by clients as they are out of the box; how they ended."""
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),))
            )
            for _ in range(connections)
        ]
        stubs: list[Any] = [text_pb2_grpc.TextServiceStub(channel) for channel in channels]
        await asyncio.gather(*(channel.channel_ready() for channel in channels))

        async def ask(number: int) -> str:
            try:
                await stubs[number % connections].GenerateText(
                    text_pb2.GenerateTextRequest(prompt="hello")
                )
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return "OK"

        return Counter(await asyncio.gather(*map(ask, range(calls))))


@pytest.mark.parametrize("connections", [1, 4, 40])
async def test_no_call_of_a_burst_is_lost(serve: Serve, connections: int) -> None:
    """Over whatever number of connections: each comes to its handler."""
    assert await _burst(await serve(options()), connections, 4_000) == {"OK": 4_000}


async def test_a_burst_was_lost_without(serve: Serve) -> None:
    """By gRPC's own bounds: the burst is one."""
    ours = {name: value for name, value in options().items() if "pending" not in name}
    assert (await _burst(await serve(ours), 40, 4_000))["CANCELLED"] > 0


async def test_what_waits_is_bounded(serve: Serve) -> None:
    """Beyond the limit gRPC drops calls: it is in force."""
    few = {name: 10 if "pending" in name else value for name, value in options().items()}
    assert (await _burst(await serve(few), 40, 4_000))["CANCELLED"] > 0
