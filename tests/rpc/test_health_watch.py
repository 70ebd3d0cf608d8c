"""Health has watchers that read nothing, and watchers that leave: neither is another's loss."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mediagate_sandbox.server import Sandbox
from mediagate_server.api.service_registration import SERVICES
from tests.api.http2_peer import DATA, END_HEADERS, HEADERS, INITIAL_WINDOW_SIZE, SETTINGS, Peer
from tests.grpc_errors import reason_of, rpc_error

from .media_transfers import until
from .stubs import OpenServer

Status = health_pb2.HealthCheckResponse
END_STREAM = 1
EMPTY_MESSAGE = bytes(5)
SECONDS = 20
"""What would wait for ever is given up then."""


@asynccontextmanager
async def watcher_that_reads_nothing(address: str) -> AsyncIterator[None]:
    """It watches the whole server's health, and gives no room for an answer."""
    async with await Peer.of(address) as peer:
        peer.send(SETTINGS, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, 0))
        peer.call("/grpc.health.v1.Health/Watch")
        peer.send(DATA, END_STREAM, EMPTY_MESSAGE, stream=1)
        await peer.receive(HEADERS, END_HEADERS)  # They come with the first answer, before it.
        yield


async def test_a_watcher_that_does_not_read_blocks_nobody(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    async with AsyncExitStack() as stack:
        stubs, server = await stack.enter_async_context(open_server(sandbox.url))
        await stack.enter_async_context(watcher_that_reads_nothing(server.grpc_address))
        health = health_pb2_grpc.HealthStub(stubs.channel)
        async with asyncio.timeout(SECONDS):
            watch = health.Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == Status.SERVING
            ending = asyncio.create_task(server.__aexit__(None, None, None))
            assert (await watch.read()).status == Status.NOT_SERVING
            await ending


@pytest.mark.parametrize("name", ["", SERVICES[0]])
async def test_a_leaving_watcher_does_not_affect_others(
    sandbox: Sandbox, open_server: OpenServer, name: str
) -> None:
    request = health_pb2.HealthCheckRequest(service=name)
    async with open_server(sandbox.url) as (stubs, server), asyncio.timeout(SECONDS):
        health = health_pb2_grpc.HealthStub(stubs.channel)
        watches = [health.Watch(request) for _ in range(3)]
        for watch in watches:
            assert (await watch.read()).status == Status.SERVING
        watches[0].cancel()
        await until(lambda: len(server._api.errors._tasks) == len(watches) - 1)
        ending = asyncio.create_task(server.__aexit__(None, None, None))
        for watch in watches[1:]:
            assert (await watch.read()).status == Status.NOT_SERVING
            error = await rpc_error(watch.read())
            assert reason_of(error) == "DRAINING"
        await ending


async def test_an_unknown_service_differs_between_check_and_watch(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """As the protocol says: Check ends with NOT_FOUND, Watch goes on."""
    request = health_pb2.HealthCheckRequest(service="no.such.Service")
    async with open_server(sandbox.url) as (stubs, _), asyncio.timeout(SECONDS):
        health = health_pb2_grpc.HealthStub(stubs.channel)
        error = await rpc_error(health.Check(request))
        assert error.code() is grpc.StatusCode.NOT_FOUND
        watch = health.Watch(request)
        assert (await watch.read()).status == Status.SERVICE_UNKNOWN
        watch.cancel()
