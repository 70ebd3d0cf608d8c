"""Connections that hand a body on while they read it: all of it, in order, however much it is."""

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp

from mediagate_server.upstream.replicate.connection import PushConnector, PushResponseHandler

RawHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ServeRaw = Callable[[RawHandler], Awaitable[str]]
SIZE = 3_000_000
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


async def handler_of(response: aiohttp.ClientResponse) -> PushResponseHandler:
    """The connection of an open response. Fails where aiohttp makes it in another way."""
    assert response.connection is not None
    handler = response.connection.protocol
    assert isinstance(handler, PushResponseHandler)
    return handler


async def test_chunks_arrive_in_order_beyond_the_readers_limit(serve_raw: ServeRaw) -> None:
    """Chunks of many sizes, more than the reader holds: taken out, it lets the connection go on."""
    body = b"".join(b"%07d " % number for number in range(SIZE // 8))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        begin, size = 0, 1
        while begin < len(body):
            piece = body[begin : begin + size]
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            begin, size = begin + size, size * 3 % 100_003
        writer.write(b"0\r\n\r\n")

    got, ended = bytearray(), asyncio.Event()

    def read() -> None:
        while piece := response.content.read_nowait():
            got.extend(piece)
        if response.content.is_eof():
            ended.set()

    url = await serve_raw(serve)
    async with (
        aiohttp.ClientSession(connector=PushConnector(), read_bufsize=1_024) as session,
        session.get(url) as response,
    ):
        (await handler_of(response)).on_read = read
        read()
        await ended.wait()
    assert bytes(got) == body


async def test_without_a_listener_aiohttp_reads_as_usual(serve_raw: ServeRaw) -> None:
    """A connection that is waited for in aiohttp's own way, twice: it is used again."""
    connections: list[None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(None)
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HEAD % SIZE + b"x" * SIZE)
            await writer.drain()

    url = await serve_raw(serve)
    async with aiohttp.ClientSession(connector=PushConnector()) as session:
        for _ in range(2):
            async with session.get(url) as response:
                await handler_of(response)
                assert await response.read() == b"x" * SIZE
    assert connections == [None]


async def test_a_lost_connection_is_reported(serve_raw: ServeRaw) -> None:
    lost = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD % SIZE)

    url = await serve_raw(serve)
    async with (
        aiohttp.ClientSession(connector=PushConnector()) as session,
        session.get(url) as response,
    ):
        (await handler_of(response)).on_read = lost.set
        await lost.wait()
        assert isinstance(response.content.exception(), aiohttp.ClientPayloadError)
