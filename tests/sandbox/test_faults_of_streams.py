"""Faults that strike event streams: cut at a byte, noise between events, no stream at all."""

from __future__ import annotations

import aiohttp
import pytest

from .caller import LLAMA, Caller, parse_events
from .faulty import fired, order

TEXT = {"prompt": "x [[say=one|two|three|four]]"}


async def test_cut_stream_at_a_byte(caller: Caller) -> None:
    """Abruptly in the middle of an event, or with a clean end but without done; then no more."""
    document = await caller.ran(LLAMA, TEXT)
    whole = await caller.stream(document)
    for count in (0, 1, 40, len(whole) - 1):
        await order(
            caller,
            {"do": "cut_stream", "after_bytes": count, "times": 1},
            {"do": "cut_stream", "after_bytes": count, "times": 1, "after": 1, "how": "clean"},
        )
        async with caller.session.get(document["urls"]["stream"]) as answer:
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.content.readexactly(len(whole))
        assert await caller.stream(document) == whole[:count]
        assert await caller.stream(document) == whole


async def test_a_cut_stream_goes_on_where_it_was_cut(caller: Caller) -> None:
    """A reader that names its last id gets the rest and nothing twice."""
    document = await caller.ran(LLAMA, TEXT)
    await order(caller, {"do": "cut_stream", "after_bytes": 120, "how": "clean", "times": 1})
    first = await caller.events(document)
    rest = await caller.events(document, Last_Event_ID=first[-1].id)
    assert "".join(each.data for each in first + rest[:-1]) == "onetwothreefour"


async def test_garbage_comes_between_events(caller: Caller) -> None:
    """All events are there, in order, and noise is among them; the text can be chosen."""
    document = await caller.ran(LLAMA, TEXT)
    whole = await caller.stream(document)
    await order(caller, {"do": "garbage", "on": "stream", "after_bytes": 50}, seed=5)
    noisy = await caller.stream(document)
    at = next(n for n, (a, b) in enumerate(zip(whole, noisy, strict=False)) if a != b)
    assert at >= 50
    assert len(noisy) == len(whole) + 64 + 2
    assert noisy[:at] + noisy[at + 66 :] == whole
    assert await caller.stream(document) != noisy
    await order(caller, {"do": "garbage", "on": "stream", "after_bytes": 50}, seed=5)
    assert await caller.stream(document) == noisy
    text = "event: surprise\nid: 9:9\ndata: {"
    await order(caller, {"do": "garbage", "on": "stream", "text": text, "after_bytes": 50})
    names = [each.name for each in parse_events(await caller.stream(document))]
    assert sorted(names) == ["done", "output", "output", "output", "output", "surprise"]


async def test_streams_are_struck_by_model(caller: Caller) -> None:
    """The stream's path says nothing of the model; the plan knows it all the same."""
    await order(caller, {"do": "error", "on": "stream", "status": 503, "model": "meta/*"})
    document = await caller.ran(LLAMA, TEXT)
    assert (await caller.get(document["urls"]["stream"])).status == 503
    (only,) = await fired(caller)
    assert (only["prediction"], only["model"]) == (document["id"], LLAMA)
