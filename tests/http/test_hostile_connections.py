"""Strangers on the web port: slow, silent or many, they keep nobody out who knows an address."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mediagate_sandbox.server import Sandbox, SandboxSettings
from mediagate_sandbox.webhook_signing import WebhookSigner, new_secret
from mediagate_server.http import replicate_webhooks
from mediagate_server.http.servers import ConnectionLimiter, OperationsHttpServer, PublicHttpServer
from mediagate_server.observability import metrics

from .test_replicate_webhooks import ATTEMPT, BODY, NOW, WebhookPort, opened

Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def peers() -> AsyncIterator[AsyncExitStack]:
    """Connections that are closed at the end."""
    async with AsyncExitStack() as stack:
        yield stack


async def connect(stack: AsyncExitStack, address: str, sent: bytes = b"") -> Peer:
    """A peer that sends so much and then stands still."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    stack.callback(writer.close)
    writer.write(sent)
    await writer.drain()
    return reader, writer


def head(
    door: WebhookPort, url: str, message_id: str, signer: WebhookSigner | None = None
) -> bytes:
    """A signed POST of BODY up to its body."""
    signed = {
        **(signer or door.signer).headers(message_id, NOW, BODY),
        "Content-Length": str(len(BODY)),
        "Host": "x",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
    return f"POST {urlsplit(url).path} HTTP/1.1\r\n{lines}\r\n".encode()


def address_of(door: WebhookPort) -> str:
    """Where the web port listens."""
    return urlsplit(door.addresses.url_for(ATTEMPT)).netloc


async def status(peer: Peer) -> int:
    """That of the answer."""
    return int((await peer[0].readline()).split()[1])


async def test_slow_bodies_with_unknown_addresses(tmp_path: Path) -> None:
    """Signed by nobody we know, to no address of ours: they have a few places of their own."""
    async with opened(tmp_path) as door, peers() as stack:
        stranger = WebhookSigner(new_secret())
        url = door.addresses.url_for(ATTEMPT)[:-1] + "x"
        waiting = []
        for number in range(200):
            sent = head(door, url, f"slow_{number}", stranger) + b"{"
            waiting.append(await connect(stack, address_of(door), sent))
        answer_tasks = [asyncio.create_task(status(peer)) for peer in waiting]
        for answer in asyncio.as_completed(answer_tasks):
            assert await answer == 503
            if (
                sum(answer_task.done() for answer_task in answer_tasks)
                == 200 - replicate_webhooks._MAX_UNKNOWN_BODIES
            ):
                break
        assert await door.post() == 200
        assert door.hints == [(ATTEMPT, "p1")]
        for answer_task in answer_tasks:
            answer_task.cancel()
        await asyncio.wait(answer_tasks)


async def test_slow_bodies_with_one_known_address(tmp_path: Path) -> None:
    """An address may become known: whoever has one has a part of the places, not all."""
    async with opened(tmp_path) as door, peers() as stack:
        most = replicate_webhooks._MAX_BODIES_PER_ATTEMPT
        for number in range(most):
            sent = head(door, door.addresses.url_for("att_leaked"), f"slow_{number}")
            await connect(stack, address_of(door), sent + b"{")
        refused = False
        while not refused:  # Until all of them have come.
            refused = await door.post(to="att_leaked", message_id="msg_0") == 503
        assert await door.post() == 200


async def test_an_unprocessed_webhook_is_retried_by_upstream(tmp_path: Path) -> None:
    """Whatever holds it up: upstream gets an answer, and the same webhook is taken later."""
    async with opened(tmp_path) as door:
        door.hint_never_ends = True
        assert await door.post() == 503
        assert door.counted() == {"busy": 1}
        door.hint_never_ends = False
        assert await door.post() == 200


async def test_connections_over_the_limit() -> None:
    """The oldest stranger is cut, and whoever comes is served."""
    before = metrics.web_connections_closed.labels("crowded")._value.get()
    port = PublicHttpServer("127.0.0.1:0", ConnectionLimiter(max_strangers=4))
    async with port, peers() as stack:
        silent = [await connect(stack, port.address) for _ in range(4)]
        half = await connect(stack, port.address, b"GET / HTTP/1.1\r\nHo")
        assert await silent[0][0].read() == b""
        last = await connect(stack, port.address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await status(last) == 404
        assert await silent[1][0].read() == b""
        half[1].write(b"st: x\r\n\r\n")
        assert await status(half) == 404
    port.close()
    assert metrics.web_connections_closed.labels("crowded")._value.get() == before + 2


async def test_a_slow_request_head_is_cut_off() -> None:
    """A head that trickles in is cut after its time."""
    port = PublicHttpServer("127.0.0.1:0", ConnectionLimiter(seconds=0.05))
    async with port, peers() as stack:
        slow = await connect(stack, port.address, b"GET / HTTP/1.1\r\nHo")
        assert await slow[0].read() == b""
    port.close()


async def test_connections_with_a_known_webhook_address_are_kept(tmp_path: Path) -> None:
    """A webhook's connection stays, however many others come."""
    connections = ConnectionLimiter(max_strangers=2)
    async with opened(tmp_path, connections) as door, peers() as stack:
        url = door.addresses.url_for(ATTEMPT)
        peer = await connect(stack, address_of(door), head(door, url, "msg_1") + BODY[:3])
        while not connections._recognized:
            await connect(stack, address_of(door))  # Others who come, again and again.
            await door.post(to="att_other", message_id="msg_2")
        for _ in range(9):
            await connect(stack, address_of(door))
        peer[1].write(BODY[3:])
        assert await status(peer) == 200


MALFORMED = {
    "no request line": b"canary is not HTTP\r\n\r\n",
    "second request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\ncanary is not HTTP\r\n\r\n",
    "bad version": b"GET /canary HTTP/9\r\n\r\n",
    "bad header": b"GET / HTTP/1.1\r\ncanary \x00: x\r\n\r\n",
    "long line": b"GET /canary" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\n" + b"canary: x\r\n" * 1_000 + b"\r\n",
    "bad length": b"POST / HTTP/1.1\r\nContent-Length: canary\r\n\r\n",
    "bad chunk": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\ncanary\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 471147114711\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03canary\x00\x0a",
}


async def sent_and_gone(address: str, sent: bytes) -> None:
    """Send it, wait for the answer or the end, go."""
    async with peers() as stack:
        reader, writer = await connect(stack, address, sent)
        writer.write_eof()
        await reader.read()


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_requests(
    name: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """On no port does a byte of them, or a traceback, come into a log: they are counted."""
    caplog.set_level(0)
    web, operations = (
        PublicHttpServer("127.0.0.1:0"),
        OperationsHttpServer("127.0.0.1:0", lambda: ""),
    )
    before = [metrics.http_malformed.labels(port)._value.get() for port in ("web", "operations")]
    async with web, operations, Sandbox(SandboxSettings(port=0)) as sandbox:
        for address in (web.address, operations.address, urlsplit(sandbox.url).netloc):
            await sent_and_gone(address, MALFORMED[name])
    web.close()
    output = caplog.text + "".join(capfd.readouterr())
    assert "canary" not in output
    assert "471147114711" not in output
    assert "Traceback" not in output
    after = [metrics.http_malformed.labels(port)._value.get() for port in ("web", "operations")]
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1]
    assert sandbox.request_log.malformed == 1
