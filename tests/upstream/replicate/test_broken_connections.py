"""The adapter over connections that break, that do not come about, or that say nothing."""

import asyncio
import gzip
import json
import zlib

import pytest

from mediagate_server.upstream.port import CreateRequest, NoResponse, RefusalReason, RequestRefused
from mediagate_server.upstream.replicate.client import ReplicateClient
from tests.upstream.replicate.adapter_requests import (
    RawHttpUpstream,
    Serve,
    ServeRaw,
    answers,
    read_request,
    request,
    settings,
)

HEAD = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\n"
COMPLETE = b'{"id":"p1","status":"starting"}'


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b"HTTP/1.1 201 Cre",),
        (b"\x00\xff garbage\r\n\r\n",),
        (HEAD, b"Content-Length: 100\r\n\r\n", COMPLETE[:12]),
        (HEAD, b"Transfer-Encoding: chunked\r\n\r\n1f\r\n", COMPLETE[:12]),
        (HEAD, b"Transfer-Encoding: chunked\r\n\r\nnonsense"),
        (HEAD, b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\n", b"plain"),
        (HEAD, b"Content-Encoding: zebra\r\nContent-Length: 31\r\n\r\n", COMPLETE),
    ],
)
@pytest.mark.parametrize("reset", [False, True])
async def test_a_broken_connection_leaves_a_create_unconfirmed(
    serve_raw: ServeRaw, pieces: tuple[bytes, ...], reset: bool
) -> None:
    """Once the request went out, no break is a refusal, and none makes a second POST."""
    posts: list[bytes] = []
    url = await serve_raw(answers(*pieces, posts=posts, reset=reset))
    async with ReplicateClient(settings(url)) as client:
        with pytest.raises(NoResponse):
            await client.create(request())
    assert len(posts) == 1


async def test_a_reused_connection_that_breaks_leaves_a_create_unconfirmed(
    serve_raw: ServeRaw,
) -> None:
    """The second request meets a connection that its server drops: taken or not, nobody knows."""
    posts: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        posts.append(await read_request(reader))
        writer.write(HEAD + b"Content-Length: 31\r\n\r\n" + COMPLETE)
        posts.append(await read_request(reader))

    async with ReplicateClient(settings(await serve_raw(handler))) as client:
        await client.create(request())
        with pytest.raises(NoResponse):
            await client.create(request())
    assert [post[:4] for post in posts] == [b"POST", b"POST"]


@pytest.mark.parametrize(
    "pieces",
    [
        (HEAD, b"\r\n", COMPLETE),
        (
            HEAD,
            b"Content-Length: 31\r\nContent-Encoding: identity\r\n\r\n",
            COMPLETE[:9],
            COMPLETE[9:],
        ),
        (HEAD, b"Content-Encoding: gzip\r\n\r\n", gzip.compress(COMPLETE)),
        (HEAD, b"Content-Encoding: gzip, gzip\r\n\r\n", gzip.compress(gzip.compress(COMPLETE))),
        (HEAD, b"Content-Encoding: deflate\r\n\r\n", zlib.compress(COMPLETE)),
        (HEAD, b"Content-Encoding: deflate\r\n\r\n", zlib.compress(COMPLETE, wbits=-15)),
        (HEAD, b"Content-Encoding: none\r\n\r\n", COMPLETE),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n", HEAD, b"\r\n", COMPLETE),
    ],
)
async def test_complete_bodies_in_any_framing_are_accepted(
    serve_raw: ServeRaw, pieces: tuple[bytes, ...]
) -> None:
    """Ended by the connection's end, in pieces, or packed although that was not asked for."""
    async with ReplicateClient(settings(await serve_raw(answers(*pieces)))) as client:
        assert (await client.create(request())).id == "p1"


@pytest.mark.parametrize("path", ["create", "list"])
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_an_encoded_refusal_is_decoded(serve_raw: ServeRaw, coding: str, path: str) -> None:
    """Which input is wrong, and how long to wait, stand in the body alone."""
    pack = gzip.compress if coding == "gzip" else zlib.compress
    body = pack(b'{"detail": "slow down, resets in ~7s"}')
    head = f"HTTP/1.1 429 X\r\nContent-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n"
    async with ReplicateClient(settings(await serve_raw(answers(head.encode(), body)))) as client:
        with pytest.raises(RequestRefused) as refused:
            await (client.create(request()) if path == "create" else client.list_predictions())
    assert refused.value.retry_after == 7


async def test_a_refusal_with_a_broken_body_is_a_refusal(serve_raw: ServeRaw) -> None:
    """The status has said it all."""
    head = b"HTTP/1.1 422 No\r\nContent-Length: 100\r\n\r\n"
    async with ReplicateClient(settings(await serve_raw(answers(head, b'{"det')))) as client:
        with pytest.raises(RequestRefused) as refused:
            await client.create(request())
    assert refused.value.refusal is RefusalReason.INPUT


async def test_a_connection_with_an_unread_request_is_not_reused(serve_raw: ServeRaw) -> None:
    """A create that is refused before all of it was read: the next one takes another connection."""
    heads: list[bytes] = []
    over = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
        await over.wait()

    async with ReplicateClient(settings(await serve_raw(handler))) as client:
        for _ in range(2):
            with pytest.raises(RequestRefused) as refused:
                await client.create(CreateRequest("a/b", {"x": "y" * 2**24}, cancel_after=5))
            assert refused.value.refusal is RefusalReason.INPUT
    over.set()
    assert len(heads) == 2


async def test_a_connection_answered_before_the_request_ended_is_not_reused(
    serve_raw: ServeRaw,
) -> None:
    """Nor has one that is taken that early: the rest of it is still to go on that connection."""
    heads: list[bytes] = []
    over = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(HEAD + b"Content-Length: 31\r\n\r\n" + COMPLETE)
        await over.wait()

    url = await serve_raw(handler)
    async with ReplicateClient(settings(url, connect_timeout=1, create_timeout=5)) as client:
        for _ in range(2):
            prediction = await client.create(
                CreateRequest("a/b", {"x": "y" * 2**24}, cancel_after=5)
            )
            assert prediction.id == "p1"
    over.set()
    assert len(heads) == 2


async def test_a_large_create_arrives_complete(serve_raw: ServeRaw) -> None:
    """More than a socket takes at once."""
    posts: list[bytes] = []
    url = await serve_raw(answers(HEAD, b"\r\n", COMPLETE, posts=posts))
    async with ReplicateClient(settings(url)) as client:
        assert (await client.create(CreateRequest("a/b", {"x": "y" * 2**24}, 5))).id == "p1"
    assert json.loads(posts[0].partition(b"\r\n\r\n")[2]) == {"input": {"x": "y" * 2**24}}


# --- when nothing was sent ----------------------------------------------------------------------


async def test_a_create_can_be_vetoed_before_its_first_byte(serve: Serve) -> None:
    """Asked once there is a connection; a create that may not be sent any more has not been."""
    upstream = RawHttpUpstream()
    attempts: list[bool] = []

    def may_send() -> bool:
        attempts.append(len(attempts) != 1)
        return attempts[-1]

    async with ReplicateClient(settings(await serve(upstream))) as client:
        await client.create(request(may_send=may_send))
        with pytest.raises(RequestRefused) as refused:
            await client.create(request(may_send=may_send))
        await client.create(request(may_send=may_send))
        await client.create(request())
    assert refused.value.refusal is RefusalReason.UNREACHABLE
    assert attempts == [True, False, True]
    assert len(upstream.bodies) == 3


async def test_a_closed_port_is_unreachable(unused_tcp_port: int) -> None:
    """Not a byte left this machine."""
    async with ReplicateClient(settings(f"http://127.0.0.1:{unused_tcp_port}")) as client:
        for call in (client.create(request()), client.get("p1"), client.list_predictions()):
            with pytest.raises(RequestRefused) as refused:
                await call
            assert refused.value.refusal is RefusalReason.UNREACHABLE


async def test_a_name_that_does_not_resolve_is_unreachable() -> None:
    """Resolving is before sending."""
    unknown = settings("http://no-such-host.invalid", connect_timeout=1.0)
    async with ReplicateClient(unknown) as client:
        with pytest.raises(RequestRefused) as refused:
            await client.create(request())
    assert refused.value.refusal is RefusalReason.UNREACHABLE


async def test_a_failed_tls_handshake_is_unreachable(serve_raw: ServeRaw) -> None:
    """The request goes out only after it."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(5)
        writer.write(b"this is no TLS\r\n\r\n")

    url = (await serve_raw(handler)).replace("http:", "https:")
    async with ReplicateClient(settings(url)) as client:
        with pytest.raises(RequestRefused) as refused:
            await client.create(request())
    assert refused.value.refusal is RefusalReason.UNREACHABLE


async def test_a_connect_timeout_is_unreachable(
    serve_raw: ServeRaw,
) -> None:
    """A handshake that nobody answers: still nothing was sent."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    url = (await serve_raw(handler)).replace("http:", "https:")
    # A little more than what is slow.
    async with ReplicateClient(settings(url, connect_timeout=1.1)) as client:
        calls = (client.create(request()), client.list_predictions(), client.get_model("a/b"))
        refused = await asyncio.gather(*calls, return_exceptions=True)
    for each in refused:
        assert isinstance(each, RequestRefused)
        assert (each.refusal, each.was_slow) == (RefusalReason.UNREACHABLE, True)


async def test_a_full_pool_is_unreachable(serve_raw: ServeRaw) -> None:
    """Waiting for a connection ends before anything is sent."""
    posts: list[bytes] = []
    busy = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        posts.append(await read_request(reader))
        busy.set()
        await reader.read(-1)

    url = await serve_raw(handler)
    tight = settings(url, max_connections=1, connect_timeout=0.2, read_timeout=60.0)
    async with ReplicateClient(tight) as client:
        waiting = asyncio.create_task(client.get("p1"))
        await busy.wait()
        with pytest.raises(RequestRefused) as refused:
            await client.create(request())
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert refused.value.refusal is RefusalReason.UNREACHABLE
    assert len(posts) == 1


async def test_a_missing_response_leaves_a_create_unconfirmed(serve_raw: ServeRaw) -> None:
    """Every exchange has a hard end, the body included."""
    posts: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        posts.append(await read_request(reader))
        if len(posts) > 1:
            writer.write(HEAD + b"Content-Length: 31\r\n\r\n" + COMPLETE[:9])
        await reader.read(-1)

    url = await serve_raw(handler)
    hasty = settings(url, connect_timeout=0.4, create_timeout=0.5, read_timeout=0.5)
    async with ReplicateClient(hasty) as client:
        with pytest.raises(NoResponse, match="timeout"):
            await client.create(request())
        with pytest.raises(NoResponse, match="timeout"):
            await client.get("p1")
    assert [post[:4] for post in posts] == [b"POST", b"GET "]
