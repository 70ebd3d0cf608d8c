"""SSE parser: server-sent events from raw bytes, one socket read at a time. No I/O.

Text splitters of the usual libraries end lines at U+2028, U+0085 and others, and so lose text; the
format knows three line ends only: LF, CR LF and CR. They are normalized while still bytes, so that
an event ends at the bytes LF LF and nothing else has to be searched for.

Two dialects are read, whichever comes: Replicate's own, and that of its containers (Cog 0.22),
which has no ids and JSON data. Their outputs are numbered, which serves as the id.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import chain

import orjson

from mediagate_server.upstream.port import DoneEvent, ErrorEvent, OutputEvent, StreamEvent

_ONE_OUTPUT_EVENT = re.compile(r"event: output\nid: ([^\n\0]*+)\ndata: ([^\n\0]++)\n\n")
_OUTPUT_EVENTS = re.compile(r"event: output\nid: ([^\n]*+)\ndata: ([^\n]*+)\n\n")
_COG_OUTPUT = {"chunk", "index"}
_SHORT = 4_096
"""Longest text that may be one token, in characters."""
_DONE = "\n\nevent: done\n"
_FRAME_LENGTH = len("event: output\nid: \ndata: \n\n")


class EventTooLarge(Exception):
    """An unfinished event is over the size limit."""


class SseParser:
    """Parser of one connection. A new connection needs a new parser.

    An unfinished event is never returned. Output with empty text is skipped, as are comments, retry
    times, logs and events of unknown names.
    """

    __slots__ = ("_after_cr", "_first", "_largest", "_open")

    def __init__(self, largest: int) -> None:
        """`largest`: bytes of an unfinished event."""
        self._largest = largest
        self._open = bytearray()
        self._after_cr = False
        self._first = True

    def feed(self, read: bytes) -> tuple[StreamEvent, ...]:
        """The events that this read completed, in order. Raises EventTooLarge."""
        if self._after_cr or b"\r" in read:
            read = self._normalize_line_ends(read)
        complete = self._complete(read)
        if not complete:
            return ()
        # Line ends are ASCII, so replacing bad bytes in all events at once replaces the same as
        # doing it in each; a character split over reads is whole by now.
        text = complete.decode("utf-8", "replace")
        if self._first:
            self._first = False
            text = text.removeprefix("\ufeff")
        return tuple(_events(text))

    def _normalize_line_ends(self, read: bytes) -> bytes:
        """Replace CR and CR LF by LF. An LF after a CR at the end of a read is dropped later."""
        if self._after_cr and read.startswith(b"\n"):
            read = read[1:]
            self._after_cr = False
        if read:
            self._after_cr = read.endswith(b"\r")
        return read.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _complete(self, read: bytes) -> bytes | bytearray:
        """The complete events; the rest is kept for the next read."""
        if not self._open:
            end = read.rfind(b"\n\n") + 2
            if end == len(read) > 1:
                return read
            complete: bytes | bytearray = read[:end] if end > 1 else b""
            self._open += read[end:] if end > 1 else read
        else:
            searched = len(self._open) - 1  # the first LF of an end may be the last byte kept
            self._open += read
            end = self._open.rfind(b"\n\n", searched) + 2
            complete = self._open[:end] if end > 1 else b""
            if complete:
                del self._open[:end]
        if len(self._open) > self._largest:
            raise EventTooLarge
        return complete


def _events(text: str) -> Iterable[StreamEvent]:
    """The events of complete blocks. Fast path for tokens, nearly always all up to `done`.

    At the pace of a model it is one token, which is matched directly.
    """
    if len(text) <= _SHORT and (event := _ONE_OUTPUT_EVENT.fullmatch(text)):
        return (OutputEvent(event[2], event[1]),)
    end = text.rfind(_DONE) + 2
    tokens, rest = (text[:end], text[end:]) if end > 1 else (text, "")
    usual = _OUTPUT_EVENTS.findall(tokens)
    length = sum(map(len, chain.from_iterable(usual))) + len(usual) * _FRAME_LENGTH
    if length != len(tokens) or "\0" in tokens:
        return _mixed_events(text)
    # Each of them is as its block says; an empty one says nothing.
    events: list[StreamEvent] = [OutputEvent(data, event_id) for event_id, data in usual if data]
    if rest:
        events.extend(_mixed_events(rest))
    return events


def _mixed_events(text: str) -> Iterator[StreamEvent]:
    """Parse the events of complete blocks, of any kind."""
    for block in text.split("\n\n"):
        if block and (event := _event(block)) is not None:
            yield event


def _event(block: str) -> StreamEvent | None:
    """Parse one block by the specification."""
    name = event_id = ""
    data: list[str] = []
    for line in block.split("\n"):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "event":
                name = value
            case "data":
                data.append(value)
            case "id" if "\0" not in value:
                event_id = value
    return _named(name, "\n".join(data), event_id)


def _named(name: str, data: str, event_id: str) -> StreamEvent | None:
    match name:
        case "output" if data:
            if not event_id and data.startswith("{"):
                return _cog_output(data)
            return OutputEvent(data, event_id)
        case "done":
            return DoneEvent(_reason(data))
        case "completed":
            return _cog_end(data)
        case "error":
            return ErrorEvent(_detail(data))
        case _:
            return None


def _cog_output(data: str) -> OutputEvent | None:
    """Parse an output without id: Cog's `{"chunk", "index"}`, else a text that looks like JSON."""
    document = _json(data)
    if not isinstance(document, dict) or document.keys() != _COG_OUTPUT:
        return OutputEvent(data)
    chunk, index = document["chunk"], document["index"]
    if not isinstance(index, int) or isinstance(index, bool) or index < 0:
        return OutputEvent(data)
    text = chunk if isinstance(chunk, str) else orjson.dumps(chunk).decode()
    return OutputEvent(text, f"0:{index}") if text else None


def _cog_end(data: str) -> DoneEvent | None:
    """Parse Cog's last event, which is the whole prediction."""
    document = _json(data)
    status = document.get("status") if isinstance(document, dict) else None
    match status:
        case "succeeded":
            return DoneEvent()
        case "canceled" | "aborted":
            return DoneEvent("canceled")
        case "failed":
            return DoneEvent("error")
        case _:
            return None


def _reason(data: str) -> str:
    """The reason: any but `canceled` is an error; `{}` and free text have none."""
    document = _json(data)
    if not isinstance(document, dict):
        word = document if isinstance(document, str) else data.strip()
        return word if word in ("canceled", "error") else ""
    reason = document.get("reason")
    if not isinstance(reason, str) or not reason:
        return ""
    return "canceled" if reason == "canceled" else "error"


def _detail(data: str) -> str:
    """The documented `detail`, else the text as it came."""
    document = _json(data)
    detail = document.get("detail") if isinstance(document, dict) else None
    return detail if isinstance(detail, str) else data


def _json(data: str) -> object:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
