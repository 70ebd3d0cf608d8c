"""Files handed to upstream: streamed as multipart, whatever the answer."""

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import ClientSession, web

from mediagate_sandbox.server import Sandbox, SandboxSettings
from mediagate_server.upstream.port import FileToUpload, NoResponse, RefusalReason, RequestRefused
from mediagate_server.upstream.replicate.client import MultipartUpload, ReplicateClient, decode_file
from mediagate_server.upstream.settings import ReplicateSettings

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]

TOKEN = "r8_sandbox"
PIECE = bytes(range(256)) * 256


def file(pieces: int, *, size: int | None = None) -> FileToUpload:
    """A file of so many pieces, made while it is sent."""

    async def content() -> AsyncIterator[bytes]:
        for _ in range(pieces):
            yield PIECE

    total_bytes = pieces * len(PIECE) if size is None else size
    return FileToUpload("input.bin", "video/mp4", total_bytes, content)


def settings(url: str, **changes: Any) -> ReplicateSettings:
    return ReplicateSettings(base_url=url, token=TOKEN, **changes)


async def test_an_upload_reaches_the_sandbox_complete() -> None:
    """Under the length announced, with name and type; the link lives for a day."""
    async with (
        Sandbox(SandboxSettings(port=0, token=TOKEN)) as sandbox,
        ReplicateClient(settings(sandbox.base_url)) as client,
        ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session,
    ):
        uploaded = await client.upload_file(file(40))
        assert uploaded.expires_at is not None
        assert 86_300 < (uploaded.expires_at - datetime.now(UTC)).total_seconds() <= 86_400
        async with session.get(uploaded.link) as answer:
            document = await answer.json()
    assert document["size"] == 40 * len(PIECE)
    assert document["content_type"] == "video/mp4"
    assert document["checksums"]["sha256"] == hashlib.sha256(PIECE * 40).hexdigest()
    assert document["name"] == "input.bin"


async def test_an_upload_above_upstreams_limit_is_refused() -> None:
    """A refusal, though upstream stops reading in the middle."""
    async with (
        Sandbox(SandboxSettings(port=0, token=TOKEN, max_upload_bytes=1_000_000)) as sandbox,
        ReplicateClient(settings(sandbox.base_url)) as client,
    ):
        with pytest.raises((RequestRefused, NoResponse)) as caught:
            await client.upload_file(file(40))
    if isinstance(caught.value, RequestRefused):
        assert (caught.value.refusal, caught.value.http_status) == (RefusalReason.INPUT, 413)


async def test_an_upstream_without_a_files_api_is_not_found(serve: Serve) -> None:
    """Refused as not found, and nothing hangs."""

    async def no_files(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        return web.json_response({"detail": "Not found."}, status=404)

    async with ReplicateClient(settings(await serve(no_files))) as client:
        with pytest.raises(RequestRefused) as caught:
            await client.upload_file(file(2))
    assert caught.value.refusal is RefusalReason.NOT_FOUND


async def test_a_truncated_file_is_not_uploaded(serve: Serve) -> None:
    """What was promised and what came differ: never taken for done."""

    async def waits(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        return web.json_response({"urls": {"get": "https://a/b"}}, status=201)

    async with ReplicateClient(
        settings(await serve(waits), upload_timeout=0.3, connect_timeout=0.2)
    ) as client:
        with pytest.raises(NoResponse):
            await client.upload_file(file(1, size=10 * len(PIECE)))


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"urls": None},
        {"urls": {}},
        {"urls": {"get": None}},
        {"urls": {"get": "file:///etc/passwd"}},
        {"urls": {"get": "https://"}},
        {"urls": {"get": "https://a/" + "x" * 2_048}},
        {"urls": {"get": "https://[a"}},
    ],
)
def test_responses_without_a_file(document: object) -> None:
    """No answer, as for anything unreadable."""
    with pytest.raises(NoResponse):
        decode_file(json.dumps(document).encode())
    with pytest.raises(NoResponse):
        decode_file(b"<html>")


def test_responses_with_a_file() -> None:
    """Without an expiry, or with one that cannot be read."""
    for expires_at in (None, 7, "soon"):
        document = {"urls": {"get": "https://a/b"}, "expires_at": expires_at}
        assert decode_file(json.dumps(document).encode()).expires_at is None


async def test_the_multipart_body_has_its_content_length() -> None:
    """And begins anew each time it is read."""
    body = MultipartUpload(file(3))
    for _ in range(2):
        assert len(b"".join([piece async for piece in body])) == body.length
