"""The adapter against real sockets: what it sends, and what it makes of every kind of answer."""

import importlib.metadata
import inspect
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType

import httpx
import pytest
import replicate.client
from aiohttp import web

from mediagate_server.upstream.port import (
    CreateRequest,
    NoResponse,
    PredictionStatus,
    RefusalReason,
    RequestRefused,
)
from mediagate_server.upstream.replicate.client import ReplicateClient
from mediagate_server.upstream.replicate.connection import open_connection
from mediagate_server.upstream.replicate.large_responses import LargeResponses
from mediagate_server.upstream.settings import ReplicateSettings
from mediagate_server.workers.worker_pool import WorkerPool
from tests.upstream.replicate.adapter_requests import (
    CREATED,
    HEX,
    TOKEN,
    RawHttpUpstream,
    Serve,
    request,
    settings,
)

# --- what is sent -------------------------------------------------------------------------------


async def test_the_request_of_a_create(serve: Serve) -> None:
    """One POST with a closed body, the deadline in a header, and no wait for the output."""
    upstream = RawHttpUpstream()
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
    upstream = RawHttpUpstream()
    async with ReplicateClient(settings(await serve(upstream) + "/pre/")) as client:
        await client.create(request(target))
    assert upstream.seen == [("POST", path)]
    assert json.loads(upstream.bodies[0]).get("version") == version


async def test_the_deadline_is_never_under_five_seconds(serve: Serve) -> None:
    """Upstream takes no shorter one."""
    upstream = RawHttpUpstream()
    async with ReplicateClient(settings(await serve(upstream))) as client:
        await client.create(CreateRequest(target="a/b", input={}, cancel_after=0.5))
    assert upstream.sent[0]["cancel-after"] == "5s"


@pytest.mark.parametrize("value", [2**70, "\ud800", object()])
async def test_an_input_outside_json_is_refused_unsent(serve: Serve, value: object) -> None:
    """It is the input that is wrong, and nothing was sent."""
    upstream = RawHttpUpstream()
    async with ReplicateClient(settings(await serve(upstream))) as client:
        with pytest.raises(RequestRefused) as refused:
            await client.create(CreateRequest("a/b", {"x": value}, cancel_after=5))
    assert refused.value.refusal is RefusalReason.INPUT
    assert upstream.seen == []


async def test_ids_are_quoted_and_response_urls_are_not_followed(serve: Serve) -> None:
    """Paths are built from the base URL, also when the id tries to be one."""
    foreign = RawHttpUpstream()
    elsewhere = await serve(foreign)
    urls = {key: f"{elsewhere}/{key}" for key in ("get", "cancel", "web", "stream")}
    upstream = RawHttpUpstream(body={"id": "a/../b?c%2F", "status": "starting", "urls": urls})
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


async def test_environment_variables_are_ignored(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No token from the environment, no other base URL, no proxy, no netrc, no cookies."""
    foreign = RawHttpUpstream()
    elsewhere = await serve(foreign)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "REPLICATE_BASE_URL"):
        monkeypatch.setenv(name, elsewhere)
    monkeypatch.setenv("REPLICATE_API_TOKEN", TOKEN)
    upstream = RawHttpUpstream(Set_Cookie="session=1; Path=/")
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
    foreign = RawHttpUpstream()
    elsewhere = await serve(foreign)
    upstream = RawHttpUpstream(status=status, Location=f"{elsewhere}/v1/predictions/p1")
    async with ReplicateClient(settings(await serve(upstream))) as client:
        for call in (client.create(request()), client.get("p1"), client.cancel("p1")):
            with pytest.raises(NoResponse) as no_response:
                await call
            assert no_response.value.http_status == status
    assert len(upstream.seen) == 3
    assert foreign.seen == []


# --- what answers mean --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "headers", "refusal", "retry_after"),
    [
        (401, {"title": "Unauthenticated", "status": 401}, {}, RefusalReason.ACCOUNT, None),
        (402, b"<html>pay</html>", {}, RefusalReason.ACCOUNT, None),
        (
            404,
            {"detail": "The requested resource could not be found."},
            {},
            RefusalReason.NOT_FOUND,
            None,
        ),
        (422, [1, 2], {}, RefusalReason.INPUT, None),
        (429, {"detail": "Your rate limit resets in ~8s."}, {}, RefusalReason.THROTTLED, 8.0),
        (429, b"", {"Retry_After": "2"}, RefusalReason.THROTTLED, 2.0),
        (409, b"x" * 200_000, {}, RefusalReason.OTHER, None),
    ],
)
async def test_definite_refusals_of_creates(
    serve: Serve,
    status: int,
    body: object,
    headers: dict[str, str],
    refusal: RefusalReason,
    retry_after: float | None,
) -> None:
    """A definite no, with all that upstream says about it, from one POST."""
    upstream = RawHttpUpstream(status, body, **headers)
    async with ReplicateClient(settings(await serve(upstream))) as client:
        with pytest.raises(RequestRefused) as refused:
            await client.create(request())
    assert refused.value.refusal is refusal
    assert refused.value.http_status == status
    assert refused.value.retry_after == retry_after
    assert len(upstream.seen) == 1


@pytest.mark.parametrize("status", [408, 499, 500, 502, 503, 504])
async def test_ambiguous_responses_to_creates(serve: Serve, status: int) -> None:
    """No second POST, and no waiting of the SDK's for a Retry-After of minutes."""
    upstream = RawHttpUpstream(status, b"<html>", Retry_After="300")
    async with ReplicateClient(settings(await serve(upstream))) as client:
        with pytest.raises(NoResponse):
            await client.create(request())
        with pytest.raises(NoResponse):
            await client.get("p1")
    assert [method for method, _ in upstream.seen] == ["POST", "GET"]


@pytest.mark.parametrize("body", [b"", b"<html>ok</html>", b"[]", b"{}", b'{"id":', b'{"id":null}'])
async def test_a_success_without_an_id_is_ambiguous(serve: Serve, body: bytes) -> None:
    """Something may run; which, is not known."""
    upstream = RawHttpUpstream(201, body)
    async with ReplicateClient(settings(await serve(upstream))) as client:
        with pytest.raises(NoResponse):
            await client.create(request())
    assert len(upstream.seen) == 1


# --- cancel -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 404, 405, 409, 410, 422])
async def test_cancelling_an_ended_prediction(serve: Serve, status: int) -> None:
    """Any 4xx about the prediction: nothing left to cancel."""
    upstream = RawHttpUpstream(status, b"{}")
    async with ReplicateClient(settings(await serve(upstream))) as client:
        assert await client.cancel("p1") is None


@pytest.mark.parametrize("status", [401, 402, 403, 429])
async def test_a_failed_cancel(serve: Serve, status: int) -> None:
    """About the account or its rate: the prediction runs on and costs."""
    upstream = RawHttpUpstream(status, b"{}")
    async with ReplicateClient(settings(await serve(upstream))) as client:
        with pytest.raises(RequestRefused):
            await client.cancel("p1")


async def test_a_cancel_returns_the_prediction(serve: Serve) -> None:
    """As recorded: canceled, with its metrics. A 2xx without a prediction tells nothing."""
    upstream = RawHttpUpstream(
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
    assert (cancelled.metrics or {})["predict_time"] == Decimal("0.068")
    assert upstream.seen[0] == ("POST", "/v1/predictions/p1/cancel")


# --- the SDK ------------------------------------------------------------------------------------


def test_the_sdk_has_the_reviewed_version() -> None:
    """A private entry is used: another version must be read again before it is let in."""
    assert importlib.metadata.version("replicate") == "1.0.7"
    entry = inspect.signature(replicate.client.Client._async_request)
    assert list(entry.parameters) == ["self", "method", "path", "kwargs"]


async def test_the_sdk_returns_the_raw_response(serve: Serve, tmp_path: Path) -> None:
    """Headers, content and timeout pass through it, and nothing is decoded on the way."""
    upstream = RawHttpUpstream(201, b"[not json")
    async with open_connection(
        settings(await serve(upstream)), LargeResponses(tmp_path / "bodies", WorkerPool())
    ) as connection:
        answer = await connection.sdk._async_request(
            "POST", "/x", content=b"abc", headers={"Cancel-After": "5s"}, timeout=httpx.Timeout(9)
        )
    assert isinstance(answer, httpx.Response)
    assert answer.content == b"[not json"
    assert upstream.seen == [("POST", "/v1/x")]
    assert upstream.bodies == [b"abc"]
    assert upstream.sent[0]["cancel-after"] == "5s"


async def test_the_sdk_retries_nothing(serve: Serve, tmp_path: Path) -> None:
    """Its own retry is off by setting, besides never seeing an answer it would retry."""
    async with open_connection(
        settings(await serve(RawHttpUpstream())), LargeResponses(tmp_path / "bodies", WorkerPool())
    ) as connection:
        transport = connection.sdk._async_client._transport
        assert isinstance(transport, replicate.client.RetryTransport)
        assert transport.max_attempts == 1
