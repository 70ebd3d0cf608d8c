"""Rewriting of the strings in a JSON text, which leaves every other byte as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import orjson

_STRING = re.compile(rb'"([^"\\]*(?:\\.[^"\\]*)*)"(\s*:)?', re.DOTALL)

Change = Callable[[str, str], str]
"""Takes the name that a string stands under ("" for none) and the string, returns another."""


def rewrite_strings(document: bytes, change: Change) -> bytes:
    """Return the JSON text with its string values changed; numbers, spaces and names stay.

    A string in an array stands under the array's name.
    """
    name = ""

    def rewrite(match: re.Match[bytes]) -> bytes:
        nonlocal name
        literal, colon = match.group(), match.group(2)
        text = parse_json(b'"%s"' % match.group(1))
        if not isinstance(text, str):
            return literal
        if colon is not None:
            name = text
            return literal
        changed = change(name, text)
        return literal if changed == text else json.dumps(changed).encode()

    return _STRING.sub(rewrite, document)


def parse_json(text: bytes) -> Any:
    """Parse JSON; None where the text is no JSON (or null)."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(text)  # It takes halves of a character, such as models may write.
    except (ValueError, RecursionError):
        return None


def strings_in(value: Any) -> list[str]:
    """Return all strings in a JSON value, at any depth, in order."""
    found: list[str] = []
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str() as text:
                found.append(text)
            case list() as items:
                waiting += items[::-1]
            case dict() as members:
                waiting += list(members.values())[::-1]
    return found


def map_strings(value: Any, change: Change, name: str = "") -> Any:
    """Return a JSON value with its strings changed."""
    match value:
        case str():
            return change(name, value)
        case list():
            return [map_strings(each, change, name) for each in value]
        case dict():
            return {key: map_strings(each, change, key) for key, each in value.items()}
        case _:
            return value
