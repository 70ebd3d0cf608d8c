"""Faults that strike event streams: cut at a byte, noise between events, no stream at all."""

from __future__ import annotations

import aiohttp
import pytest

from .fault_orders import fired, order
from .sandbox_client import LLAMA, SandboxClient, parse_events

TEXT = {"prompt": "x [[say=one|two|three|four]]"}


async def test_cut_stream_at_a_byte(sandbox_client: SandboxClient) -> None:
    """Abruptly in the middle of an event, or with a clean end but without done; then no more."""
    document = await sandbox_client.ran(LLAMA, TEXT)
    complete = await sandbox_client.stream(document)
    for count in (0, 1, 40, len(complete) - 1):
        await order(
            sandbox_client,
            {"do": "cut_stream", "after_bytes": count, "times": 1},
            {"do": "cut_stream", "after_bytes": count, "times": 1, "after": 1, "how": "clean"},
        )
        async with sandbox_client.session.get(document["urls"]["stream"]) as answer:
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.content.readexactly(len(complete))
        assert await sandbox_client.stream(document) == complete[:count]
        assert await sandbox_client.stream(document) == complete


async def test_a_cut_stream_resumes_where_it_was_cut(sandbox_client: SandboxClient) -> None:
    """A reader that names its last id gets the rest and nothing twice."""
    document = await sandbox_client.ran(LLAMA, TEXT)
    await order(
        sandbox_client, {"do": "cut_stream", "after_bytes": 120, "how": "clean", "times": 1}
    )
    first = await sandbox_client.events(document)
    rest = await sandbox_client.events(document, Last_Event_ID=first[-1].id)
    assert "".join(each.data for each in first + rest[:-1]) == "onetwothreefour"


async def test_garbage_comes_between_events(sandbox_client: SandboxClient) -> None:
    """All events are there, in order, and noise is among them; the text can be chosen."""
    document = await sandbox_client.ran(LLAMA, TEXT)
    complete = await sandbox_client.stream(document)
    await order(sandbox_client, {"do": "garbage", "on": "stream", "after_bytes": 50}, seed=5)
    noisy = await sandbox_client.stream(document)
    at = next(n for n, (a, b) in enumerate(zip(complete, noisy, strict=False)) if a != b)
    assert at >= 50
    assert len(noisy) == len(complete) + 64 + 2
    assert noisy[:at] + noisy[at + 66 :] == complete
    assert await sandbox_client.stream(document) != noisy
    await order(sandbox_client, {"do": "garbage", "on": "stream", "after_bytes": 50}, seed=5)
    assert await sandbox_client.stream(document) == noisy
    text = "event: surprise\nid: 9:9\ndata: {"
    await order(sandbox_client, {"do": "garbage", "on": "stream", "text": text, "after_bytes": 50})
    names = [each.name for each in parse_events(await sandbox_client.stream(document))]
    assert sorted(names) == ["done", "output", "output", "output", "output", "surprise"]


async def test_stream_faults_match_by_model(sandbox_client: SandboxClient) -> None:
    """The stream's path says nothing of the model; the plan knows it all the same."""
    await order(sandbox_client, {"do": "error", "on": "stream", "status": 503, "model": "meta/*"})
    document = await sandbox_client.ran(LLAMA, TEXT)
    assert (await sandbox_client.get(document["urls"]["stream"])).status == 503
    (only,) = await fired(sandbox_client)
    assert (only["prediction"], only["model"]) == (document["id"], LLAMA)
