"""JSON reduction: a large response reduced to the members that are read, for worker processes.

Dropped values are scanned and never decoded, so that the rest is readable whatever the output
holds. The members to keep are listed here; `prediction_decoding.py` decodes them.
"""

import json
import mmap
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from mediagate_server.upstream.documents.json_skip_scanner import (
    Data,
    JsonSpan,
    MalformedJson,
    is_kind,
    scan_items,
    scan_members,
)

MAX_INLINE_BYTES: Final = 256 * 1024
"""Largest output, and logs, that are decoded with the rest, in bytes."""
MAX_LIST_ENTRIES: Final = 20_000
"""Most commas and brackets of the same: each becomes an object of 30 to 100 bytes."""
MAX_DATA_URIS: Final = 8 * 1024 * 1024
"""Largest output of data URIs that is decoded, in bytes: all of it is needed."""

_MOST_OF_A_FIELD: Final = 64 * 1024
_MOST_OF_AN_INPUT: Final = 8 * 1024 * 1024
_MOST_OF_ALL: Final = 24 * 1024 * 1024
_COMPLETE_ESCAPES: Final = re.compile(rb"(?:[^\\]++|\\u[0-9a-fA-F]{4}|\\[^u])*+", re.DOTALL)
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
    """Reduce a prediction: no input, and no large output and logs.

    `payload` is the file's path. Returns a line of JSON with the span of each large value, (begin,
    end, entries), and then the reduced document; empty where it is malformed.
    """
    return _run_reduction(payload, _prediction)


def reduce_page(payload: bytes) -> bytes:
    """Reduce a page of a list: no outputs, no logs, no unused members."""
    return _run_reduction(payload, lambda data, _: _page(data))


def reduce_document(payload: bytes) -> bytes:
    """Reduce a model, version or deployment: no input and output of its example."""
    return _run_reduction(payload, lambda data, _: _document(data))


_Reduce = Callable[[Data, dict[str, JsonSpan]], Iterator[bytes]]


def _run_reduction(payload: bytes, reduce: _Reduce) -> bytes:
    spans: dict[str, JsonSpan] = {}
    try:
        with map_file(Path(os.fsdecode(payload))) as data:
            document = b"".join(reduce(data, spans))
    except (MalformedJson, ValueError):
        return b""
    if len(document) > _MOST_OF_ALL:
        return b""
    spans_by_name = {name: (span.begin, span.end, span.entries) for name, span in spans.items()}
    return json.dumps(spans_by_name).encode() + b"\n" + document


def map_file(path: Path) -> mmap.mmap:
    """Memory-map a file."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _prediction(data: Data, spans: dict[str, JsonSpan]) -> Iterator[bytes]:
    members = _Members()
    for name, value in scan_members(data, 0):
        if name in _LARGE:
            if _is_large(data, value):
                spans[name] = value
                members.drop(name)
                if name == "logs" and is_kind(data, value, b'"'):
                    members.set(name, _ends(data, value))
            else:
                spans.pop(name, None)
                members.set(name, data[value.begin : value.end])
        elif name in _OF_A_PREDICTION:
            members.set(name, _field(data, name, value))
    yield members.to_json()


def _ends(data: Data, value: JsonSpan) -> bytes:
    """The beginning and the end of a long text, with a note of what is left out."""
    half = _MOST_OF_A_FIELD // 2
    head = _beginning(data, value, half)
    tail = data[value.end - half : value.end]
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
    members = _Members()
    for name, value in scan_members(data, row.begin):
        if name == "input":
            # No input of ours is this large, so {} matches no attempt.
            fits = value.size <= _MOST_OF_AN_INPUT and value.entries <= MAX_LIST_ENTRIES
            members.set(name, data[value.begin : value.end] if fits else b"{}")
        elif name in _OF_A_ROW:
            members.set(name, _field(data, name, value))
    return members.to_json()


def _document(data: Data) -> Iterator[bytes]:
    members = _Members()
    for name, value in scan_members(data, 0):
        if name == "default_example" and is_kind(data, value, b"{"):
            example = _Members()
            for inner, member in scan_members(data, value.begin):
                if inner in _OF_AN_EXAMPLE:
                    example.set(inner, _field(data, inner, member))
            members.set(name, example.to_json())
        elif value.size <= MAX_INLINE_BYTES * 4 and value.entries <= MAX_LIST_ENTRIES * 2:
            members.set(name, data[value.begin : value.end])
    yield members.to_json()


def _field(data: Data, name: str, value: JsonSpan) -> bytes:
    """A kept member: a long error text truncated, any other large value as null."""
    if value.size <= _MOST_OF_A_FIELD and value.entries <= MAX_LIST_ENTRIES:
        return data[value.begin : value.end]
    if name == "error" and is_kind(data, value, b'"'):
        return _beginning(data, value, _MOST_OF_A_FIELD) + b'"'
    # Metrics that cannot be read must not look like none.
    return b"0" if name == "metrics" else b"null"


def _beginning(data: Data, value: JsonSpan, size: int) -> bytes:
    """The first bytes of a long text, without a truncated escape."""
    match = _COMPLETE_ESCAPES.match(data[value.begin : value.begin + size])
    return match[0] if match else b'"'


class _Members:
    """Members of a new object. The last one of a name counts, as in every parser."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    def set(self, name: str, value: bytes) -> None:
        self._values[name] = value

    def drop(self, name: str) -> None:
        self._values.pop(name, None)

    def to_json(self) -> bytes:
        pairs = (json.dumps(name).encode() + b":" + v for name, v in self._values.items())
        return b"{" + b",".join(pairs) + b"}"
