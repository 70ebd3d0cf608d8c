"""JSON reduction: a large answer cut down to what the server reads of it, for worker processes.

What is dropped is scanned and never decoded, so that the rest of an answer is read whatever its
output holds. Which members are kept is written down here; what they mean is
`prediction_decoding.py`'s.
"""

import json
import mmap
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from mediagate_server.upstream.documents.json_scanner import (
    Data,
    JsonSpan,
    MalformedJson,
    is_kind,
    scan_items,
    scan_members,
)

MAX_INLINE_BYTES: Final = 256 * 1024
"""Bytes of an output or of logs that are decoded with the rest."""
MAX_LIST_ENTRIES: Final = 20_000
"""Commas and brackets of the same: each becomes an object of 30 to 100 bytes."""
MAX_DATA_URIS: Final = 8 * 1024 * 1024
"""Bytes of an output that is media as data URIs, and so is all needed at once."""

_MOST_OF_A_FIELD: Final = 64 * 1024
_MOST_OF_AN_INPUT: Final = 8 * 1024 * 1024
_MOST_OF_ALL: Final = 24 * 1024 * 1024
_WHOLE_ESCAPES: Final = re.compile(rb"(?:[^\\]++|\\u[0-9a-fA-F]{4}|\\[^u])*+", re.DOTALL)
_BETWEEN_WORDS: Final = re.compile(rb"[ .,:;=]")
_DATA_URI: Final = re.compile(rb'\[?[ \t\r\n]{0,16}"data:[a-z]')
_LARGE: Final = ("output", "logs")
_OF_A_ROW: Final = frozenset(
    {
        "id",
        "status",
        "model",
        "metrics",
        "created_at",
        "started_at",
        "completed_at",
        "data_removed",
    }
)
_OF_A_PREDICTION: Final = _OF_A_ROW | {"error", "urls"}
_OF_AN_EXAMPLE: Final = frozenset({"metrics"})


def reduce_prediction(payload: bytes) -> bytes:
    """A prediction without its input, and without outputs and logs that are large.

    `payload` is the file's path. The answer is a line of JSON with the place of each large value,
    (begin, end, entries), and then the reduced document; empty where it cannot be read.
    """
    return _reduced(payload, _prediction)


def reduce_page(payload: bytes) -> bytes:
    """A page of a list without outputs, logs and whatever else is not asked of a list."""
    return _reduced(payload, lambda data, _: _page(data))


def reduce_document(payload: bytes) -> bytes:
    """A model, version or deployment, without what its example was given and has put out."""
    return _reduced(payload, lambda data, _: _document(data))


_Reduce = Callable[[Data, dict[str, JsonSpan]], Iterator[bytes]]


def _reduced(payload: bytes, reduce: _Reduce) -> bytes:
    spans: dict[str, JsonSpan] = {}
    try:
        with map_file(Path(os.fsdecode(payload))) as data:
            document = b"".join(reduce(data, spans))
    except (MalformedJson, ValueError):
        return b""
    if len(document) > _MOST_OF_ALL:
        return b""
    places = {name: (span.begin, span.end, span.entries) for name, span in spans.items()}
    return json.dumps(places).encode() + b"\n" + document


def map_file(path: Path) -> mmap.mmap:
    """The file as memory, of which only what is looked at is read."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _prediction(data: Data, spans: dict[str, JsonSpan]) -> Iterator[bytes]:
    found = _Members()
    for name, value in scan_members(data, 0):
        if name in _LARGE:
            if _is_large(data, value):
                spans[name] = value
                found.drop(name)
                if name == "logs" and is_kind(data, value, b'"'):
                    found.keep(name, _ends(data, value))
            else:
                spans.pop(name, None)
                found.keep(name, data[value.begin : value.end])
        elif name in _OF_A_PREDICTION:
            found.keep(name, _field(data, name, value))
    yield found.written()


def _ends(data: Data, value: JsonSpan) -> bytes:
    """Beginning and end of a long text, with what is between them named."""
    part = _MOST_OF_A_FIELD // 2
    head = _beginning(data, value, part)
    tail = data[value.end - part : value.end]
    # Behind a space or a sign that no escape ends with.
    cut = _BETWEEN_WORDS.search(tail)
    tail = tail[cut.start() :] if cut else b'"'
    left = value.size - len(head) - len(tail)
    return head + b"\\n\\n[%d bytes are left out here]\\n\\n" % left + tail


def _is_large(data: Data, value: JsonSpan) -> bool:
    most = MAX_INLINE_BYTES
    if _DATA_URI.match(data, value.begin):
        most = MAX_DATA_URIS
    return value.size > most or value.entries > MAX_LIST_ENTRIES


def _page(data: Data) -> Iterator[bytes]:
    rows: JsonSpan | None = None
    after = b"null"
    for name, value in scan_members(data, 0):
        if name == "results":
            rows = value
        elif name == "next":
            # A cursor that cannot be read must not look like the last page.
            after = data[value.begin : value.end] if value.size <= _MOST_OF_A_FIELD else b"0"
    yield b'{"next":' + after
    if rows is None or not is_kind(data, rows, b"["):
        yield b"}"
        return
    yield b',"results":['
    comma = b""
    for row in scan_items(data, rows.begin):
        if is_kind(data, row, b"{"):
            yield comma + _row(data, row)
            comma = b","
    yield b"]}"


def _row(data: Data, row: JsonSpan) -> bytes:
    found = _Members()
    for name, value in scan_members(data, row.begin):
        if name == "input":
            # No input that was ever sent is this large: nobody's, rather than anybody's.
            fits = value.size <= _MOST_OF_AN_INPUT and value.entries <= MAX_LIST_ENTRIES
            found.keep(name, data[value.begin : value.end] if fits else b"{}")
        elif name in _OF_A_ROW:
            found.keep(name, _field(data, name, value))
    return found.written()


def _document(data: Data) -> Iterator[bytes]:
    found = _Members()
    for name, value in scan_members(data, 0):
        if name == "default_example" and is_kind(data, value, b"{"):
            example = _Members()
            for inner, part in scan_members(data, value.begin):
                if inner in _OF_AN_EXAMPLE:
                    example.keep(inner, _field(data, inner, part))
            found.keep(name, example.written())
        elif value.size <= MAX_INLINE_BYTES * 4 and value.entries <= MAX_LIST_ENTRIES * 2:
            found.keep(name, data[value.begin : value.end])
    yield found.written()


def _field(data: Data, name: str, value: JsonSpan) -> bytes:
    """A member that is kept; a long text up to a length, anything else that is large as none."""
    if value.size <= _MOST_OF_A_FIELD and value.entries <= MAX_LIST_ENTRIES:
        return data[value.begin : value.end]
    if name == "error" and is_kind(data, value, b'"'):
        return _beginning(data, value, _MOST_OF_A_FIELD) + b'"'
    # Metrics that cannot be read must not look like none.
    return b"0" if name == "metrics" else b"null"


def _beginning(data: Data, value: JsonSpan, size: int) -> bytes:
    """The first bytes of a long text, without an escape that would be cut in two."""
    found = _WHOLE_ESCAPES.match(data[value.begin : value.begin + size])
    return found[0] if found else b'"'


class _Members:
    """The members of an object that is written anew. The last of a name counts, as everywhere."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    def keep(self, name: str, value: bytes) -> None:
        self._values[name] = value

    def drop(self, name: str) -> None:
        self._values.pop(name, None)

    def written(self) -> bytes:
        pairs = (json.dumps(name).encode() + b":" + v for name, v in self._values.items())
        return b"{" + b",".join(pairs) + b"}"
