"""JSON parser for upstream's documents: exact numbers, bounded nesting, the same on every Python.

What JSON can say and nothing behind can hold is settled here, once. Integers come exactly. NaN,
Infinity and numbers beyond a double's range come as texts. Lone surrogates are replaced. Nesting is
bounded by a rule of our own, checked before any parser runs: parsers give up at depths that differ
between their versions and the interpreter's, some by exhausting its stack.
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
"""Levels of lists and objects that a document, or one member of it, may be nested."""

_LONGEST_INTEGER: Final = 4_300
"""Digits that Python reads as an integer by default; its time grows with their square."""
_ROUNDS: Final = 8
_OPEN, _CLOSE = b"[", b"]"
_AS_LISTS: Final = bytes.maketrans(b"{}", b"[]")
_NOT_STRUCTURE: Final = bytes(byte for byte in range(256) if byte not in b'"[]{}')
_DEPTH_CHANGE: Final = {ord(_OPEN): 1, ord(_CLOSE): -1}
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_NEXT: Final = re.compile(rb'(?:[^"\[\]{},]++|' + _STRING + rb")*+([\[{]+|[\]}]+|,)", re.DOTALL)
_NEXT_INSIDE: Final = re.compile(rb'(?:[^"\[\]{}]++|' + _STRING + rb")*+([\[{]+|[\]}]+)", re.DOTALL)
"""Up to the next brackets; what lies deeper is passed over, commas and all, as fast as can be."""
_MEMBER: Final = re.compile(rb'\s*("[^"\\]*(?:\\.[^"\\]*)*")\s*:', re.DOTALL)


class ParsedObject(Struct, frozen=True):
    """An object. `too_deep` names members that are nested deeper than DEEPEST; they stand as null.

    `texts` are the members as they were written; empty where nobody had to take them apart.
    """

    members: dict[str, Any]
    too_deep: frozenset[str] = frozenset()
    texts: dict[str, bytes] = {}


def parse_json(document: bytes) -> Any:
    """Any JSON value. NoResponse where it is none, or nested deeper than DEEPEST."""
    if is_too_deep(document):
        raise NoResponse("the answer is nested too deep")
    return _parse(document)


def parse_object(document: bytes) -> ParsedObject:
    """A JSON object of which single members may be nested too deep. NoResponse where it is none."""
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
    """The members of an object as they were written. NoResponse where it is none."""
    texts: dict[str, bytes] = {}
    for element in split_elements(document, b"{"):
        found = _MEMBER.match(element)
        if found is None:
            raise NoResponse("the answer is not JSON")
        # Of a name that is there twice the last one counts, as in every parser.
        texts[_parse(found[1])] = element[found.end() :]
    return texts


def parse_decimals(document: bytes) -> Any:
    """A JSON value with every fraction as a Decimal of its literal: 0.1 is a tenth.

    Fractions beyond what a Decimal can hold, and what is no number, come as the Decimal NaN.
    `document` has been parsed before, so that it is JSON and not nested deeper than DEEPEST.
    """
    try:
        return _EXACT.decode(document)
    except ValueError:
        return _EXACT_LENIENT.decode(document.decode("utf-8", "replace"))


def is_too_deep(document: bytes, levels: int = MAX_DEPTH) -> bool:
    """Whether lists and objects are nested deeper than so many levels, in valid JSON.

    Of what is no JSON it tells whether a parser could meet such a depth before it gives up.
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
    """The texts between the commas of a list (`[`) or an object (`{`), however deep they go.

    NoResponse for what is neither, or breaks off.
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
    """A value whose nesting is bounded already."""
    try:
        return _STRICT.decode(document)
    except ValueError:
        # It is right to be strict with lone surrogates, control characters, NaN and bytes that
        # are no UTF-8, but not when the id of something paid stands beside them.
        try:
            return _printable(_LENIENT.decode(document.decode("utf-8", "replace")))
        except ValueError as unreadable:
            raise NoResponse("the answer is not JSON") from unreadable


def _integer(literal: str) -> int | str:
    return int(literal) if len(literal) <= _LONGEST_INTEGER else literal


def _fraction(literal: str) -> float | str:
    value = float(literal)
    return value if math.isfinite(value) else literal


def _decimal(literal: str) -> Decimal:
    try:
        return Decimal(literal)
    except InvalidOperation:  # an exponent beyond what decimal can hold
        return _NOT_A_NUMBER


def _no_number(_: str) -> Decimal:
    return _NOT_A_NUMBER


def _printable(value: Any) -> Any:
    """The same value with lone surrogates replaced: nothing could send them on."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_printable(item) for item in value]
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return value


_NOT_A_NUMBER: Final = Decimal("NaN")
_STRICT: Final = msgspec.json.Decoder()
_LENIENT: Final = json.JSONDecoder(
    strict=False, parse_int=_integer, parse_float=_fraction, parse_constant=str
)
_EXACT: Final = msgspec.json.Decoder(float_hook=_decimal)
_EXACT_LENIENT: Final = json.JSONDecoder(
    strict=False, parse_int=_integer, parse_float=_decimal, parse_constant=_no_number
)
