"""Streams against real sockets: batches as they come, no token, no foreign hosts, prompt ends."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from mediagate_server.upstream.port import (
    DoneEvent,
    ErrorEvent,
    NoResponse,
    OutputEvent,
    RefusalReason,
    RequestRefused,
    StreamEvent,
)
from mediagate_server.upstream.replicate.client import ReplicateClient
from mediagate_server.upstream.replicate.sse_stream import SseReader
from mediagate_server.upstream.settings import ReplicateSettings
from tests.sse_batches import collect_batches

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]
RawHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ServeRaw = Callable[[RawHandler], Awaitable[str]]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def settings(url: str, **changes: Any) -> ReplicateSettings:
    return ReplicateSettings(base_url=url, token="r8_0123456789", **changes)


def event(text: str, number: int) -> bytes:
    return f"event: output\nid: 1690212292:{number}\ndata: {text}\n\n".encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def writes(*pieces: bytes) -> RawHandler:
    """Take one request, write the pieces, close."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    return handler


async def read_all(client: ReplicateClient, url: str) -> list[StreamEvent]:
    async with client.stream(url) as stream:
        return (await collect_batches(stream)).events


async def test_request_headers_of_a_stream(serve: Serve) -> None:
    """The stream's own request: no token, the last id where there is one."""
    sent: list[dict[str, str]] = []

    async def upstream(received: web.BaseRequest) -> web.Response:
        sent.append({name.lower(): value for name, value in received.headers.items()})
        return web.Response(body=b"event: done\ndata: {}\n\n", content_type="text/event-stream")

    url = await serve(upstream)
    async with ReplicateClient(settings(url)) as client:
        assert await read_all(client, f"{url}/streams/x") == [DoneEvent()]
        async with client.stream(f"{url}/streams/x", last_event_id="1690212292:7") as stream:
            assert (await collect_batches(stream)).batches == [(DoneEvent(),)]
    assert [headers.get("last-event-id") for headers in sent] == [None, "1690212292:7"]
    for headers in sent:
        assert headers["accept"] == "text/event-stream"
        assert "authorization" not in headers
        assert "cookie" not in headers


async def test_each_token_arrives_before_the_next_is_sent(serve_raw: ServeRaw) -> None:
    """The server goes on only once the client has the token: nothing is held back."""
    seen = asyncio.Queue[str]()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CHUNKED + chunk(b": hi\n\n"))
        for number in range(20):
            writer.write(chunk(event(f"t{number}", number)))
            assert await seen.get() == f"t{number}"
        writer.write(chunk(b"event: done\ndata: {}\n\n") + b"0\r\n\r\n")

    url = await serve_raw(handler)
    got: list[tuple[StreamEvent, ...]] = []

    def take(batch: tuple[StreamEvent, ...]) -> bool:
        got.append(batch)
        for each in batch:
            if isinstance(each, OutputEvent):
                seen.put_nowait(each.text)
        return DoneEvent() in batch

    async with ReplicateClient(settings(url)) as client, client.stream(url) as stream:
        await stream.forward_to(take)
    assert got[:-1] == [(OutputEvent(f"t{n}", f"1690212292:{n}"),) for n in range(20)]
    assert got[-1] == (DoneEvent(),)


async def test_one_read_is_one_batch(serve_raw: ServeRaw) -> None:
    """What came together stays together, however upstream cut it into chunks."""
    tokens = b"".join(chunk(event("x", number)) for number in range(50))
    url = await serve_raw(writes(CHUNKED + tokens + b"0\r\n\r\n"))
    async with ReplicateClient(settings(url)) as client, client.stream(url) as stream:
        assert [len(batch) for batch in (await collect_batches(stream)).batches] == [50]


async def test_bytes_split_anywhere(serve_raw: ServeRaw) -> None:
    """Every byte in a segment of its own."""
    content = event("é\u2028😀", 1) + b"event: error\ndata: boom\n\nevent: done\ndata: {}\n\n"
    pieces = (chunk(content[i : i + 1]) for i in range(len(content)))
    url = await serve_raw(writes(CHUNKED, *pieces))
    async with ReplicateClient(settings(url)) as client:
        assert await read_all(client, url) == [
            OutputEvent("é\u2028😀", "1690212292:1"),
            ErrorEvent("boom"),
            DoneEvent(),
        ]


async def test_a_stream_may_end_without_done(serve_raw: ServeRaw) -> None:
    """The connection closed as slow starts do: the caller sees that no done came."""
    url = await serve_raw(
        writes(HEAD + b"\r\n: hi\n\n" + event("a", 1) + b"event: output\ndata: b")
    )
    async with ReplicateClient(settings(url)) as client:
        assert await read_all(client, url) == [OutputEvent("a", "1690212292:1")]


async def test_reading_stops_when_the_sink_is_satisfied(serve_raw: ServeRaw) -> None:
    """The connection stays open, and nothing more is handed on."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            CHUNKED + chunk(b'event: done\ndata: {"reason":"canceled"}\n\n' + event("x", 1))
        )
        await reader.read(-1)

    url = await serve_raw(handler)
    async with ReplicateClient(settings(url)) as client:
        events = await read_all(client, url)
    assert events == [DoneEvent("canceled"), OutputEvent("x", "1690212292:1")]


async def test_a_broken_transfer_is_reported_after_its_events(serve_raw: ServeRaw) -> None:
    """The transfer broke off: not an end, and the tokens before it are not lost."""
    got = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CHUNKED + chunk(event("a", 1)))
        await got.wait()

    url = await serve_raw(handler)
    batches: list[tuple[StreamEvent, ...]] = []

    def take(batch: tuple[StreamEvent, ...]) -> bool:
        batches.append(batch)
        got.set()
        return False

    async with ReplicateClient(settings(url)) as client, client.stream(url) as stream:
        with pytest.raises(NoResponse):
            await stream.forward_to(take)
    assert batches == [(OutputEvent("a", "1690212292:1"),)]


async def test_an_idle_timeout_ends_the_stream(serve_raw: ServeRaw) -> None:
    """Without a byte for the idle time the stream is over, like one that closed."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CHUNKED + chunk(event("a", 1)))
        await reader.read(-1)

    url = await serve_raw(handler)
    async with ReplicateClient(settings(url, stream_idle_timeout=0.3)) as client:
        assert await read_all(client, url) == [OutputEvent("a", "1690212292:1")]


async def test_an_oversized_event_breaks_the_stream(serve_raw: ServeRaw) -> None:
    """Memory is bounded."""
    url = await serve_raw(writes(HEAD + b"\r\n", event("a", 1), b"data: " + b"x" * 70_000))
    async with ReplicateClient(settings(url, max_event_bytes=60_000)) as client:
        with pytest.raises(NoResponse, match="without an end"):
            await read_all(client, url)


async def test_an_error_does_not_keep_the_stream_alive(serve_raw: ServeRaw) -> None:
    """An error and its frames would keep each other, and all that had come with them."""
    url = await serve_raw(writes(HEAD + b"\r\n", event("a", 1), b"data: " + b"x" * 70_000))
    gc.collect()
    gc.disable()
    try:
        async with ReplicateClient(settings(url, max_event_bytes=60_000)) as client:
            with pytest.raises(NoResponse):
                await read_all(client, url)
            assert not [reader for reader in gc.get_objects() if isinstance(reader, SseReader)]
    finally:
        gc.enable()


async def test_leaving_a_stream_closes_its_connection(serve_raw: ServeRaw) -> None:
    """The server sees the client go while it still has megabytes to say."""
    gone = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"\r\n" + event("a", 1) + event("b", 2) * 200_000)
        try:
            await reader.read(-1)
        finally:
            gone.set()

    url = await serve_raw(handler)
    async with ReplicateClient(settings(url)) as client:
        async with client.stream(url) as stream:
            await stream.forward_to(lambda _: True)
        await asyncio.wait_for(gone.wait(), 30)


async def back_in_the_pool(client: ReplicateClient) -> None:
    """Until a connection of streams is idle, which aiohttp shows in no other way."""
    pool: Any = client._connection.streams.connector
    async with asyncio.timeout(30):
        while not pool._conns:  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_a_finished_stream_returns_its_connection_to_the_pool(serve: Serve) -> None:
    """Also where the end of the body comes behind the last event."""
    ports: list[int] = []

    async def upstream(received: web.BaseRequest) -> web.StreamResponse:
        assert received.transport is not None
        ports.append(received.transport.get_extra_info("peername")[1])
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(received)
        await answer.write(event("a", len(ports)) + b"event: done\ndata: {}\n\n")
        ended.set()
        await goes_on.wait()
        return answer

    url = await serve(upstream)
    async with ReplicateClient(settings(url)) as client:
        for number in range(1, 4):
            ended, goes_on = asyncio.Event(), asyncio.Event()
            assert len(await read_all(client, url)) == 2
            await ended.wait()
            goes_on.set()
            await back_in_the_pool(client)
            assert len(ports) == number
    assert len(set(ports)) == 1


async def test_a_stream_that_continues_after_done_is_closed(serve_raw: ServeRaw) -> None:
    """Nobody reads what follows."""
    gone = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CHUNKED + chunk(b"event: done\ndata: {}\n\n") + chunk(event("b", 2) * 9_000))
        try:
            await reader.read(-1)
        finally:
            gone.set()

    url = await serve_raw(handler)
    async with ReplicateClient(settings(url)) as client:
        assert (await read_all(client, url))[0] == DoneEvent()
        await asyncio.wait_for(gone.wait(), 30)


async def test_a_reader_that_is_cancelled_closes_the_connection(serve_raw: ServeRaw) -> None:
    """Cancelled while waiting for a token: the cancellation gets through, the socket is closed."""
    waiting, gone = asyncio.Event(), asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CHUNKED + chunk(event("a", 1)))
        await reader.read(-1)
        gone.set()

    def take(_: tuple[StreamEvent, ...]) -> bool:
        waiting.set()
        return False

    async def follow() -> None:
        async with client.stream(url) as stream:
            await stream.forward_to(take)

    url = await serve_raw(handler)
    async with ReplicateClient(settings(url)) as client:
        following = asyncio.create_task(follow())
        await waiting.wait()
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following
        await asyncio.wait_for(gone.wait(), 30)


@pytest.mark.parametrize(
    ("status", "refusal"),
    [
        (401, RefusalReason.ACCOUNT),
        (404, RefusalReason.NOT_FOUND),
        (410, RefusalReason.OTHER),
        (429, RefusalReason.THROTTLED),
    ],
)
async def test_error_responses_to_a_stream(
    serve: Serve, status: int, refusal: RefusalReason
) -> None:
    """The same table as for the API."""

    async def upstream(_: web.BaseRequest) -> web.Response:
        return web.Response(status=status, text="no")

    url = await serve(upstream)
    async with ReplicateClient(settings(url)) as client:
        with pytest.raises(RequestRefused) as refused:
            await read_all(client, url)
    assert refused.value.refusal is refusal


@pytest.mark.parametrize("status", [200, 204, 206, 302, 408, 500, 502])
async def test_responses_that_are_not_a_stream(serve: Serve, status: int) -> None:
    """HTML with a 200, a redirect, a failure: nothing to read, and nothing is followed."""
    paths: list[str] = []

    async def upstream(received: web.BaseRequest) -> web.Response:
        paths.append(received.path)
        return web.Response(status=status, headers={"Location": "/other"}, content_type="text/html")

    url = await serve(upstream)
    async with ReplicateClient(settings(url)) as client:
        with pytest.raises(NoResponse):
            await read_all(client, f"{url}/s")
    assert paths == ["/s"]


async def test_a_foreign_host_is_never_connected_to(serve_raw: ServeRaw) -> None:
    """An answer may name any address; the gate goes to upstream's own only."""
    connections: list[None] = []

    async def foreign(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(None)

    own, elsewhere = await serve_raw(writes()), await serve_raw(foreign)
    async with ReplicateClient(settings(own)) as client:
        for url in (
            elsewhere,
            elsewhere.replace("127.0.0.1", "localhost"),
            own.replace("p:", "ps:"),
        ):
            with pytest.raises(RequestRefused) as refused:
                await read_all(client, url)
            assert refused.value.refusal is RefusalReason.OTHER
    assert connections == []


async def test_an_event_id_invalid_in_a_header_is_refused(serve_raw: ServeRaw) -> None:
    """It cannot smuggle in headers of its own."""
    url = await serve_raw(writes(HEAD))
    async with ReplicateClient(settings(url)) as client:
        with pytest.raises(RequestRefused):
            async with client.stream(url, last_event_id="1\r\nAuthorization: Bearer x"):
                pass


async def test_a_closed_port_and_a_connection_without_a_response(
    serve_raw: ServeRaw, unused_tcp_port: int
) -> None:
    """Nothing sent is told apart from nothing answered."""
    url = await serve_raw(writes())
    async with ReplicateClient(settings(url)) as client:
        with pytest.raises(NoResponse):
            await read_all(client, url)
    closed = f"http://127.0.0.1:{unused_tcp_port}"
    async with ReplicateClient(settings(closed)) as client:
        with pytest.raises(RequestRefused) as refused:
            await read_all(client, closed)
    assert refused.value.refusal is RefusalReason.UNREACHABLE


async def test_opening_a_stream_times_out(serve_raw: ServeRaw) -> None:
    """Opening has a hard end of its own."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    url = await serve_raw(handler)
    async with ReplicateClient(settings(url, connect_timeout=0.2, read_timeout=0.3)) as client:
        with pytest.raises(NoResponse, match="in time"):
            await read_all(client, url)


async def test_streams_leave_connections_for_api_calls(serve: Serve) -> None:
    """With every stream taken, a cancel still goes out; one more stream does not."""
    release = asyncio.Event()

    async def upstream(received: web.BaseRequest) -> web.StreamResponse:
        if received.method == "POST":
            return web.json_response({"id": "p1", "status": "canceled"})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(received)
        await response.write(event("a", 1))
        await release.wait()
        return response

    url = await serve(upstream)
    tight = settings(url, max_streams=1, connect_timeout=0.2)
    async with ReplicateClient(tight) as client, client.stream(url) as stream:
        await stream.forward_to(lambda _: True)
        assert await client.cancel("p1") is not None
        with pytest.raises(RequestRefused) as refused:
            await read_all(client, url)
        release.set()
    assert refused.value.refusal is RefusalReason.UNREACHABLE


def test_oversized_events_on_all_streams_bound_memory() -> None:
    """All streams that may be open hold less than 300 MiB of them, and not 19 GB."""
    settings = ReplicateSettings()
    assert settings.max_event_bytes * settings.max_streams <= 300 * 1024 * 1024
