"""The adapter against real sockets: what it sends, and what it makes of every kind of answer."""

import asyncio
import gzip
import importlib.metadata
import inspect
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import httpx
import pytest
import replicate.client
from aiohttp import web

from mediagate_server.replicate.client import ReplicateClient
from mediagate_server.replicate.connection import connect
from mediagate_server.replicate.port import (
    CreateRequest,
    NoAnswer,
    PredictionStatus,
    Refusal,
    Refused,
)
from mediagate_server.replicate.settings import ReplicateSettings

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


class Upstream:
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


# --- what is sent -------------------------------------------------------------------------------


async def test_a_create_as_it_is_sent(serve: Serve) -> None:
    """One POST with a closed body, the deadline in a header, and no wait for the output."""
    upstream = Upstream()
    async with ReplicateClient(settings(await serve(upstream))) as client:
        frozen = MappingProxyType({"prompt": "é", "sizes": (1, 2), "deep": MappingProxyType({})})
        created = await client.create(
            CreateRequest(
                target="meta/llama",
                input=frozen,
                cancel_after=12.2,
                webhook="https://gate.example/webhooks/replicate?g=1",
                webhook_events=("completed",),
            )
        )
    assert (created.id, created.status) == ("p1", PredictionStatus.STARTING)
    assert upstream.seen == [("POST", "/v1/models/meta/llama/predictions")]
    assert json.loads(upstream.bodies[0]) == {
        "input": {"prompt": "é", "sizes": [1, 2], "deep": {}},
        "webhook": "https://gate.example/webhooks/replicate?g=1",
        "webhook_events_filter": ["completed"],
    }
    (sent,) = upstream.sent
    assert sent["authorization"] == f"Bearer {TOKEN}"
    assert sent["cancel-after"] == "13s"
    assert sent["content-type"] == "application/json"
    assert sent["user-agent"].startswith("mediagate/")
    assert "prefer" not in sent


@pytest.mark.parametrize(
    ("target", "path", "version"),
    [
        ("deployments/acme/ours", "/pre/v1/deployments/acme/ours/predictions", None),
        (f"stability-ai/sdxl:{HEX}", "/pre/v1/predictions", f"stability-ai/sdxl:{HEX}"),
        (HEX, "/pre/v1/predictions", HEX),
    ],
)
async def test_targets_behind_a_path_prefix(
    serve: Serve, target: str, path: str, version: str | None
) -> None:
    """Deployments and versions have their own routes; a prefix of the base URL stays."""
    upstream = Upstream()
    async with ReplicateClient(settings(await serve(upstream) + "/pre/")) as client:
        await client.create(request(target))
    assert upstream.seen == [("POST", path)]
    assert json.loads(upstream.bodies[0]).get("version") == version


async def test_the_deadline_is_never_under_five_seconds(serve: Serve) -> None:
    """Upstream takes no shorter one."""
    upstream = Upstream()
    async with ReplicateClient(settings(await serve(upstream))) as client:
        await client.create(CreateRequest(target="a/b", input={}, cancel_after=0.5))
    assert upstream.sent[0]["cancel-after"] == "5s"


@pytest.mark.parametrize("value", [2**70, "\ud800", object()])
async def test_an_input_that_json_cannot_say_is_refused_unsent(serve: Serve, value: object) -> None:
    """It is the input that is wrong, and nothing was sent."""
    upstream = Upstream()
    async with ReplicateClient(settings(await serve(upstream))) as client:
        with pytest.raises(Refused) as refused:
            await client.create(CreateRequest("a/b", {"x": value}, cancel_after=5))
    assert refused.value.refusal is Refusal.INPUT
    assert upstream.seen == []


async def test_ids_are_quoted_and_nothing_of_an_answer_is_followed(serve: Serve) -> None:
    """Paths are built from the base URL, also when the id tries to be one."""
    foreign = Upstream()
    elsewhere = await serve(foreign)
    urls = {key: f"{elsewhere}/{key}" for key in ("get", "cancel", "web", "stream")}
    upstream = Upstream(body={"id": "a/../b?c%2F", "status": "starting", "urls": urls})
    async with ReplicateClient(settings(await serve(upstream))) as client:
        created = await client.create(request())
        await client.get(created.id)
        await client.cancel(created.id)
    assert upstream.seen[1:] == [
        ("GET", "/v1/predictions/a%2F..%2Fb%3Fc%252F"),
        ("POST", "/v1/predictions/a%2F..%2Fb%3Fc%252F/cancel"),
    ]
    assert foreign.seen == []


async def test_a_list_with_its_filters_and_cursor(serve: Serve) -> None:
    """A cursor comes back to upstream as the very text it gave."""
    cursor = "cD0yMDI0/+= &%20é"
    queries: list[dict[str, str]] = []

    async def upstream(received: web.BaseRequest) -> web.Response:
        queries.append(dict(received.query))
        next_url = str(received.url.with_query({"cursor": cursor}))
        return web.json_response({"previous": None, "next": next_url, "results": [CREATED]})

    async with ReplicateClient(settings(await serve(upstream))) as client:
        first = await client.list_predictions(
            created_after=datetime(2025, 1, 1, tzinfo=UTC),
            created_before=datetime(2025, 2, 1, 0, 0, 0, 120_000, tzinfo=UTC),
        )
        second = await client.list_predictions(cursor=first.next_cursor)
    assert [p.id for p in second.predictions] == ["p1"]
    assert queries == [
        {"created_after": "2025-01-01T00:00:00Z", "created_before": "2025-02-01T00:00:00.120000Z"},
        {"cursor": cursor},
    ]


# --- what the environment may not change --------------------------------------------------------


async def test_the_environment_changes_nothing(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No token from the environment, no other base URL, no proxy, no netrc, no cookies."""
    foreign = Upstream()
    elsewhere = await serve(foreign)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "REPLICATE_BASE_URL"):
        monkeypatch.setenv(name, elsewhere)
    monkeypatch.setenv("REPLICATE_API_TOKEN", TOKEN)
    upstream = Upstream(Set_Cookie="session=1; Path=/")
    url = (await serve(upstream)).replace("127.0.0.1", "localhost")  # cookies are kept by name
    async with ReplicateClient(ReplicateSettings(base_url=url)) as client:
        await client.create(request())
        await client.get("p1")
    assert foreign.seen == []
    assert [sent.get("authorization") for sent in upstream.sent] == [None, None]
    assert [sent.get("cookie") for sent in upstream.sent] == [None, None]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(serve: Serve, status: int) -> None:
    """The token stays where it belongs; a create answered so is in doubt."""
    foreign = Upstream()
    elsewhere = await serve(foreign)
    upstream = Upstream(status=status, Location=f"{elsewhere}/v1/predictions/p1")
    async with ReplicateClient(settings(await serve(upstream))) as client:
        for call in (client.create(request()), client.get("p1"), client.cancel("p1")):
            with pytest.raises(NoAnswer) as doubt:
                await call
            assert doubt.value.http_status == status
    assert len(upstream.seen) == 3
    assert foreign.seen == []


# --- what answers mean --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "headers", "refusal", "retry_after"),
    [
        (401, {"title": "Unauthenticated", "status": 401}, {}, Refusal.ACCOUNT, None),
        (402, b"<html>pay</html>", {}, Refusal.ACCOUNT, None),
        (
            404,
            {"detail": "The requested resource could not be found."},
            {},
            Refusal.NOT_FOUND,
            None,
        ),
        (422, [1, 2], {}, Refusal.INPUT, None),
        (429, {"detail": "Your rate limit resets in ~30s."}, {}, Refusal.THROTTLED, 30.0),
        (429, b"", {"Retry_After": "2"}, Refusal.THROTTLED, 2.0),
        (409, b"x" * 200_000, {}, Refusal.OTHER, None),
    ],
)
async def test_refused_creates(
    serve: Serve,
    status: int,
    body: object,
    headers: dict[str, str],
    refusal: Refusal,
    retry_after: float | None,
) -> None:
    """A definite no, with all that upstream says about it, from one POST."""
    upstream = Upstream(status, body, **headers)
    async with ReplicateClient(settings(await serve(upstream))) as client:
        with pytest.raises(Refused) as refused:
            await client.create(request())
    assert refused.value.refusal is refusal
    assert refused.value.http_status == status
    assert refused.value.retry_after == retry_after
    assert len(upstream.seen) == 1


@pytest.mark.parametrize("status", [408, 499, 500, 502, 503, 504])
async def test_doubtful_creates(serve: Serve, status: int) -> None:
    """No second POST, and no waiting of the SDK's for a Retry-After of minutes."""
    upstream = Upstream(status, b"<html>", Retry_After="300")
    async with ReplicateClient(settings(await serve(upstream))) as client:
        with pytest.raises(NoAnswer):
            await client.create(request())
        with pytest.raises(NoAnswer):
            await client.get("p1")
    assert [method for method, _ in upstream.seen] == ["POST", "GET"]


@pytest.mark.parametrize("body", [b"", b"<html>ok</html>", b"[]", b"{}", b'{"id":', b'{"id":null}'])
async def test_a_success_without_an_id_is_a_doubt(serve: Serve, body: bytes) -> None:
    """Something may run; which, is not known."""
    upstream = Upstream(201, body)
    async with ReplicateClient(settings(await serve(upstream))) as client:
        with pytest.raises(NoAnswer):
            await client.create(request())
    assert len(upstream.seen) == 1


HEAD = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\n"
WHOLE = b'{"id":"p1","status":"starting"}'


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b"HTTP/1.1 201 Cre",),
        (b"\x00\xff garbage\r\n\r\n",),
        (HEAD, b"Content-Length: 100\r\n\r\n", WHOLE[:12]),
        (HEAD, b"Transfer-Encoding: chunked\r\n\r\n1f\r\n", WHOLE[:12]),
        (HEAD, b"Transfer-Encoding: chunked\r\n\r\nnonsense"),
        (HEAD, b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\n", b"plain"),
        (HEAD, b"Content-Encoding: zebra\r\nContent-Length: 31\r\n\r\n", WHOLE),
    ],
)
@pytest.mark.parametrize("reset", [False, True])
async def test_connections_that_break_are_doubts(
    serve_raw: ServeRaw, pieces: tuple[bytes, ...], reset: bool
) -> None:
    """Once the request went out, no break is a refusal, and none makes a second POST."""
    posts: list[bytes] = []
    url = await serve_raw(answers(*pieces, posts=posts, reset=reset))
    async with ReplicateClient(settings(url)) as client:
        with pytest.raises(NoAnswer):
            await client.create(request())
    assert len(posts) == 1


async def test_a_kept_connection_that_dies_under_a_create_is_a_doubt(serve_raw: ServeRaw) -> None:
    """The second request meets a connection that its server drops: taken or not, nobody knows."""
    posts: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        posts.append(await read_request(reader))
        writer.write(HEAD + b"Content-Length: 31\r\n\r\n" + WHOLE)
        posts.append(await read_request(reader))

    async with ReplicateClient(settings(await serve_raw(handler))) as client:
        await client.create(request())
        with pytest.raises(NoAnswer):
            await client.create(request())
    assert [post[:4] for post in posts] == [b"POST", b"POST"]


@pytest.mark.parametrize(
    "pieces",
    [
        (HEAD, b"\r\n", WHOLE),
        (HEAD, b"Content-Length: 31\r\nContent-Encoding: identity\r\n\r\n", WHOLE[:9], WHOLE[9:]),
        (HEAD, b"Content-Encoding: gzip\r\n\r\n", gzip.compress(WHOLE)),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n", HEAD, b"\r\n", WHOLE),
    ],
)
async def test_whole_bodies_in_any_form_are_answers(
    serve_raw: ServeRaw, pieces: tuple[bytes, ...]
) -> None:
    """Ended by the connection's end, in pieces, or packed although that was not asked for."""
    async with ReplicateClient(settings(await serve_raw(answers(*pieces)))) as client:
        assert (await client.create(request())).id == "p1"


async def test_a_refusal_stands_although_its_body_breaks(serve_raw: ServeRaw) -> None:
    """The status has said it all."""
    head = b"HTTP/1.1 422 No\r\nContent-Length: 100\r\n\r\n"
    async with ReplicateClient(settings(await serve_raw(answers(head, b'{"det')))) as client:
        with pytest.raises(Refused) as refused:
            await client.create(request())
    assert refused.value.refusal is Refusal.INPUT


async def test_what_was_not_read_to_its_end_has_no_successor(serve_raw: ServeRaw) -> None:
    """A create that is refused before all of it was read: the next one takes another connection."""
    heads: list[bytes] = []
    over = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
        await over.wait()

    async with ReplicateClient(settings(await serve_raw(handler))) as client:
        for _ in range(2):
            with pytest.raises(Refused) as refused:
                await client.create(CreateRequest("a/b", {"x": "y" * 2**24}, cancel_after=5))
            assert refused.value.refusal is Refusal.INPUT
    over.set()
    assert len(heads) == 2


async def test_a_large_create_arrives_whole(serve_raw: ServeRaw) -> None:
    """More than a socket takes at once."""
    posts: list[bytes] = []
    url = await serve_raw(answers(HEAD, b"\r\n", WHOLE, posts=posts))
    async with ReplicateClient(settings(url)) as client:
        assert (await client.create(CreateRequest("a/b", {"x": "y" * 2**24}, 5))).id == "p1"
    assert json.loads(posts[0].partition(b"\r\n\r\n")[2]) == {"input": {"x": "y" * 2**24}}


async def test_bodies_are_bounded(serve: Serve) -> None:
    """Plain or packed: what is too large is not kept."""
    large = json.dumps({"id": "p1", "output": "x" * 5_000}).encode()
    plain, packed = (
        Upstream(200, large),
        Upstream(200, gzip.compress(large), Content_Encoding="gzip"),
    )
    for upstream in (plain, packed):
        url = await serve(upstream)
        async with ReplicateClient(settings(url, max_body_bytes=4_000)) as client:
            with pytest.raises(NoAnswer, match="too large"):
                await client.get("p1")
        async with ReplicateClient(settings(url, max_body_bytes=6_000)) as client:
            assert (await client.get("p1")).id == "p1"


# --- when nothing was sent ----------------------------------------------------------------------


async def test_the_last_word_before_the_first_byte(serve: Serve) -> None:
    """Asked once there is a connection; a create that may not be sent any more has not been."""
    upstream = Upstream()
    asked: list[bool] = []

    def may_send() -> bool:
        asked.append(len(asked) != 1)
        return asked[-1]

    async with ReplicateClient(settings(await serve(upstream))) as client:
        await client.create(request(may_send=may_send))
        with pytest.raises(Refused) as refused:
            await client.create(request(may_send=may_send))
        await client.create(request(may_send=may_send))
        await client.create(request())
    assert refused.value.refusal is Refusal.UNREACHABLE
    assert asked == [True, False, True]
    assert len(upstream.bodies) == 3


async def test_a_closed_port_is_unreachable(unused_tcp_port: int) -> None:
    """Not a byte left this machine."""
    async with ReplicateClient(settings(f"http://127.0.0.1:{unused_tcp_port}")) as client:
        for call in (client.create(request()), client.get("p1"), client.list_predictions()):
            with pytest.raises(Refused) as refused:
                await call
            assert refused.value.refusal is Refusal.UNREACHABLE


async def test_a_name_that_does_not_resolve_is_unreachable() -> None:
    """Resolving is before sending."""
    unknown = settings("http://no-such-host.invalid", connect_timeout=1.0)
    async with ReplicateClient(unknown) as client:
        with pytest.raises(Refused) as refused:
            await client.create(request())
    assert refused.value.refusal is Refusal.UNREACHABLE


async def test_a_failed_tls_handshake_is_unreachable(serve_raw: ServeRaw) -> None:
    """The request goes out only after it."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(5)
        writer.write(b"this is no TLS\r\n\r\n")

    url = (await serve_raw(handler)).replace("http:", "https:")
    async with ReplicateClient(settings(url)) as client:
        with pytest.raises(Refused) as refused:
            await client.create(request())
    assert refused.value.refusal is Refusal.UNREACHABLE


async def test_a_connection_that_does_not_come_about_in_time_is_unreachable(
    serve_raw: ServeRaw,
) -> None:
    """A handshake that nobody answers: still nothing was sent."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    url = (await serve_raw(handler)).replace("http:", "https:")
    async with ReplicateClient(settings(url, connect_timeout=0.2)) as client:
        with pytest.raises(Refused) as refused:
            await client.create(request())
    assert refused.value.refusal is Refusal.UNREACHABLE


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
        with pytest.raises(Refused) as refused:
            await client.create(request())
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert refused.value.refusal is Refusal.UNREACHABLE
    assert len(posts) == 1


async def test_an_answer_that_does_not_come_is_a_doubt(serve_raw: ServeRaw) -> None:
    """Every exchange has a hard end, the body included."""
    posts: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        posts.append(await read_request(reader))
        if len(posts) > 1:
            writer.write(HEAD + b"Content-Length: 31\r\n\r\n" + WHOLE[:9])
        await reader.read(-1)

    url = await serve_raw(handler)
    hasty = settings(url, connect_timeout=0.4, create_timeout=0.5, read_timeout=0.5)
    async with ReplicateClient(hasty) as client:
        with pytest.raises(NoAnswer, match="timeout"):
            await client.create(request())
        with pytest.raises(NoAnswer, match="timeout"):
            await client.get("p1")
    assert [post[:4] for post in posts] == [b"POST", b"GET "]


# --- cancel -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 404, 405, 409, 410, 422])
async def test_cancelling_what_has_ended(serve: Serve, status: int) -> None:
    """Any 4xx about the prediction: nothing left to cancel."""
    upstream = Upstream(status, b"{}")
    async with ReplicateClient(settings(await serve(upstream))) as client:
        assert await client.cancel("p1") is None


@pytest.mark.parametrize("status", [401, 402, 403, 429])
async def test_a_cancel_that_was_not_heard(serve: Serve, status: int) -> None:
    """About the account or its rate: the prediction runs on and costs."""
    upstream = Upstream(status, b"{}")
    async with ReplicateClient(settings(await serve(upstream))) as client:
        with pytest.raises(Refused):
            await client.cancel("p1")


async def test_a_cancel_answers_with_the_prediction(serve: Serve) -> None:
    """As recorded: canceled, with its metrics. A 2xx without a prediction tells nothing."""
    upstream = Upstream(
        200,
        b'{"id":"p1","status":"canceled","logs":null,"webhook_completed":null,'
        b'"completed_at":"2024-05-02T18:37:12.26Z","metrics":{"predict_time":0.068,"total_time":0.18}}',
    )
    async with ReplicateClient(settings(await serve(upstream))) as client:
        cancelled = await client.cancel("p1")
        upstream.body = b""
        assert await client.cancel("p1") is None
    assert cancelled is not None
    assert cancelled.status is PredictionStatus.CANCELED
    assert cancelled.metrics["predict_time"] == Decimal("0.068")
    assert upstream.seen[0] == ("POST", "/v1/predictions/p1/cancel")


# --- the SDK ------------------------------------------------------------------------------------


def test_the_sdk_is_the_one_that_was_read() -> None:
    """A private entry is used: another version must be read again before it is let in."""
    assert importlib.metadata.version("replicate") == "1.0.7"
    entry = inspect.signature(replicate.client.Client._async_request)
    assert list(entry.parameters) == ["self", "method", "path", "kwargs"]


async def test_the_sdks_entry_gives_the_raw_answer(serve: Serve) -> None:
    """Headers, content and timeout pass through it, and nothing is decoded on the way."""
    upstream = Upstream(201, b"[not json")
    async with connect(settings(await serve(upstream))) as connection:
        answer = await connection.sdk._async_request(
            "POST", "/x", content=b"abc", headers={"Cancel-After": "5s"}, timeout=httpx.Timeout(9)
        )
    assert isinstance(answer, httpx.Response)
    assert answer.content == b"[not json"
    assert upstream.seen == [("POST", "/v1/x")]
    assert upstream.bodies == [b"abc"]
    assert upstream.sent[0]["cancel-after"] == "5s"


async def test_the_sdk_retries_nothing(serve: Serve) -> None:
    """Its own retry is off by setting, besides never seeing an answer it would retry."""
    async with connect(settings(await serve(Upstream()))) as connection:
        transport = connection.sdk._async_client._transport
        assert isinstance(transport, replicate.client.RetryTransport)
        assert transport.max_attempts == 1
