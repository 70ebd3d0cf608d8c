"""A JSON scanner that passes values over: finds where a value ends without making anything of it.

For worker processes (`worker_pool.py`). It works on bytes, a MiB at a time, by regular
expressions that run in C: its memory does not grow with the document, nor with its depth or the
number of its values. It is no validator: what is no JSON is found out by whoever decodes the rest.
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
"""Bytes: most values are short. Each further window is four times as long as the one before."""
_LONGEST_KEY: Final = 1_024

_STRING: Final = rb'"(?:[^"\\]++|\\.)*+"'
_SPACE: Final = re.compile(rb"[ \t\r\n]*+")
_WHOLE_STRING: Final = re.compile(_STRING, re.DOTALL)
_SCALAR: Final = re.compile(rb'[^ \t\r\n,:"\[\]{}]++')
_REST_OF_STRING: Final = re.compile(rb'(?:[^"\\]++|\\.)*+"', re.DOTALL)
_STEPS: Final = re.compile(_STRING + rb"|[\[\]{}]", re.DOTALL)
_OPENING: Final = b"[{"
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_AS_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_STEP: Final = {ord("["): 1, ord("]"): -1}


class MalformedJson(ValueError):
    """The document ends too early, or is none."""


@dataclass(frozen=True, slots=True)
class JsonSpan:
    """A value: where it begins and ends, and how many commas and brackets it has."""

    begin: int
    end: int
    entries: int

    @property
    def size(self) -> int:
        """In bytes."""
        return self.end - self.begin


def scan_value(data: Data, at: int) -> JsonSpan:
    """The value that begins at or after some white space. Unreadable where none ends."""
    at = _space(data, at)
    first = data[at : at + 1]
    if first == b'"':
        return JsonSpan(at, _end_of(_WHOLE_STRING, data, at), 0)
    if first and first in _OPENING:
        return _container(data, at)
    return JsonSpan(at, _end_of(_SCALAR, data, at), 0)


def scan_members(data: Data, at: int) -> Iterator[tuple[str, JsonSpan]]:
    """Each member of the object that begins there, by its name."""
    at = _expect(data, at, b"{")
    while True:
        at = _space(data, at)
        if data[at : at + 1] == b"}":
            return
        key = scan_value(data, at)
        name = ""
        if data[key.begin : key.begin + 1] != b'"':
            raise MalformedJson
        if key.size <= _LONGEST_KEY:
            name = _text(data[key.begin : key.end])
        value = scan_value(data, _expect(data, key.end, b":"))
        yield name, value
        at = _next(data, value.end)


def scan_items(data: Data, at: int) -> Iterator[JsonSpan]:
    """Each item of the array that begins there."""
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
    """An object or array. Depth is counted over windows without strings; only in the window in
    which it ends each bracket is looked at.
    """
    at, depth, entries, within = begin + 1, 1, 1, False
    length = _FIRST_WINDOW
    while at < len(data):
        window = _whole_escapes(data[at : at + length])
        length = min(4 * length, _WINDOW)
        pieces = window.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        plain = b"".join(pieces[within::2])
        brackets = plain.translate(_AS_SQUARE, _NO_BRACKETS)
        if brackets.count(b"]") >= depth and depth + _lowest(brackets) <= 0:
            end, counted = _where_it_ends(window, depth, within=within)
            return JsonSpan(begin, at + end, entries + counted)
        entries += plain.count(b",") + brackets.count(b"[")
        depth += brackets.count(b"[") - brackets.count(b"]")
        within ^= not len(pieces) % 2
        at += len(window)
    raise MalformedJson


def _whole_escapes(window: bytes) -> bytes:
    """The window, one byte shorter where an escape would be cut in two."""
    backslashes = len(window) - len(window.rstrip(b"\\"))
    return window[:-1] if backslashes % 2 and len(window) > 1 else window


def _lowest(brackets: bytes) -> int:
    """How far the depth sinks; what opens and closes at once is taken out first, as it is cheap."""
    for _ in range(4):
        brackets = brackets.replace(b"[]", b"")
    if b"]" not in brackets:
        return 0
    return min(0, *accumulate(map(_STEP.__getitem__, brackets)))


def _where_it_ends(window: bytes, depth: int, *, within: bool) -> tuple[int, int]:
    """Where in the window the depth comes to 0, and the entries up to there.

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
                plain = _WHOLE_STRING.sub(b"", window[begin : step.end()])
                return step.end(), sum(map(plain.count, (b",", b"[", b"{")))
    raise MalformedJson


def _end_of(pattern: "re.Pattern[bytes]", data: Data, at: int) -> int:
    found = pattern.match(data, at)
    if found is None:
        raise MalformedJson
    return found.end()


def _space(data: Data, at: int) -> int:
    found = _SPACE.match(data, at)
    return found.end() if found else at


def _expect(data: Data, at: int, mark: bytes) -> int:
    at = _space(data, at)
    if data[at : at + 1] != mark:
        raise MalformedJson
    return at + 1


def _next(data: Data, at: int) -> int:
    """Behind the comma, or at the end of the container."""
    at = _space(data, at)
    mark = data[at : at + 1]
    if mark == b",":
        return at + 1
    if mark in (b"}", b"]"):
        return at
    raise MalformedJson


def _text(literal: bytes) -> str:
    try:
        found = json.loads(literal.decode("utf-8", "replace"), strict=False)
    except ValueError:
        raise MalformedJson from None
    return found if isinstance(found, str) else ""
