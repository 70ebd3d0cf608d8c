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
        self.received: list[str] = []
        self.waiting: list[asyncio.Future[None]] = []
        self.woken = 0

    async def write(self, chunk: TextChunk) -> None:
        """Receive a piece, and wait until it is let go."""
        self.received.append(chunk.text)
        self.waiting.append(asyncio.get_running_loop().create_future())
        await self.waiting[-1]

    def wake(self) -> None:
        """Writing has failed."""
        self.woken += 1


async def at_once(chunk: TextChunk, received: list[str]) -> None:
    """Never has to wait."""
    received.append(chunk.text)


async def some_turns() -> None:
    """Let the event loop do what it has to."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_appending_starts_a_write() -> None:
    """No turn of the event loop lies between a piece and its write."""
    text, received = TextBuffer(), list[str]()
    with TextPublisher(text, 0, lambda chunk: at_once(chunk, received), lambda: None) as publisher:
        text.append("a")
        assert received == ["a"]
        text.append("b")
        assert received == ["a", "b"]
        await publisher.flush()


async def test_text_appended_during_a_write_goes_with_the_next() -> None:
    text, wire = TextBuffer(), Wire()
    with TextPublisher(text, 0, wire.write, wire.wake) as publisher:
        for piece in "abc":
            text.append(piece)
        assert wire.received == ["a"]
        task = asyncio.ensure_future(publisher.flush())
        wire.waiting[0].set_result(None)
        await some_turns()
        assert wire.received == ["a", "bc"]
        assert not task.done()
        wire.waiting[1].set_result(None)
        await task
    assert wire.woken == 0


async def test_writing_starts_at_the_given_position() -> None:
    text, received = TextBuffer(), list[str]()
    text.append("früh")
    with TextPublisher(text, 4, lambda chunk: at_once(chunk, received), lambda: None):
        text.append("er")
    text.append("spät")
    assert received == ["h", "er"]


async def test_a_failed_write_ends_the_publisher() -> None:
    """Whoever waits is woken and learns why."""
    text, wire = TextBuffer(), Wire()
    with TextPublisher(text, 0, wire.write, wire.wake) as publisher:
        text.append("a")
        wire.waiting[0].set_exception(ConnectionError("gone"))
        await some_turns()
        assert publisher.has_failed
        text.append("b")
        with pytest.raises(ConnectionError, match="gone"):
            await publisher.flush()
    assert (wire.received, wire.woken) == (["a"], 1)


async def test_a_closed_publisher_starts_no_write() -> None:
    """The one that was under way comes to its end."""
    text, wire = TextBuffer(), Wire()
    with TextPublisher(text, 0, wire.write, wire.wake):
        text.append("a")
        text.append("b")
    wire.waiting[0].set_result(None)
    await some_turns()
    assert wire.received == ["a"]


async def test_a_position_within_a_character_is_refused() -> None:
    text, wire = TextBuffer(), Wire()
    text.append("é")
    with TextPublisher(text, 1, wire.write, wire.wake) as publisher, pytest.raises(StreamExpired):
        await publisher.flush()
    assert wire.received == []


async def test_a_write_that_cannot_start_affects_only_its_caller() -> None:
    text, received = TextBuffer(), list[str]()

    def refuse(chunk: TextChunk) -> Coroutine[Any, Any, None]:
        raise ValueError(chunk.text)

    with TextPublisher(text, 0, refuse, lambda: None) as publisher:
        with TextPublisher(text, 0, lambda chunk: at_once(chunk, received), lambda: None):
            text.append("a")
        with pytest.raises(ValueError, match="a"):
            await publisher.flush()
    assert received == ["a"]
