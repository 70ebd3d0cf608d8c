"""What each option of the server does, as its peers see it: gRPC says nothing of one it ignores."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from mediagate.v1 import generation_pb2, text_pb2, text_pb2_grpc
from mediagate_server.api.connection_drain import _connected_at
from mediagate_server.api.server_options import server_options
from mediagate_server.config import Settings
from tests.builders import text_request

from .fake_servicers import Texts
from .http2_peer import (
    DATA,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_HEADER_LIST_SIZE,
    PING,
    Peer,
)

Options = dict[str, Any]
OWN = (("grpc.use_local_subchannel_pool", 1),)
Serve = Callable[[Options], Awaitable[str]]


def options() -> Options:
    """Those of a server that has nothing configured."""
    return dict(server_options(Settings()))


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts servers with some options, without anything around the handlers; stops them."""
    async with AsyncExitStack() as stack:

        async def start_server(options: Options) -> str:
            server = grpc.aio.server(options=tuple(options.items()))
            text_pb2_grpc.add_TextServiceServicer_to_server(AnsweringServicer(), server)
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            stack.push_async_callback(server.stop, 0)
            return f"127.0.0.1:{port}"

        yield start_server


class AnsweringServicer(Texts):
    """Answers at once."""

    async def GenerateText(
        self, request: text_pb2.GenerateTextRequest, context: Any
    ) -> text_pb2.GenerateTextResponse:
        output = generation_pb2.TextOutput(text=request.prompt)
        return text_pb2.GenerateTextResponse(generation=generation_pb2.Generation(text=output))


@pytest.mark.parametrize("name", options())
def test_grpc_recognizes_every_option(name: str) -> None:
    """One that is misspelt is ignored in silence: pings were, and quiet clients were cut off."""
    assert name.encode() + b"\0" in Path(cygrpc.__file__).read_bytes()


async def test_http2_settings_of_the_server(serve: Serve) -> None:
    """Streams, headers and the window, in the first frame of a connection."""
    async with await Peer.of(await serve(options())) as peer:
        settings = await peer.settings()
    assert settings[MAX_CONCURRENT_STREAMS] == 500
    assert settings[MAX_HEADER_LIST_SIZE] == 20 * 1024  # A quarter more than what is never refused.
    assert settings[INITIAL_WINDOW_SIZE] == 512 * 1024


PINGS = "grpc.http2.min_ping_interval_without_data_ms"


async def _ping(address: str, times: int, pause: float = 0.0) -> None:
    async with await Peer.of(address) as peer:
        for _ in range(times):
            await peer.ping()
            await asyncio.sleep(pause)  # The peer's own rhythm, not a wait for anything.


async def test_too_frequent_pings_end_a_connection(serve: Serve) -> None:
    """The option's own name decides: with 0 as many as one likes, with ours not these."""
    with pytest.raises(ConnectionError, match="too_many_pings"):
        await _ping(await serve(options()), 1_000)
    await _ping(await serve({**options(), PINGS: 0}), 10)


async def test_pings_at_the_allowed_interval_are_accepted(serve: Serve) -> None:
    """A twentieth of a second for ten: at it they pass, also where two were near each other."""
    short = await serve({**options(), PINGS: 25})
    await _ping(short, 40, pause=0.05)
    with pytest.raises(ConnectionError, match="too_many_pings"):
        await _ping(short, 1_000)


def test_the_interval_leaves_room_for_a_slow_network() -> None:
    """Clients ping every 10 s at the most; so moved together they are half of it apart."""
    assert options()[PINGS] <= 10_000 / 2


async def test_an_unresponsive_peer_is_detected(serve: Serve) -> None:
    """Pings are sent though no call is open, and one that is not answered ends the connection.

    Meanwhile a server without the permit has asked nobody: it is the permit that is in force.
    """
    quick = {"grpc.keepalive_time_ms": 1_000, "grpc.http2.ping_timeout_ms": 200}
    assert set(quick) <= set(options())
    without = {**options(), **quick, "grpc.keepalive_permit_without_calls": 0}
    async with (
        await Peer.of(await serve(without)) as unasked,
        await Peer.of(await serve({**options(), **quick})) as peer,
        asyncio.timeout(20),
    ):
        await unasked.settings()
        await peer.receive(PING)
        with pytest.raises(ConnectionError, match="ping_timeout"):
            await peer.receive(-1)
        await unasked.ping()
        assert PING not in unasked.seen


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has it")
async def test_a_lost_network_is_detected_by_tcp(serve: Serve) -> None:
    """By TCP, which is told how long to wait for it to acknowledge anything."""
    address = await serve(options())
    async with await Peer.of(address) as peer:
        await peer.settings()
        assert user_timeouts(address) == {options()["grpc.keepalive_timeout_ms"]}


def user_timeouts(address: str) -> set[int]:
    """TCP_USER_TIMEOUT, in ms, of this process's connections whose own end is that address."""
    ports = set()
    for connection in _connected_at(address):
        with connection:
            ports.add(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
    return ports


async def test_an_idle_connection_is_closed(serve: Serve) -> None:
    """Once it was idle for as long as the option says."""
    name = "grpc.max_connection_idle_ms"
    assert name in options()
    async with await Peer.of(await serve({**options(), name: 100})) as peer:
        with pytest.raises(ConnectionError, match="idle"):
            await asyncio.wait_for(peer.receive(-1), 20)


async def test_the_port_is_not_shared(serve: Serve) -> None:
    """A second server would take half of the calls."""
    address = await serve(options())
    second = grpc.aio.server(options=tuple(options().items()))
    with pytest.raises(RuntimeError):
        second.add_insecure_port(address)
    shared = {**options(), "grpc.so_reuseport": 1}
    address = await serve(shared)
    second = grpc.aio.server(options=tuple(shared.items()))
    assert second.add_insecure_port(address)
    await second.start()
    await second.stop(0)


async def _code(address: str, size: int) -> str:
    """How a call ends whose request is of that size, and its answer too."""
    async with grpc.aio.insecure_channel(
        address, options=[("grpc.max_receive_message_length", -1), *OWN]
    ) as channel:
        stub: Any = text_pb2_grpc.TextServiceStub(channel)
        try:
            await stub.GenerateText(text_request(prompt="x" * size))
        except grpc.aio.AioRpcError as error:
            return error.code().name
    return "OK"


async def test_message_sizes_are_limited(serve: Serve) -> None:
    """Requests by 4 MiB, answers by 16 MiB: a server of ours would send none that is larger."""
    ours = await serve(options())
    assert await _code(ours, 4_000_000) == "OK"
    assert await _code(ours, 4_200_000) == "RESOURCE_EXHAUSTED"
    for name in ("grpc.max_receive_message_length", "grpc.max_send_message_length"):
        assert await _code(await serve({**options(), name: 1_000}), 2_000) == "RESOURCE_EXHAUSTED"


async def _is_probed(address: str) -> bool:
    """Whether the server pings a peer that sends it data, as it does to guess its capacity."""
    async with await Peer.of(address) as peer:
        await peer.settings()
        peer.call("/mediagate.v1.TextService/GenerateText")
        peer.send(DATA, 0, bytes((0, 0, 1, 0, 0)) + bytes(16_000), stream=1)
        await peer.ping()
        for _ in range(2):
            # It probes once it has told the peer that it has read something.
            peer.send(DATA, 0, bytes(16_000), stream=1)
            await peer.ping()
        return PING in peer.seen


async def test_the_bandwidth_probe_is_off(serve: Serve) -> None:
    """With the probe a fast upload is given 12 MB of room."""
    name = "grpc.http2.bdp_probe"
    assert not await _is_probed(await serve(options()))
    # It probes where it reads data while it has nothing to answer: not at every try.
    probing = await serve({**options(), name: 1})
    assert any([await _is_probed(probing) for _ in range(10)])


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
                await stubs[number % connections].GenerateText(text_request(prompt="hello"))
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return "OK"

        return Counter(await asyncio.gather(*map(ask, range(calls))))


@pytest.mark.parametrize("connections", [1, 4, 40])
async def test_no_call_of_a_burst_is_lost(serve: Serve, connections: int) -> None:
    """Over whatever number of connections: each comes to its handler."""
    assert await _burst(await serve(options()), connections, 4_000) == {"OK": 4_000}


async def test_grpcs_default_options_lose_a_burst(serve: Serve) -> None:
    """By gRPC's own bounds: the burst is one."""
    ours = {name: value for name, value in options().items() if "pending" not in name}
    assert (await _burst(await serve(ours), 40, 4_000))["CANCELLED"] > 0


async def test_pending_calls_are_bounded(serve: Serve) -> None:
    """Beyond the limit gRPC drops calls: it is in force."""
    few = {name: 10 if "pending" in name else value for name, value in options().items()}
    assert (await _burst(await serve(few), 40, 4_000))["CANCELLED"] > 0


async def test_ending_streams_have_room_beside_open_ones(serve: Serve) -> None:
    """Without it calls of a burst over one connection are refused until memory is freed."""
    name = "grpc.http2.max_deallocating_streams"
    without = {each: value for each, value in options().items() if each != name}
    assert (await _burst(await serve(without), 1, 4_000))["UNAVAILABLE"] > 0
