"""Upstreams on loopback: one that speaks HTTP, one that writes whatever bytes a test wants."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
RawHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Handler], Awaitable[str]]]:
    """Start an HTTP server that gives every request to the handler; its base URL."""
    async with AsyncExitStack() as stack:

        async def start(handler: Handler) -> str:
            runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return f"http://127.0.0.1:{runner.addresses[0][1]}"

        yield start


@pytest.fixture
async def serve_raw() -> AsyncIterator[Callable[[RawHandler], Awaitable[str]]]:
    """Start a TCP server; the handler has the connection to itself. Its base URL."""
    async with AsyncExitStack() as stack:

        async def start(handler: RawHandler) -> str:
            connections: list[tuple[asyncio.Task[None], asyncio.StreamWriter]] = []

            async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                try:
                    await handler(reader, writer)
                finally:
                    writer.close()

            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                connections.append((asyncio.create_task(handle(reader, writer)), writer))

            async def stop() -> None:
                server.close()
                for task, writer in connections:
                    task.cancel()
                    writer.transport.abort()
                await asyncio.gather(*(task for task, _ in connections), return_exceptions=True)

            server = await asyncio.start_server(accept, "127.0.0.1", 0)
            stack.push_async_callback(stop)
            return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

        yield start
