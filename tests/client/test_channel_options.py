"""What each option of a channel does, as a server sees it: gRPC says nothing of one it ignores."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from mediagate.v1.generations_pb2 import GetGenerationRequest, GetGenerationResponse
from mediagate.v1.generations_pb2_grpc import GenerationServiceStub
from mediagate.v1.text_pb2 import GenerateTextRequest
from mediagate.v1.text_pb2_grpc import TextServiceStub
from mediagate_client.channel import SEPARATE_CONNECTION, channel_options
from tests.api.http2_peer import ACK, GOAWAY, PING, SETTINGS
from tests.api.test_server_options import user_timeouts

from .rpc_statuses import status
from .sample_generations import DONE
from .scripted_server import ScriptedServer

C = grpc.StatusCode
_PREFACE = 24


class Server:
    """A server that takes connections and counts pings; `answers` them, or stands still."""

    def __init__(self) -> None:
        self.target = ""
        self.connections: list[str] = []
        self.pings = 0
        self.answers = True
        self.refuses = False
        self.changed = asyncio.Event()
        self.closed = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []
        self._taking: set[asyncio.Task[None]] = set()

    def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self._taking.add(asyncio.ensure_future(self._take(reader, writer)))

    async def end(self) -> None:
        for each in self._writers:
            each.close()
        await asyncio.gather(*self._taking)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        finally:
            self.closed.set()
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = writer.get_extra_info("peername")
        self.connections.append(f"{host}:{port}")
        self.changed.set()
        if self.refuses:
            return
        writer.write(_frame(SETTINGS, 0, b""))
        try:
            await reader.readexactly(_PREFACE)
            while True:
                head = await reader.readexactly(9)
                payload = await reader.readexactly(int.from_bytes(head[:3]))
                if (head[3], head[4]) == (PING, 0):
                    self.pings += 1
                    self.changed.set()
                    if self.answers:
                        writer.write(_frame(PING, ACK, payload))
                if head[3] == GOAWAY:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):  # A test's own may be shorter.
            while not condition():
                self.changed.clear()
                await self.changed.wait()


def _frame(kind: int, flags: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + bytes(4) + payload


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    async with await asyncio.start_server(server.take, "127.0.0.1", 0) as listening:
        server.target = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        yield server
        listening.close()
        await asyncio.sleep(0)  # Whoever was taken in the last moment is told of.
        await server.end()


def connected(target: str, **quick: Any) -> grpc.aio.Channel:
    """A channel with our options, some of them quicker; it connects without a call."""
    given = {f"grpc.{name.replace('__', '.')}": value for name, value in quick.items()}
    assert set(given) <= set(dict(channel_options()))
    channel = grpc.aio.insecure_channel(target, channel_options({**SEPARATE_CONNECTION, **given}))
    channel.get_state(try_to_connect=True)
    return channel


@pytest.mark.parametrize("name", [*dict(channel_options()), *SEPARATE_CONNECTION])
def test_grpc_recognizes_every_option(name: str) -> None:
    """One that is misspelt is ignored in silence."""
    assert name.encode() + b"\0" in Path(cygrpc.__file__).read_bytes()


async def test_an_idle_connection_is_pinged_indefinitely(server: Server) -> None:
    """Without a call, and more often than gRPC's own two pings without data."""
    async with connected(server.target, keepalive_time_ms=100):
        await server.until(lambda: server.pings > 4)


async def test_grpcs_default_limits_pings_without_data(server: Server) -> None:
    """By gRPC's own rule there are two, and then one a minute: the option is in force."""
    quick = {"keepalive_time_ms": 100, "http2__max_pings_without_data": 2}
    async with connected(server.target, **quick):
        await server.until(lambda: server.pings == 2)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):  # They are a second apart, however short we ask for.
                await server.until(lambda: server.pings > 2)


@pytest.mark.parametrize("permit", [0, 1])
async def test_a_channel_without_any_call_pings_by_its_permit(server: Server, permit: int) -> None:
    """With our service config there is one: the watch of the server's health."""
    quick = {"keepalive_time_ms": 100, "keepalive_permit_without_calls": permit}
    async with connected(server.target, service_config="{}", **quick):
        # That there is none can only be waited for; one that is to come may take its time.
        with suppress(TimeoutError):
            async with asyncio.timeout(20 if permit else 2):
                await server.until(lambda: server.pings > 0)
    assert bool(server.pings) == bool(permit)


async def test_an_unresponsive_server_is_detected(server: Server) -> None:
    """A ping without an answer ends the connection."""
    server.answers = False
    async with connected(server.target, keepalive_time_ms=100, http2__ping_timeout_ms=100):
        async with asyncio.timeout(20):
            await server.closed.wait()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has it")
async def test_a_lost_network_is_detected_by_tcp(server: Server) -> None:
    """By TCP, which is told how long to wait for an acknowledgement."""
    async with connected(server.target):
        await server.until(lambda: bool(server.connections))
        ours = dict(channel_options())["grpc.keepalive_timeout_ms"]
        assert user_timeouts(server.connections[0]) == {ours}


async def test_a_restarted_server_is_reconnected_quickly(server: Server) -> None:
    """Tries follow each other by our backoff: by gRPC's own there are six in the time."""
    server.refuses = True
    quick = {"initial_reconnect_backoff_ms": 100, "max_reconnect_backoff_ms": 100}
    async with connected(server.target, **quick) as channel:

        async def insist() -> None:
            while True:
                state = channel.get_state(try_to_connect=True)
                await channel.wait_for_state_change(state)

        insisting = asyncio.create_task(insist())
        await server.until(lambda: len(server.connections) > 12)
        insisting.cancel()


@pytest.fixture
def channel(scripted_server: ScriptedServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(scripted_server.target, channel_options()) as channel:
        yield channel


def test_the_channel_does_not_retry(channel: grpc.Channel, scripted_server: ScriptedServer) -> None:
    """This client does, by its own rule; with gRPC's there would be five times as many."""
    scripted_server.plays("GetGeneration", status(C.UNAVAILABLE, "DRAINING"))
    scripted_server.plays("GetGeneration", GetGenerationResponse(generation=DONE))
    with pytest.raises(grpc.RpcError) as raised:
        GenerationServiceStub(channel).GetGeneration(GetGenerationRequest(id="x"), timeout=20)
    assert raised.value.code() is C.UNAVAILABLE
    again = [("grpc.enable_retries", 1), *SEPARATE_CONNECTION.items()]
    options = channel_options(dict(again))
    scripted_server.plays("GetGeneration", status(C.UNAVAILABLE, "DRAINING"))
    with grpc.insecure_channel(scripted_server.target, options) as retrying:
        generation = GenerationServiceStub(retrying).GetGeneration(
            GetGenerationRequest(id="x"), timeout=20
        )
    assert generation.generation == DONE


def test_message_sizes_are_limited_both_ways(
    channel: grpc.Channel, scripted_server: ScriptedServer
) -> None:
    """By what a server takes; nothing larger is sent, nothing larger is read."""
    large = "x" * (4 * 1024 * 1024)
    with pytest.raises(grpc.RpcError) as raised:
        TextServiceStub(channel).GenerateText(GenerateTextRequest(prompt=large), timeout=20)
    assert raised.value.code() is C.RESOURCE_EXHAUSTED
    assert not scripted_server.heard
    answer = GetGenerationResponse(generation=DONE)
    answer.generation.text.text = large
    scripted_server.plays("GetGeneration", answer)
    with pytest.raises(grpc.RpcError) as raised:
        GenerationServiceStub(channel).GetGeneration(GetGenerationRequest(id="x"), timeout=20)
    assert raised.value.code() is C.RESOURCE_EXHAUSTED
