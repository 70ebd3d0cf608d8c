"""Reader of one prediction's stream to its `done`, over as many openings as it takes.

A stream that closes without `done` is normal for slow starts: it is opened again from its last id.
Whether the server then repeats what it sent before is not promised either way, so events up to the
last id are passed over. Text without ids cannot be told from a repeat: it is read once, and what
is missing comes from the terminal record.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from mediagate_server.runtime.clock import Clock
from mediagate_server.runtime.notifier import Notifier
from mediagate_server.upstream.port import (
    MAX_OUTPUT_RESPONSE_BYTES,
    DoneEvent,
    NoResponse,
    OutputEvent,
    RequestRefused,
    StreamEvent,
    StreamLimitReached,
    Upstream,
)

TextListener = Callable[[str, str], None]
"""Gets what one socket read brought, and the id of its last event (empty where there is none)."""

_DIGITS: Final = 18
_STREAM_SLOT_PAUSE: Final = 2.0
"""Seconds between two looks for a free place among the open streams; it is polled as often."""
_FIRST_REOPENING, _LONGEST_REOPENING = 0.05, 5.0
_MOST_IDS = 4_096
_LONGEST_ID = 256
"""Characters of an id that is remembered: thousands are, for each stream, and one is sent back."""


def _nothing() -> None:
    pass


class StreamReader:
    """`clean` tells afterwards whether the stream came to its own `done` without a gap.

    `on_limit` is called whenever it cannot be opened because too many streams are; `on_open`
    whenever it is open.
    `last_id` is where an earlier reader came to; `unnumbered`: it has text that no id stands for.
    """

    def __init__(
        self,
        upstream: Upstream,
        clock: Clock,
        model: str,
        take_text: TextListener,
        *,
        last_id: str = "",
        unnumbered: bool = False,
        on_limit: Callable[[], None] = _nothing,
        on_open: Callable[[], None] = _nothing,
    ) -> None:
        self._upstream = upstream
        self._clock = clock
        self._model = model
        self._take_text = take_text
        self._last_id = last_id
        self._last_number = _number(last_id)
        self._unnumbered = unnumbered
        self._odd_ids: dict[str, None] = {last_id: None} if last_id else {}
        self._done = False
        self._left = MAX_OUTPUT_RESPONSE_BYTES
        self._on_limit = on_limit
        self._on_open = on_open
        self.clean = False

    async def read(self, stream_url: str, has_ended: Callable[[], Awaitable[bool]]) -> None:
        """Read until `done`, until `has_ended` says so, or until it cannot go on."""
        barren = 0
        while self._can_go_on():
            before = self._last_id
            try:
                async with self._upstream.stream(
                    stream_url, last_event_id=before or None, model=self._model
                ) as events:
                    self._on_open()
                    await events.forward_to(self._take)
            except StreamLimitReached:
                self._on_limit()
                if await has_ended():
                    return
                await self._clock.wait(Notifier(), _STREAM_SLOT_PAUSE)
                continue
            except RequestRefused:
                return  # It cannot be opened: the polls tell the end.
            except NoResponse:
                pass  # Cut: looked at below like any other end without `done`.
            self.clean = self._done
            if self._done or not self._can_go_on() or await has_ended():
                return
            barren = 0 if self._last_id != before else barren + 1
            pause = min(_FIRST_REOPENING * 2 ** min(barren, 10), _LONGEST_REOPENING)
            await self._clock.wait(Notifier(), pause)

    def _can_go_on(self) -> bool:
        """Whether another opening would tell what is new from what is repeated."""
        return not self._unnumbered and self._left >= 0

    def _take(self, batch: tuple[StreamEvent, ...]) -> bool:
        """What one socket read brought, passed on as one. True where `done` was in it."""
        pieces = []
        for event in batch:
            if isinstance(event, OutputEvent):
                if not event.id:
                    self._unnumbered = True
                elif self._is_duplicate(event.id):
                    continue
                pieces.append(event.text)
            else:
                self._done = True
                if isinstance(event, DoneEvent):
                    break  # What comes behind it is no part of the text.
        if pieces:
            text = "".join(pieces)
            self._take_text(text, "" if self._unnumbered else self._last_id)
            self._left -= len(text)
        return self._done or self._left < 0

    def _is_duplicate(self, event_id: str) -> bool:
        """Whether this event was passed on already; if not, it is now the last."""
        number, last = _number(event_id), self._last_number
        if number and last:
            if number <= last:
                return True
        elif not number:
            if len(event_id) > _LONGEST_ID:
                self._unnumbered = True
                return False
            if event_id in self._odd_ids:
                return True
            self._odd_ids[event_id] = None
            if len(self._odd_ids) > _MOST_IDS:
                del self._odd_ids[next(iter(self._odd_ids))]
        self._last_id, self._last_number = event_id, number
        return False


def _number(event_id: str) -> tuple[int, int] | None:
    """What ids of Replicate's form (`1690212292:0`) are ordered by; None for any other.

    Asked for each token, so without a regular expression.
    """
    high, colon, low = event_id.partition(":")
    if (
        colon
        and event_id.isascii()
        and high.isdecimal()
        and low.isdecimal()
        and len(high) <= _DIGITS >= len(low)
    ):
        return int(high), int(low)
    return None
