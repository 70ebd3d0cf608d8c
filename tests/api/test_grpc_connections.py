"""Connections of the gRPC server: from a moment on nobody connects any more."""

import select
import socket
import sys
from collections.abc import AsyncIterator

import grpc
import pytest

from mediagate_server.api.connection_drain import (
    close_connections,
    has_connections,
    refuse_connections,
)
from tests.grpc_errors import rpc_error


@pytest.fixture
async def address() -> AsyncIterator[str]:
    """Of a gRPC server that answers every call with its own bytes."""

    async def echo(request: bytes, _: object) -> bytes:
        return request

    handler = grpc.method_handlers_generic_handler(
        "test.Echo", {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    )
    server = grpc.aio.server(handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


def connecting(address: str) -> socket.socket:
    """One that has begun to connect."""
    client = socket.socket()
    client.settimeout(0.0)
    client.connect_ex(("127.0.0.1", int(address.rpartition(":")[2])))
    return client


def is_connected(client: socket.socket) -> bool:
    return bool(select.select([], [client], [], 0)[1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="by a filter that Linux has")
async def test_no_new_connections_are_accepted(address: str) -> None:
    """Whoever is connected is served as before; whoever comes is not, until the server is gone."""
    async with grpc.aio.insecure_channel(address) as channel:
        echo: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/test.Echo/Echo"
        )
        assert await echo(b"x") == b"x"
        with connecting(address) as before:
            assert await echo(b"y") == b"y"
            assert is_connected(before)
        refuse_connections(address)
        with connecting(address) as after:
            for _ in range(50):
                assert await echo(b"z") == b"z"
            assert not is_connected(after)
        assert has_connections(address)
        close_connections(address)
        error = await rpc_error(echo(b"x", timeout=0.2))
        assert error.code() in (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED,
        )
