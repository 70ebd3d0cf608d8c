"""Forged webhooks through the wire: a real port, a real store, the sandbox and its secret."""

import asyncio
import base64
import contextlib
import gzip
import io
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from mediagate_sandbox.server import Sandbox, SandboxSettings
from mediagate_sandbox.webhook_signing import WebhookSigner, new_secret
from mediagate_server.errors import StoreUnavailable
from mediagate_server.http.replicate_webhooks import (
    MAX_BODY_BYTES,
    ReplicateWebhookRoutes,
    WebhookOutcome,
)
from mediagate_server.http.servers import ConnectionLimiter, PublicHttpServer
from mediagate_server.observability import metrics
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.upstream.replicate.client import ReplicateClient
from mediagate_server.upstream.replicate.webhook_verification import WebhookSecrets, WebhookUrls
from mediagate_server.upstream.settings import ReplicateSettings

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ATTEMPT = "att_0123456789abcdef0123456789abcdef"
BODY = b'{"id": "p1", "status": "succeeded", "output": "x"}'


@dataclass
class WebhookPort:
    """A web port, what it handed on, and somebody who can sign."""

    session: aiohttp.ClientSession
    signer: WebhookSigner
    addresses: WebhookUrls
    sandbox: str
    configured: list[str] = field(default_factory=list)
    hints: list[tuple[str, str]] = field(default_factory=list)
    before: dict[str, float] = field(default_factory=dict)
    store_is_away: bool = False
    hint_never_ends: bool = False

    async def hint(self, attempt_id: str, prediction_id: str) -> bool:
        if self.store_is_away:
            raise StoreUnavailable("away")
        if self.hint_never_ends:
            await asyncio.Event().wait()
        self.hints.append((attempt_id, prediction_id))
        return attempt_id == ATTEMPT

    async def post(
        self,
        body: bytes = BODY,
        *,
        to: str = ATTEMPT,
        message_id: str = "msg_1",
        at: datetime = NOW,
        signer: WebhookSigner | None = None,
        sent: bytes | None = None,
        **headers: str | None,
    ) -> int:
        """The status of the answer, which never says more."""
        signed: dict[str, str | None] = {
            **(signer or self.signer).headers(message_id, at, body),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        async with self.session.post(
            self.addresses.url_for(to),
            data=body if sent is None else sent,
            headers={name: value for name, value in signed.items() if value is not None},
        ) as answer:
            assert await answer.read() == b""
            assert answer.headers["Server"] == "mediagate"
            return answer.status

    def counted(self) -> dict[str, int]:
        """How many webhooks came to each outcome since the last call."""
        now = {outcome.value: _count(outcome) for outcome in WebhookOutcome}
        new = {name: int(now[name] - self.before.get(name, 0)) for name in now}
        self.before = now
        return {name: number for name, number in new.items() if number}


@asynccontextmanager
async def opened(
    folder: Path, connections: ConnectionLimiter | None = None
) -> AsyncIterator[WebhookPort]:
    """Everything but the engine, which only wants hints."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(SqliteStore(folder))
        secret = new_secret()
        sandbox = await stack.enter_async_context(
            Sandbox(SandboxSettings(port=0, webhook_secret=secret))
        )
        client = await stack.enter_async_context(
            ReplicateClient(ReplicateSettings(sandbox.base_url, "token"))
        )
        port = PublicHttpServer("127.0.0.1:0", connections)
        stack.callback(port.close)
        door = WebhookPort(
            await stack.enter_async_context(aiohttp.ClientSession()),
            WebhookSigner(secret),
            WebhookUrls(f"http://{port.address}", await store.secret_key("webhook-url")),
            sandbox.url,
        )
        secrets = WebhookSecrets(client.webhook_secret, lambda: door.configured, pause=0)
        webhooks = ReplicateWebhookRoutes(
            door.addresses,
            secrets,
            store.has_webhook,
            store.claim_webhook,
            door.hint,
            lambda: NOW,
            handler_seconds=0.05,
        )
        port.add(webhooks.routes())
        await stack.enter_async_context(port)
        door.counted()
        yield door


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[WebhookPort]:
    """A web port on an empty store."""
    async with opened(tmp_path) as port:
        yield port


def _count(outcome: WebhookOutcome) -> float:
    return float(metrics.upstream_webhooks.labels(outcome.value)._value.get())


async def test_a_signed_webhook_is_a_hint(door: WebhookPort) -> None:
    """It names the attempt of the URL and the prediction of the body."""
    assert await door.post() == 200
    assert door.hints == [(ATTEMPT, "p1")]
    assert door.counted() == {"taken": 1}


async def test_forged_webhooks_get_equal_responses(door: WebhookPort) -> None:
    """Each forgery gets the same answer, whether the attempt is there or not: accepted 0."""
    stranger = WebhookSigner(new_secret())
    forgeries = [
        {"signer": stranger},
        {"signer": stranger, "to": "att_other"},
        {"sent": BODY.replace(b"p1", b"p2")},
        {"sent": BODY + b" "},
        {"sent": b""},
        {"webhook_id": "msg_2"},
        {"webhook_timestamp": str(int(NOW.timestamp()) + 1)},
        {"at": NOW + timedelta(minutes=6)},
        {"at": NOW - timedelta(minutes=6)},
        {"webhook_id": None},
        {"webhook_timestamp": None},
        {"webhook_signature": None},
        {"webhook_signature": ""},
        {"webhook_signature": "v1," + base64.b64encode(bytes(32)).decode()},
        {"webhook_signature": "v1,é"},
    ]
    assert [await door.post(**forgery) for forgery in forgeries] == [401] * len(forgeries)  # type: ignore[arg-type]
    assert door.hints == []
    assert door.counted() == {"forged": 8, "unsigned": 5, "stale": 2}
    assert await door.post() == 200


async def test_a_replayed_webhook_is_refused_after_a_restart_too(tmp_path: Path) -> None:
    """Within the five minutes in which its signature is good."""
    async with opened(tmp_path) as door:
        assert [await door.post(), await door.post()] == [200, 409]
        secret = door.signer.secret
    async with opened(tmp_path) as door:
        door.configured.append(secret)
        assert await door.post(signer=WebhookSigner(secret)) == 409
        assert door.hints == []
        assert door.counted() == {"replayed": 1}
        assert await door.post(message_id="msg_2") == 200


async def test_simultaneous_duplicates_are_one(door: WebhookPort) -> None:
    """Claimed in a commit of its own."""
    answers = await asyncio.gather(*(door.post() for _ in range(20)))
    assert sorted(answers) == [200] + [409] * 19
    assert door.hints == [(ATTEMPT, "p1")]


async def test_a_webhook_url_is_bound_to_its_attempt(door: WebhookPort) -> None:
    """A good signature under the URL of another attempt, or of nobody: 200, and no hint."""
    good = door.addresses.url_for(ATTEMPT)
    for n, url in enumerate(
        (
            good.replace("att_0", "att_1"),
            good[:-1] + ("0" if good[-1] != "0" else "1"),
            good + "0",
            good.rpartition(".")[0],
        )
    ):
        headers = door.signer.headers(f"msg_{n}", NOW, BODY)
        async with door.session.post(url, data=BODY, headers=headers) as answer:
            assert answer.status == 200
    assert door.hints == []
    assert await door.post(to="att_unknown") == 200
    assert door.hints == [("att_unknown", "p1")]
    assert door.counted() == {"unknown": 5}


async def test_an_oversized_body_is_not_hashed(door: WebhookPort) -> None:
    """Ten megabytes, said beforehand or not; one byte less than the limit is taken."""
    huge = b"[" + b"0" * 10_000_000

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield huge[:1_000_000]

    for number, body in enumerate((io.BytesIO(huge), pieces())):
        signed = door.signer.headers(f"msg_{number}", NOW, huge)
        # It may hang up while we are still sending; the count tells.
        with contextlib.suppress(aiohttp.ClientError):
            async with door.session.post(
                door.addresses.url_for(ATTEMPT), data=body, headers=signed
            ) as answer:
                assert answer.status == 413
    assert door.counted() == {"too_large": 2}
    largest = BODY + b" " * (MAX_BODY_BYTES - len(BODY))
    assert await door.post(largest) == 200
    assert door.hints == [(ATTEMPT, "p1")]


async def test_an_interrupted_body_is_no_error(
    door: WebhookPort, capsys: pytest.CaptureFixture[str]
) -> None:
    """Strangers may leave as they like: it is counted, and no error of ours."""
    url = URL(door.addresses.url_for(ATTEMPT))
    signed = {**door.signer.headers("msg_1", NOW, BODY), "Content-Length": str(len(BODY))}
    head = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(f"POST {url.path} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode() + BODY[:9])
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    assert await door.post() == 200
    assert door.counted() == {"broken_off": 1, "taken": 1}
    assert "failed" not in capsys.readouterr().out


async def test_the_signature_covers_the_raw_body(door: WebhookPort) -> None:
    """Nobody unpacks it before the signature. Upstream signs JSON: what is no text is nobody's."""
    packed = gzip.compress(BODY)
    assert await door.post(BODY, sent=packed, Content_Encoding="gzip") == 401
    assert await door.post(packed, Content_Encoding="gzip") == 401
    assert await door.post(b"\xff") == 401
    assert await door.post(BODY, Content_Encoding="gzip") == 200
    assert door.counted() == {"forged": 3, "taken": 1}


@pytest.mark.parametrize("body", [b"", b"no", b"[]", b"{}", b'{"id": 7}', b'{"id": ""}'])
async def test_a_signed_body_without_a_prediction_is_accepted(
    door: WebhookPort, body: bytes
) -> None:
    """Upstream would send the very same once more."""
    assert await door.post(body) == 200
    assert door.hints == []
    assert door.counted() == {"unreadable": 1}


async def test_a_rotated_secret_replaces_the_old_one(
    door: WebhookPort,
) -> None:
    """Upstream's own, asked for when a signature is not known; through several rotations."""
    old = door.signer
    assert await door.post(message_id="msg_0") == 200
    for n in range(1, 4):
        new = WebhookSigner(await _rotate(door))
        assert await door.post(message_id=f"msg_{n}", signer=new) == 200
        assert await door.post(message_id=f"old_{n}", signer=old) == 401
        old = new
    assert len(door.hints) == 4


async def test_both_secrets_are_valid_during_an_overlap(door: WebhookPort) -> None:
    """Upstream signs with both for a while; whoever still has the old one alone is refused."""
    old = WebhookSigner(door.signer.secret)
    door.signer.rotate(await _rotate(door, overlap_seconds=60), NOW, 60)
    assert await door.post(message_id="msg_1") == 200
    assert await door.post(message_id="msg_2", signer=old) == 401


async def test_configured_secrets_are_valid_until_removed(door: WebhookPort) -> None:
    """A new one can be brought before it is used, an old one taken away, without a restart."""
    coming = WebhookSigner(new_secret())
    assert await door.post(message_id="msg_1", signer=coming) == 401
    door.configured.append(coming.secret)
    assert await door.post(message_id="msg_2", signer=coming) == 200
    door.configured.clear()
    assert await door.post(message_id="msg_3", signer=coming) == 401


async def test_an_unavailable_store_makes_upstream_retry(door: WebhookPort) -> None:
    """Nothing is claimed that nobody has heard of in vain: the polls find what is lost here."""
    door.store_is_away = True
    assert await door.post() == 503
    assert door.counted() == {"busy": 1}


async def test_other_paths_and_methods_are_refused(door: WebhookPort) -> None:
    """No index, no files, no metrics."""
    base = door.addresses.url_for(ATTEMPT).partition("/webhooks")[0]
    for path in ("/", "/metrics", "/healthz", "/webhooks", "/webhooks/replicate/"):
        async with door.session.post(base + path) as answer:
            assert answer.status == 404
    async with door.session.get(door.addresses.url_for(ATTEMPT)) as answer:
        assert answer.status == 405


async def test_malformed_http_is_not_logged(
    door: WebhookPort, caplog: pytest.LogCaptureFixture
) -> None:
    """Strangers write into nobody's log, and get no page that shows what serves."""
    caplog.set_level(logging.DEBUG)
    host, port = _host_port(door.addresses.url_for(ATTEMPT).split("/")[2])
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"canary-4711 is not HTTP\r\n\r\n")
    assert b" 400 " in await reader.readline()
    writer.close()
    await writer.wait_closed()
    assert "canary" not in caplog.text


async def test_requests_before_serving_wait() -> None:
    """The port is known, and open, before anybody is there to answer."""
    port = PublicHttpServer("127.0.0.1:0")
    async with aiohttp.ClientSession() as session:
        early = asyncio.create_task(session.get(f"http://{port.address}/"))
        reader, writer = await asyncio.open_connection(*_host_port(port.address))
        async with port:
            assert (await early).status == 404
        writer.close()
        await writer.wait_closed()
        del reader
    port.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "[::1]", "[::]", "localhost"])  # noqa: S104
async def test_the_local_url_is_reachable(host: str) -> None:
    """Whatever it listens on, an embedded sandbox knows where to post."""
    port = PublicHttpServer(f"{host}:0")
    async with port, aiohttp.ClientSession() as session, session.get(port.local_url) as answer:
        assert answer.status == 404
    assert "0.0.0.0" not in port.local_url  # noqa: S104
    port.close()


async def test_a_port_in_use_is_an_error_at_start() -> None:
    """Better than webhooks that go to somebody else."""
    port = PublicHttpServer("127.0.0.1:0")
    with pytest.raises(OSError, match="in use"):
        PublicHttpServer(port.address)
    port.close()


async def _rotate(door: WebhookPort, **body: int) -> str:
    url = f"{door.sandbox}/sandbox/webhooks/secret"
    async with door.session.post(url, json=body) as answer:
        return str((await answer.json())["key"])


def _host_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
