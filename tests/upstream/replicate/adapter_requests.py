"""Requests, settings, and upstreams that answer as they are told, for tests of the adapter."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from mediagate_server.upstream.port import CreateRequest
from mediagate_server.upstream.settings import ReplicateSettings

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]
RawHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ServeRaw = Callable[[RawHandler], Awaitable[str]]

TOKEN = "r8_0123456789"
CREATED = {"id": "p1", "status": "starting"}
HEX = "9dcd6d78e7c6560c340d916fe32e9f24aabfa331e5cce95fe31f77fb03121426"


def settings(url: str, **changes: Any) -> ReplicateSettings:
    return ReplicateSettings(base_url=url, token=TOKEN, **changes)


def request(target: str = "meta/llama", **changes: Any) -> CreateRequest:
    return CreateRequest(target=target, input={"prompt": "hi"}, cancel_after=600, **changes)


class RawHttpUpstream:
    """Answers every request alike and keeps what it saw."""

    def __init__(self, status: int = 201, body: bytes | object = CREATED, **headers: str) -> None:
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.seen: list[tuple[str, str]] = []
        self.bodies: list[bytes] = []
        self.sent: list[dict[str, str]] = []

    async def __call__(self, received: web.BaseRequest) -> web.Response:
        self.seen.append((received.method, received.raw_path))
        self.sent.append({name.lower(): value for name, value in received.headers.items()})
        self.bodies.append(await received.read())
        return web.Response(status=self.status, body=self.body, headers=self.headers)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """One request with its body, off a raw connection; empty once the client has gone."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    length = next(
        (int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"),
        0,
    )
    return head + await reader.readexactly(length)


def answers(*pieces: bytes, posts: list[bytes] | None = None, reset: bool = False) -> RawHandler:
    """Read one request, write the pieces, then close (or reset) the connection."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = await read_request(reader)
        if posts is not None and received:
            posts.append(received)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if reset:
            writer.transport.abort()

    return handler
