"""JSON parser for upstream's documents: exact numbers, bounded depth, the same on every Python.

Values that JSON allows and later code cannot hold are normalized here, once. Integers are exact.
NaN, Infinity and numbers beyond a double's range become strings. Lone surrogates are replaced.
Depth is checked before any parser runs: parsers give up at depths that differ between versions and
interpreters, some by exhausting the stack.
"""

import json
import math
import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from itertools import accumulate
from typing import Any, Final

import msgspec
from msgspec import Struct

from mediagate_server.upstream.port import NoResponse

MAX_DEPTH: Final = 100
"""Most levels of lists and objects of a document, or of one of its members."""

_MAX_INTEGER_DIGITS: Final = 4_300
"""Most digits that Python reads as an integer by default; its time is quadratic."""
_ROUNDS: Final = 8
_OPEN, _CLOSE = b"[", b"]"
_AS_LISTS: Final = bytes.maketrans(b"{}", b"[]")
_NOT_STRUCTURE: Final = bytes(byte for byte in range(256) if byte not in b'"[]{}')
_DEPTH_CHANGE: Final = {ord(_OPEN): 1, ord(_CLOSE): -1}
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_NEXT: Final = re.compile(rb'(?:[^"\[\]{},]++|' + _STRING + rb")*+([\[{]+|[\]}]+|,)", re.DOTALL)
_NEXT_INSIDE: Final = re.compile(rb'(?:[^"\[\]{}]++|' + _STRING + rb")*+([\[{]+|[\]}]+)", re.DOTALL)
"""Matches up to the next brackets; deeper levels are skipped, commas and all."""
_MEMBER: Final = re.compile(rb'\s*("[^"\\]*(?:\\.[^"\\]*)*")\s*:', re.DOTALL)


class ParsedObject(Struct, frozen=True):
    """A parsed object. `too_deep` names members deeper than MAX_DEPTH; they are null.

    `texts` are the members as JSON texts; empty where the object was parsed as one.
    """

    members: dict[str, Any]
    too_deep: frozenset[str] = frozenset()
    texts: dict[str, bytes] = {}


def parse_json(document: bytes) -> Any:
    """Parse any JSON value. Raises NoResponse for invalid JSON, or one deeper than MAX_DEPTH."""
    if is_too_deep(document):
        raise NoResponse("the answer is nested too deep")
    return _parse(document)


def parse_object(document: bytes) -> ParsedObject:
    """Parse an object whose members may be too deep. Raises NoResponse for invalid JSON."""
    if not is_too_deep(document):
        parsed = _parse(document)
        if not isinstance(parsed, dict):
            raise NoResponse("the answer is no object")
        return ParsedObject(parsed)
    members: dict[str, Any] = {}
    texts = split_members(document)
    too_deep = frozenset(name for name, text in texts.items() if is_too_deep(text))
    for name, text in texts.items():
        members[name] = None if name in too_deep else _parse(text)
    return ParsedObject(members, too_deep, texts)


def split_members(document: bytes) -> dict[str, bytes]:
    """Split an object into the JSON texts of its members. Raises NoResponse."""
    texts: dict[str, bytes] = {}
    for element in split_elements(document, b"{"):
        match = _MEMBER.match(element)
        if match is None:
            raise NoResponse("the answer is not JSON")
        # Of a name that is there twice the last one counts, as in every parser.
        texts[_parse(match[1])] = element[match.end() :]
    return texts


def parse_decimals(document: bytes) -> Any:
    """Parse a value with every fraction as a Decimal of its literal: 0.1 is a tenth.

    Fractions out of a Decimal's range, and constants like NaN, become the Decimal NaN. `document`
    must have been parsed before: it is valid JSON and not deeper than MAX_DEPTH.
    """
    try:
        return _EXACT.decode(document)
    except ValueError:
        return _EXACT_LENIENT.decode(document.decode("utf-8", "replace"))


def is_too_deep(document: bytes, levels: int = MAX_DEPTH) -> bool:
    """Whether a valid document is nested deeper than so many levels.

    For invalid JSON: whether a parser could meet such a depth before it fails.
    """
    if document.count(b"[") + document.count(b"{") <= levels:
        return False
    if b"\\" in document:
        document = document.replace(rb"\\", b"").replace(rb"\"", b"")
    # Quotes and brackets alone are left; every second piece lies within a string.
    structure = document.translate(None, _NOT_STRUCTURE)
    brackets = b"".join(structure.split(b'"')[::2]).translate(_AS_LISTS)
    for _ in range(_ROUNDS):  # Each takes off the innermost level, nearly everything at once.
        brackets = brackets.replace(_OPEN + _CLOSE, b"")
        levels -= 1
    if len(brackets) <= levels:
        return False
    return any(map(levels.__lt__, accumulate(map(_DEPTH_CHANGE.__getitem__, brackets))))


def split_elements(document: bytes, kind: bytes) -> Iterator[bytes]:
    """The texts between the commas of a list (`[`) or an object (`{`), of any depth.

    Raises NoResponse for another type, and for one that breaks off.
    """
    text = document.strip()
    if not text.startswith(kind):
        raise NoResponse("the answer is not JSON")
    depth, begin = 0, 1
    token = _NEXT.match(text)
    while token is not None:
        start, mark = token.start(1), token[1]
        if mark == b",":
            yield text[begin:start]
            begin = token.end()
        elif mark[:1] in b"[{":
            depth += len(mark)
        elif len(mark) < depth:
            depth -= len(mark)
        else:
            end = start + depth - 1
            if end + 1 != len(text):
                break
            if begin > 1 or text[begin:end].strip():
                yield text[begin:end]
            return
        token = (_NEXT if depth == 1 else _NEXT_INSIDE).match(text, token.end())
    raise NoResponse("the answer is not JSON")


def _parse(document: bytes) -> Any:
    """Parse a value of bounded depth."""
    try:
        return _STRICT.decode(document)
    except ValueError:
        # Lone surrogates, control characters, NaN and bytes that are not UTF-8 are invalid, but
        # must not hide the id of a paid prediction beside them.
        try:
            return _replace_surrogates(_LENIENT.decode(document.decode("utf-8", "replace")))
        except ValueError as unreadable:
            raise NoResponse("the answer is not JSON") from unreadable


def _integer(literal: str) -> int | str:
    return int(literal) if len(literal) <= _MAX_INTEGER_DIGITS else literal


def _fraction(literal: str) -> float | str:
    value = float(literal)
    return value if math.isfinite(value) else literal


def _decimal(literal: str) -> Decimal:
    try:
        return Decimal(literal)
    except InvalidOperation:  # an exponent beyond what decimal can hold
        return _NOT_A_NUMBER


def _constant(_: str) -> Decimal:
    return _NOT_A_NUMBER


def _replace_surrogates(value: Any) -> Any:
    """Replace lone surrogates, which could not be encoded."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_replace_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_replace_surrogates(key): _replace_surrogates(item) for key, item in value.items()}
    return value


_NOT_A_NUMBER: Final = Decimal("NaN")
_STRICT: Final = msgspec.json.Decoder()
_LENIENT: Final = json.JSONDecoder(
    strict=False, parse_int=_integer, parse_float=_fraction, parse_constant=str
)
_EXACT: Final = msgspec.json.Decoder(float_hook=_decimal)
_EXACT_LENIENT: Final = json.JSONDecoder(
    strict=False, parse_int=_integer, parse_float=_decimal, parse_constant=_constant
)
