"""Event log of a prediction's stream, for any number of readers.

An event's id is its Unix second and a count within that second; ids are unique within a stream, and
a reader can resume after one. How an event is written on the wire is up to a dialect.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

import orjson

from mediagate_sandbox.broadcast_event import BroadcastEvent
from mediagate_sandbox.clock import Clock, in_time

_IDLE = b":408: 408 Request Timeout\n\n"
EventName = Literal["start", "output", "log", "metric", "error", "done"]

_NUMBERED: tuple[EventName, ...] = ("output", "error", "done")
_EVENTS_PER_COMMENT = 10


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event."""

    name: EventName
    id: str
    """Empty for what Replicate's own streams do not tell."""
    data: str = ""
    """Text of an output or a log; JSON of the others."""
    file: int | None = None
    """The number of the output file, instead of a text: its URL depends on the reader's origin."""


class StreamDialect(Protocol):
    """How events are written for one reader."""

    def encode(self, event: StreamEvent) -> bytes:
        """Encode an event; nothing if the dialect has none of its kind."""
        ...

    def encode_truncation(self, past: int) -> bytes | None:
        """Encode what a reader gets in place of events that are no longer kept.

        It comes `past` events late. None: all of those are kept.
        """
        ...


class StreamLog:
    """All events of one prediction's stream, in order."""

    def __init__(self) -> None:
        """Create an empty stream."""
        self._events: list[StreamEvent] = []
        self._grown = BroadcastEvent()
        self._second = 0
        self._count = 0

    def start(self, now: datetime) -> None:
        """Add the event of the run's start."""
        self._append(now, "start")

    def output(self, now: datetime, token: str) -> None:
        """Add an output event of text."""
        self._append(now, "output", token)

    def file(self, now: datetime, number: int) -> None:
        """Add an output event of a file."""
        self._append(now, "output", file=number)

    def log(self, now: datetime, text: str) -> None:
        """Add log lines."""
        self._append(now, "log", text)

    def metric(self, now: datetime, name: str, value: object) -> None:
        """Add a metric."""
        self._append(now, "metric", orjson.dumps({"name": name, "value": value}).decode())

    def error(self, now: datetime, detail: str | None) -> None:
        """Add an error event."""
        self._append(now, "error", orjson.dumps({"detail": detail}).decode())

    def done(self, now: datetime, reason: str | None) -> None:
        """Add the done event; no reason means success."""
        data = {} if reason is None else {"reason": reason}
        self._append(now, "done", orjson.dumps(data).decode())

    async def follow(
        self,
        dialect: StreamDialect,
        last_event_id: str | None,
        clock: Clock,
        idle_seconds: float | None,
    ) -> AsyncGenerator[bytes, None]:
        """Iterate over the encoded events after the given id, live, up to `done`.

        An id this stream never gave starts from the beginning. After `idle_seconds` without an
        event there comes a comment that says so, and no more.
        """
        at = self._after(last_event_id)
        truncation = dialect.encode_truncation(len(self._events) - at)
        if truncation is not None:
            yield truncation
            return
        sent = at
        while True:
            if at == len(self._events):
                if not await in_time(clock, idle_seconds, self._beyond(at)):
                    yield _IDLE
                    return
                continue
            event = self._events[at]
            at += 1
            encoded = dialect.encode(event)
            if encoded:
                sent += 1
                if sent % _EVENTS_PER_COMMENT == 0:
                    yield b": still here\n\n"
                yield encoded
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
            if event.id and event.id == last_event_id:
                # A reader that already has `done` gets it again rather than waiting for ever.
                return at if event.name == "done" else at + 1
        return 0

    def _append(
        self, now: datetime, name: EventName, data: str = "", file: int | None = None
    ) -> None:
        event_id = self._next_id(now) if name in _NUMBERED else ""
        self._events.append(StreamEvent(name, event_id, data, file))
        self._grown.notify()

    def _next_id(self, now: datetime) -> str:
        second = max(self._second, int(now.timestamp()))
        self._count = self._count + 1 if second == self._second else 0
        self._second = second
        return f"{second}:{self._count}"
