"""Faults that strike the download of an uploaded file, which is sent from the disk."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from mediagate_sandbox.clock import ManualClock

from .fault_orders import Fault, fired, order
from .sandbox_client import Answer, SandboxClient

CONTENT = b"hello world " * 20_000


async def signed_link(caller: SandboxClient) -> str:
    """A download link of a file that was just uploaded, when nothing went wrong."""
    await order(caller)
    form = aiohttp.FormData(default_to_multipart=True)
    form.add_field("content", CONTENT, filename="a.txt", content_type="text/plain")
    async with caller.session.post(
        f"{caller.sandbox.base_url}/files", data=form, headers={"Authorization": "Bearer any"}
    ) as answer:
        upload = (await answer.json())["id"]
    return str((await caller.get(f"/sandbox/files/{upload}/link")).json["url"])


async def struck(caller: SandboxClient, fault: Fault, **headers: str) -> Answer:
    """The answer to a download that the fault strikes."""
    link = await signed_link(caller)
    await order(caller, {"on": "files"} | fault)
    return await caller.get(link, **headers)


async def test_a_lost_download_response(sandbox_client: SandboxClient) -> None:
    """Not one byte comes."""
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await struck(sandbox_client, {"do": "lose_answer"})


@pytest.mark.parametrize(
    ("headers", "status", "expected"),
    [({}, 200, CONTENT), ({"Range": "bytes=3-99999"}, 206, CONTENT[3:100_000])],
)
async def test_a_truncated_download(
    sandbox_client: SandboxClient, headers: dict[str, str], status: int, expected: bytes
) -> None:
    """After exactly so many bytes, under the length of all that was asked for."""
    link = await signed_link(sandbox_client)
    await order(sandbox_client, {"do": "reset_body", "on": "files", "after_bytes": 70_000})
    async with sandbox_client.session.get(link, headers=headers) as broken:
        assert (broken.status, broken.content_length) == (status, len(expected))
        assert broken.content_type == "text/plain"
        assert await broken.content.readexactly(70_000) == expected[:70_000]
        with pytest.raises(aiohttp.ClientError):
            await broken.content.read()


async def test_a_corrupted_download(sandbox_client: SandboxClient) -> None:
    """Of the right status and type; what has no bytes to spoil is refused as ever."""
    answer = await struck(sandbox_client, {"do": "garbage", "text": "junk"})
    assert (answer.status, answer.body) == (200, b"junk")
    assert answer.headers["Content-Type"].startswith("text/plain")
    partial = await struck(sandbox_client, {"do": "garbage"}, Range="bytes=0-9")
    assert partial.status == 206
    assert partial.body not in CONTENT
    beyond = await struck(sandbox_client, {"do": "garbage"}, Range=f"bytes={len(CONTENT)}-")
    assert beyond.status == 416


async def test_an_error_response_to_a_download(sandbox_client: SandboxClient) -> None:
    """The file is found, and something behind it fails."""
    answer = await struck(sandbox_client, {"do": "error", "status": 502, "at": "answer"})
    assert (answer.status, b"Bad Gateway" in answer.body) == (502, True)


async def test_a_delayed_download(frozen_clock_client: SandboxClient, clock: ManualClock) -> None:
    """It comes whole, and not before its time."""
    fault = {"do": "delay", "ms": 5000, "at": "answer"}
    waiting = asyncio.create_task(struck(frozen_clock_client, fault))
    await clock.sleeping(1)
    await clock.advance(4.9)
    assert not waiting.done()
    await clock.advance(0.2)
    assert (await waiting).body == CONTENT


async def test_a_hanging_download(sandbox_client: SandboxClient) -> None:
    """Until the caller leaves."""
    waiting = asyncio.create_task(struck(sandbox_client, {"do": "hang", "at": "answer"}))
    while not await fired(sandbox_client):
        continue
    # A connection that answered would have done so by the time a later request is answered.
    await sandbox_client.get("/v1/predictions")
    assert not waiting.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
