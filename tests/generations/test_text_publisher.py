"""A text is told once, in order, one write at a time, whatever grows or fails meanwhile."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from mediagate_server.errors import StreamExpired
from mediagate_server.generations.streaming.text_buffer import TextBuffer, TextChunk
from mediagate_server.generations.streaming.text_publisher import TextPublisher


class Wire:
    """Holds each write until it is let go, as a caller does who is slow to read."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.held: list[asyncio.Future[None]] = []
        self.woken = 0

    async def write(self, chunk: TextChunk) -> None:
        """See text_publisher.WriteText."""
        self.told.append(chunk.text)
        self.held.append(asyncio.get_running_loop().create_future())
        await self.held[-1]

    def wake(self) -> None:
        """Writing has failed."""
        self.woken += 1


async def at_once(chunk: TextChunk, told: list[str]) -> None:
    """Never has to wait."""
    told.append(chunk.text)


async def some_turns() -> None:
    """Let the event loop do what it has to."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_growth_itself_begins_to_write() -> None:
    """No turn of the event loop lies between a piece and its write."""
    text, told = TextBuffer(), list[str]()
    with TextPublisher(text, 0, lambda chunk: at_once(chunk, told), lambda: None) as teller:
        text.append("a")
        assert told == ["a"]
        text.append("b")
        assert told == ["a", "b"]
        await teller.flush()


async def test_what_grows_during_a_write_goes_with_the_next() -> None:
    text, wire = TextBuffer(), Wire()
    with TextPublisher(text, 0, wire.write, wire.wake) as teller:
        for piece in "abc":
            text.append(piece)
        assert wire.told == ["a"]
        telling = asyncio.ensure_future(teller.flush())
        wire.held[0].set_result(None)
        await some_turns()
        assert wire.told == ["a", "bc"]
        assert not telling.done()
        wire.held[1].set_result(None)
        await telling
    assert wire.woken == 0


async def test_what_was_there_before_is_told_from_its_place_on() -> None:
    text, told = TextBuffer(), list[str]()
    text.append("früh")
    with TextPublisher(text, 4, lambda chunk: at_once(chunk, told), lambda: None):
        text.append("er")
    text.append("spät")
    assert told == ["h", "er"]


async def test_a_write_that_fails_is_the_last() -> None:
    """Whoever waits is woken and learns why."""
    text, wire = TextBuffer(), Wire()
    with TextPublisher(text, 0, wire.write, wire.wake) as teller:
        text.append("a")
        wire.held[0].set_exception(ConnectionError("gone"))
        await some_turns()
        assert teller.has_failed
        text.append("b")
        with pytest.raises(ConnectionError, match="gone"):
            await teller.flush()
    assert (wire.told, wire.woken) == (["a"], 1)


async def test_one_that_has_been_left_begins_no_write() -> None:
    """The one that was under way comes to its end."""
    text, wire = TextBuffer(), Wire()
    with TextPublisher(text, 0, wire.write, wire.wake):
        text.append("a")
        text.append("b")
    wire.held[0].set_result(None)
    await some_turns()
    assert wire.told == ["a"]


async def test_a_place_within_a_letter_is_told_of() -> None:
    text, wire = TextBuffer(), Wire()
    text.append("é")
    with TextPublisher(text, 1, wire.write, wire.wake) as teller, pytest.raises(StreamExpired):
        await teller.flush()
    assert wire.told == []


async def test_what_cannot_even_be_begun_is_the_callers_trouble_alone() -> None:
    text, told = TextBuffer(), list[str]()

    def refuse(chunk: TextChunk) -> Coroutine[Any, Any, None]:
        raise ValueError(chunk.text)

    with TextPublisher(text, 0, refuse, lambda: None) as one:
        with TextPublisher(text, 0, lambda chunk: at_once(chunk, told), lambda: None):
            text.append("a")
        with pytest.raises(ValueError, match="a"):
            await one.flush()
    assert told == ["a"]
