"""Event log of a prediction's stream: server-sent events for any number of readers.

An event's id is its Unix second and a count within that second; ids are unique within a stream, and
a reader can resume after one.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import orjson

from mediagate_sandbox.broadcast_event import BroadcastEvent
from mediagate_sandbox.clock import Clock, in_time

OPENING = b": hi\n\n"
DONE = b"event: done\n"
_IDLE = b":408: 408 Request Timeout\n\n"
EventName = Literal["output", "error", "done"]

_LINE_BREAK = re.compile("\r\n|\r|\n")
_EVENTS_PER_COMMENT = 10


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One server-sent event."""

    name: EventName
    id: str
    data: str

    def encoded(self) -> bytes:
        """Encode the event; data of several lines becomes several `data:` lines."""
        lines = "".join(f"data: {line}\n" for line in _LINE_BREAK.split(self.data))
        return f"event: {self.name}\nid: {self.id}\n{lines}\n".encode()


class StreamLog:
    """All events of one prediction's stream, in order."""

    def __init__(self) -> None:
        """Create an empty stream."""
        self._events: list[StreamEvent] = []
        self._grown = BroadcastEvent()
        self._second = 0
        self._count = 0

    def output(self, now: datetime, token: str) -> None:
        """Add an output event."""
        self._append(now, "output", token)

    def error(self, now: datetime, detail: str | None) -> None:
        """Add an error event."""
        self._append(now, "error", orjson.dumps({"detail": detail}).decode())

    def done(self, now: datetime, reason: str | None) -> None:
        """Add the done event; no reason means success."""
        data = {} if reason is None else {"reason": reason}
        self._append(now, "done", orjson.dumps(data).decode())

    async def follow(
        self, last_event_id: str | None, clock: Clock, idle_seconds: float | None
    ) -> AsyncGenerator[bytes, None]:
        """Iterate over the encoded events after the given id, live, up to `done`.

        An id this stream never gave starts from the beginning. After `idle_seconds` without an
        event there comes a comment that says so, and no more.
        """
        at = self._after(last_event_id)
        while True:
            if at == len(self._events):
                if not await in_time(clock, idle_seconds, self._beyond(at)):
                    yield _IDLE
                    return
                continue
            event = self._events[at]
            at += 1
            if at % _EVENTS_PER_COMMENT == 0:
                yield b": still here\n\n"
            yield event.encoded()
            if event.name == "done":
                return

    async def _beyond(self, at: int) -> None:
        """Wait until there is an event at `at`.

        It looks for itself first: it may begin some turns of the loop after it was asked for.
        """
        while at == len(self._events):
            await self._grown.wait()

    def _after(self, last_event_id: str | None) -> int:
        for at, event in enumerate(self._events):
            if event.id == last_event_id:
                # A reader that already has `done` gets it again rather than waiting for ever.
                return at if event.name == "done" else at + 1
        return 0

    def _append(self, now: datetime, name: EventName, data: str) -> None:
        second = max(self._second, int(now.timestamp()))
        self._count = self._count + 1 if second == self._second else 0
        self._second = second
        self._events.append(StreamEvent(name, f"{second}:{self._count}", data))
        self._grown.notify()
