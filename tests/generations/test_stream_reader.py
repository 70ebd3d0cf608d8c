"""A stream over many openings: every event once, whatever the server repeats or cuts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hypothesis import given
from hypothesis import strategies as st

from mediagate_server.generations.streaming.stream_reader import StreamReader
from mediagate_server.runtime.clock import SystemClock
from mediagate_server.runtime.notifier import Notifier
from mediagate_server.upstream.port import (
    DoneEvent,
    EventStream,
    NoResponse,
    OutputEvent,
    StreamEvent,
)
from tests.sse_batches import SseBatches

from .fake_upstream import UnexpectedCallUpstream


class Instantly(SystemClock):
    """Time that passes at once."""

    async def wait(self, notifier: Notifier, seconds: float, after: int = 0) -> bool:
        return False


class Repeating(UnexpectedCallUpstream):
    """Sends events from a server's idea of where to begin, and breaks off after some of them."""

    def __init__(self, events: list[OutputEvent], openings: list[tuple[int, int, bool]]) -> None:
        self._events = events
        self._openings = openings
        self.opened = 0

    @asynccontextmanager
    async def stream(
        self, stream_url: str, *, last_event_id: str | None = None, model: str
    ) -> AsyncIterator[EventStream]:
        ids = [event.id for event in self._events]
        after = ids.index(last_event_id) + 1 if last_event_id else 0
        more = self.opened < len(self._openings)
        back, count, abrupt = self._openings[self.opened] if more else (0, 10**6, False)
        self.opened += 1
        rest = self._events[max(0, after - back) :]

        async def batches() -> AsyncIterator[tuple[StreamEvent, ...]]:
            for event in rest[:count]:
                yield (event,)
            if count >= len(rest):
                yield (DoneEvent(),)
            elif abrupt:
                raise NoResponse("cut")

        yield SseBatches(batches())


async def never() -> bool:
    """The run has not ended."""
    return False


def named(kind: str, number: int) -> str:
    """An event's id, as servers may count."""
    if kind == "n":
        return f"1690212292:{number}"
    if kind == "s":
        return f"{1690212292 + number // 3}:{number % 3}"
    return f"event-{number}"


OPENINGS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6), st.booleans()), max_size=8)


@given(st.lists(st.text(min_size=1, max_size=3), max_size=12), OPENINGS, st.sampled_from("nso"))
async def test_every_event_is_read_once(
    pieces: list[str], openings: list[tuple[int, int, bool]], kind: str
) -> None:
    """Ids may count within one second, over seconds, or be no numbers at all."""
    events = [OutputEvent(piece, named(kind, n)) for n, piece in enumerate(pieces)]
    got: list[str] = []
    reader = StreamReader(
        Repeating(events, openings), Instantly(), "m", lambda text, _: got.append(text)
    )
    await reader.read("url", never)
    assert "".join(got) == "".join(pieces)
    assert reader.clean


async def test_text_without_ids_is_read_once() -> None:
    """What an opening repeats could not be told from what is new."""
    upstream = Repeating([OutputEvent("a"), OutputEvent("b")], [(0, 1, False)])
    got: list[str] = []
    reader = StreamReader(upstream, Instantly(), "m", lambda text, _: got.append(text))
    await reader.read("url", never)
    assert got == ["a"]
    assert upstream.opened == 1
    assert not reader.clean


async def test_a_later_reader_resumes_after_the_last_event_id() -> None:
    """Also where the server sends everything again."""
    events = [OutputEvent(str(n), f"5:{n}") for n in range(6)]
    got: list[str] = []
    reader = StreamReader(
        Repeating(events, [(9, 99, False)]),
        Instantly(),
        "m",
        lambda text, _: got.append(text),
        last_id="5:3",
    )
    await reader.read("url", never)
    assert got == ["4", "5"]


async def test_oversized_event_ids_are_ignored() -> None:
    """Four thousand of 50 KB are 200 MB for each stream."""
    upstream = Repeating([OutputEvent("a", "i" * 50_000), OutputEvent("b", "j")], [(0, 1, False)])
    got: list[tuple[str, str]] = []
    reader = StreamReader(upstream, Instantly(), "m", lambda *arguments: got.append(arguments))
    await reader.read("url", never)
    assert got == [("a", "")]
    assert upstream.opened == 1
