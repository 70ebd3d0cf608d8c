"""JSON scanner: finds the spans of values without decoding them.

For worker processes (`worker_pool.py`). It works on bytes, a MiB at a time, by regular expressions:
its memory does not grow with the document, nor with its depth or number of values. It does not
validate: invalid JSON is detected where the rest is decoded.
"""

import json
import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

Data = bytes | mmap.mmap

_WINDOW: Final = 1024 * 1024
_FIRST_WINDOW: Final = 256
"""Bytes: most values are short. Each further window is four times as long."""
_MAX_KEY_BYTES: Final = 1_024

_STRING: Final = rb'"(?:[^"\\]++|\\.)*+"'
_SPACE: Final = re.compile(rb"[ \t\r\n]*+")
_COMPLETE_STRING: Final = re.compile(_STRING, re.DOTALL)
_SCALAR: Final = re.compile(rb'[^ \t\r\n,:"\[\]{}]++')
_REST_OF_STRING: Final = re.compile(rb'(?:[^"\\]++|\\.)*+"', re.DOTALL)
_STEPS: Final = re.compile(_STRING + rb"|[\[\]{}]", re.DOTALL)
_OPENING: Final = b"[{"
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_AS_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_STEP: Final = {ord("["): 1, ord("]"): -1}


class MalformedJson(ValueError):
    """The document ends too early, or is not JSON."""


@dataclass(frozen=True, slots=True)
class JsonSpan:
    """Span of a value: begin, end, and its number of commas and brackets."""

    begin: int
    end: int
    entries: int

    @property
    def size(self) -> int:
        """In bytes."""
        return self.end - self.begin


def scan_value(data: Data, at: int) -> JsonSpan:
    """The value that begins here, after white space. Raises MalformedJson."""
    at = _space(data, at)
    first = data[at : at + 1]
    if first == b'"':
        return JsonSpan(at, _end_of(_COMPLETE_STRING, data, at), 0)
    if first and first in _OPENING:
        return _container(data, at)
    return JsonSpan(at, _end_of(_SCALAR, data, at), 0)


def scan_members(data: Data, at: int) -> Iterator[tuple[str, JsonSpan]]:
    """Iterate the members of the object that begins here, with their names."""
    at = _expect(data, at, b"{")
    while True:
        at = _space(data, at)
        if data[at : at + 1] == b"}":
            return
        key = scan_value(data, at)
        name = ""
        if data[key.begin : key.begin + 1] != b'"':
            raise MalformedJson
        if key.size <= _MAX_KEY_BYTES:
            name = _text(data[key.begin : key.end])
        value = scan_value(data, _expect(data, key.end, b":"))
        yield name, value
        at = _next(data, value.end)


def scan_items(data: Data, at: int) -> Iterator[JsonSpan]:
    """Iterate the items of the array that begins here."""
    at = _expect(data, at, b"[")
    while True:
        at = _space(data, at)
        if data[at : at + 1] == b"]":
            return
        item = scan_value(data, at)
        yield item
        at = _next(data, item.end)


def is_kind(data: Data, span: JsonSpan, opening: bytes) -> bool:
    """Whether the value begins with that character."""
    return data[span.begin : span.begin + 1] == opening


def _container(data: Data, begin: int) -> JsonSpan:
    """The span of an object or array.

    Depth is counted over windows without strings; only in the last window each bracket is visited.
    """
    at, depth, entries, within = begin + 1, 1, 1, False
    length = _FIRST_WINDOW
    while at < len(data):
        window = _without_split_escape(data[at : at + length])
        length = min(4 * length, _WINDOW)
        pieces = window.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        plain = b"".join(pieces[within::2])
        brackets = plain.translate(_AS_SQUARE, _NO_BRACKETS)
        if brackets.count(b"]") >= depth and depth + _lowest(brackets) <= 0:
            end, counted = _find_end(window, depth, within=within)
            return JsonSpan(begin, at + end, entries + counted)
        entries += plain.count(b",") + brackets.count(b"[")
        depth += brackets.count(b"[") - brackets.count(b"]")
        within ^= not len(pieces) % 2
        at += len(window)
    raise MalformedJson


def _without_split_escape(window: bytes) -> bytes:
    """The window, one byte shorter where it would split an escape."""
    backslashes = len(window) - len(window.rstrip(b"\\"))
    return window[:-1] if backslashes % 2 and len(window) > 1 else window


def _lowest(brackets: bytes) -> int:
    """The lowest depth within the brackets; adjacent pairs are removed first, as it is cheap."""
    for _ in range(4):
        brackets = brackets.replace(b"[]", b"")
    if b"]" not in brackets:
        return 0
    return min(0, *accumulate(map(_STEP.__getitem__, brackets)))


def _find_end(window: bytes, depth: int, *, within: bool) -> tuple[int, int]:
    """Position in the window where the depth becomes 0, and the entries up to there.

    `within`: the window begins within a string.
    """
    begin = _end_of(_REST_OF_STRING, window, 0) if within else 0
    for step in _STEPS.finditer(window, begin):
        mark = step[0]
        if mark in (b"[", b"{"):
            depth += 1
        elif mark in (b"]", b"}"):
            depth -= 1
            if not depth:
                plain = _COMPLETE_STRING.sub(b"", window[begin : step.end()])
                return step.end(), sum(map(plain.count, (b",", b"[", b"{")))
    raise MalformedJson


def _end_of(pattern: "re.Pattern[bytes]", data: Data, at: int) -> int:
    match = pattern.match(data, at)
    if match is None:
        raise MalformedJson
    return match.end()


def _space(data: Data, at: int) -> int:
    match = _SPACE.match(data, at)
    return match.end() if match else at


def _expect(data: Data, at: int, mark: bytes) -> int:
    at = _space(data, at)
    if data[at : at + 1] != mark:
        raise MalformedJson
    return at + 1


def _next(data: Data, at: int) -> int:
    """The position after the comma, or at the end of the container."""
    at = _space(data, at)
    mark = data[at : at + 1]
    if mark == b",":
        return at + 1
    if mark in (b"}", b"]"):
        return at
    raise MalformedJson


def _text(literal: bytes) -> str:
    try:
        text = json.loads(literal.decode("utf-8", "replace"), strict=False)
    except ValueError:
        raise MalformedJson from None
    return text if isinstance(text, str) else ""
