"""Which inputs upstream would not take, and why, in words that are fit for callers.

Upstream's text is free text: it can name its own machines, pages and money. Only descriptions of
the shapes below pass; any other becomes one fixed sentence about the field.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

UNEXPLAINED: Final = "is not accepted by the model"

_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}(?:\.[A-Za-z0-9_]{1,64}){0,4}")
_NUMBER = r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?(?:[eE][+-]?[0-9]{1,3})?"
_TYPE = r"(?:string|integer|number|boolean|array|object|null)"
_CHOICE = rf'(?:"[^"/\\<>@\x00-\x1f]{{0,60}}"|{_NUMBER}|null|true|false)'
_SHAPES = tuple(
    re.compile(shape, re.ASCII)
    for shape in (
        r"[Ii]s required",
        r"[Ii]s not an input of the model",
        rf"Invalid type\. Expected: {_TYPE}(?:[/,] ?{_TYPE})*, given: {_TYPE}",
        rf"(?:[\w.]{{1,80}} )?must be one of the following: {_CHOICE}(?:, {_CHOICE}){{0,60}}",
        rf"Must be (?:greater|less) than(?: or equal to)? {_NUMBER}",
        rf"Must be a multiple of {_NUMBER}",
        rf"String length must be (?:greater|less) than or equal to {_NUMBER}",
        rf"Array must have at (?:least|most) {_NUMBER} items?",
        r"Does not match format '[a-z-]{1,32}'",
    )
)
_REQUIRED = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,63}) is required")
_ADDITIONAL = re.compile(r"Additional property ([A-Za-z_][A-Za-z0-9_]{0,63}) is not allowed")
_DETAIL_LINE = re.compile(r"^- *(input(?:\.[A-Za-z0-9_.]{1,120})?): (.+)$", re.MULTILINE)
_MOST_FIELDS = 32


def invalid_fields(document: Mapping[str, Any]) -> dict[str, str]:
    """{input name: what is wrong with it}, from `invalid_fields` or else from `detail`'s lines."""
    found: dict[str, str] = {}
    for field, description in _told(document):
        name, words = _named(field.strip(), description.strip())
        if _FIELD.fullmatch(name) and len(found) < _MOST_FIELDS:
            found.setdefault(name, words)
    return found


def _told(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    listed = document.get("invalid_fields")
    if isinstance(listed, list) and listed:
        for entry in listed:
            if isinstance(entry, dict):
                yield str(entry.get("field", "")), str(entry.get("description", ""))
        return
    detail = document.get("detail")
    if isinstance(detail, str):
        for line in _DETAIL_LINE.finditer(detail[:8192]):
            yield line[1], line[2]


def _named(field: str, description: str) -> tuple[str, str]:
    """Upstream blames the object that lacks a property, or has one too many: blame the property."""
    prefix = "" if field == "input" else field.removeprefix("input.")
    path = f"{prefix}." if prefix else ""
    if missing := _REQUIRED.fullmatch(description):
        return path + missing[1], "is required"
    if extra := _ADDITIONAL.fullmatch(description):
        return path + extra[1], "is not an input of the model"
    if len(description) <= 600 and any(shape.fullmatch(description) for shape in _SHAPES):
        return prefix, description.removeprefix(f"{field} ")
    return prefix, UNEXPLAINED
