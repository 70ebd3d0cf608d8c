"""Dialects of event streams (SSE): Replicate's own, and that of its model containers (Cog 0.22).

Replicate's streams tell output, errors and the end, with ids to resume after. Cog's tell all that
happens as JSON, without ids; a reader that comes back gets the last events from the first of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from mediagate_sandbox.streams import StreamEvent

REPLICATE_OPENING = b": hi\n\n"
ENDS = (b"event: done\n", b"event: completed\n")
"""How the last event of a stream begins."""

_LINE_BREAK = re.compile("\r\n|\r|\n")


class ReplicateDialect:
    """Events `output`, `error` and `done`; an output is a text or the URL of a file."""

    def __init__(self, file_url: Callable[[int], str]) -> None:
        """Create a dialect for a reader; `file_url` gives the URL of an output file."""
        self._file_url = file_url

    def encode(self, event: StreamEvent) -> bytes:
        """Encode the event; data of several lines becomes several `data:` lines."""
        if not event.id:
            return b""
        text = event.data if event.file is None else self._file_url(event.file)
        lines = "".join(f"data: {line}\n" for line in _LINE_BREAK.split(text))
        return f"event: {event.name}\nid: {event.id}\n{lines}\n".encode()

    def encode_truncation(self, past: int) -> None:
        """Return None: all events are kept."""


class CogDialect:
    """Events `start`, `output`, `log`, `metric` and `completed`, each with a JSON object."""

    def __init__(
        self, prediction: str, document: Callable[[], Mapping[str, Any]], history: int
    ) -> None:
        """Create a dialect for a reader of the prediction with this id.

        `document` gives its JSON at the end; `history`: how many events late readers still get.
        """
        self._history = history
        self._prediction = prediction
        self._document = document
        self._index = 0

    def encode(self, event: StreamEvent) -> bytes:
        """Encode the event; a failure is told by the last one, not by an error."""
        match event.name:
            case "start":
                return _encoded("start", {"id": self._prediction, "status": "processing"})
            case "output":
                self._index += 1
                return _encoded("output", {"chunk": event.data, "index": self._index - 1})
            case "log":
                return _encoded("log", {"source": "stdout", "data": event.data})
            case "metric":
                return _encoded("metric", orjson.loads(event.data) | {"mode": "replace"})
            case "error":
                return b""
            case "done":
                return _encoded("completed", self._document())

    def encode_truncation(self, past: int) -> bytes | None:
        """Encode the error that a stream consists of where events were dropped."""
        skipped = past - self._history
        if skipped <= 0:
            return None
        text = "SSE stream replay truncated; events were dropped"
        return _encoded("error", {"error": text, "skipped": skipped})


def _encoded(name: str, document: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(document))
