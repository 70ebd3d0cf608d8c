r"""Prompt directives: tests control a run in its prompt, `[[tokens=400 interval_ms=100]]`.

They may stand in any text input, are taken out before the prompt is used, and only count if they
open with a name below, so `[[ -f file ]]` in a prompt is just text. Times are real milliseconds,
never scaled. Directives without TEXT may share one block. A TEXT runs to the closing `]]` and may
hold the escapes \n \r \t \\ \| \uXXXX; in `say`, a `|` parts two tokens.

    tokens=N         write N tokens            say=TEXT        write exactly this text
    first_ms=N       time to the first token   interval_ms=N   time between tokens
    boot_ms=N        time spent starting       run_ms=N        run time of what does not stream
    hang             run and never end         hang_after=N    hang after N tokens
    fail=TEXT        fail with this error      fail            fail with a null error
    fail_after=N     fail after N tokens       reason=TEXT     `reason` of the stream's done event
    unsafe=S1,S9     verdict of a safety model   safe           the same, whatever the words
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MOST_TOKENS = 100_000

_TEXTS = ("say", "fail", "reason", "unsafe")
_COUNTS = ("tokens", "hang_after", "fail_after")
_TIMES = ("first_ms", "interval_ms", "boot_ms", "run_ms")
_FLAGS = ("hang", "fail", "safe")
_NAMES = "|".join((*_TEXTS, *_COUNTS, *_TIMES))
_BLOCK = re.compile(
    rf"\s?\[\[((?:(?:{_NAMES})=.*?)|(?:(?:{'|'.join(_FLAGS)})(?:\s+[a-z_]+(?:=\S*?)?)*))\]\]",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}
_PARTED = re.compile(r"(?:[^|\\]|\\.)+", re.DOTALL)
_CATEGORIES = re.compile(r"S(?:1[0-4]|[1-9])(?:,S(?:1[0-4]|[1-9]))*")


class DirectiveError(ValueError):
    """Invalid directive of a known name."""


@dataclass(frozen=True, slots=True)
class PromptDirectives:
    """Directives of a prompt; None and False: the model's default."""

    tokens: int | None = None
    say: tuple[str, ...] | None = None
    first_ms: float | None = None
    interval_ms: float | None = None
    boot_ms: float | None = None
    run_ms: float | None = None
    hang: bool = False
    hang_after: int | None = None
    fails: bool = False
    fail: str | None = None
    """The error text; None under `fails` is a failure whose `error` is null, as it occurs."""
    fail_after: int | None = None
    reason: str | None = None
    unsafe: str | None = None
    safe: bool = False


def parse_directives(given: Mapping[str, Any]) -> PromptDirectives:
    """Parse the directives of all texts in an input; later ones win.

    Raises DirectiveError for a value that cannot be used.
    """
    directives: dict[str, Any] = {}
    for text in texts_in(given.values()):
        for block in _BLOCK.finditer(text):
            directives |= _parse_block(block.group(1))
    return PromptDirectives(**directives)


def strip_directives(text: str) -> str:
    """Return the text without directives."""
    return _BLOCK.sub("", text) if "[[" in text else text


def texts_in(values: Iterable[Any]) -> Iterable[str]:
    """Iterate over all strings in JSON values, at any depth, without inline files."""
    waiting = list(values)[::-1]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if not value.startswith("data:"):
                yield value
        elif isinstance(value, list):
            waiting += value[::-1]
        elif isinstance(value, dict):
            waiting += list(value.values())[::-1]


def _parse_block(block: str) -> dict[str, Any]:
    name, equals, rest = block.partition("=")
    if equals and name in _TEXTS:
        return _parse_text(name, rest)
    directives: dict[str, Any] = {}
    for word in block.split():
        name, equals, value = word.partition("=")
        if not equals and name in _FLAGS:
            directives |= {"fails" if name == "fail" else name: True}
        elif name in _COUNTS:
            directives[name] = _number(name, value, int)
            if name == "fail_after":
                directives["fails"] = True
        elif name in _TIMES:
            directives[name] = _number(name, value, float)
        else:
            raise DirectiveError(f"[[{word}]] is not a directive of this sandbox")
    return directives


def _parse_text(name: str, value: str) -> dict[str, Any]:
    if name == "say":
        return {"say": tuple(_unescape(each) for each in _PARTED.findall(value))}
    if name == "fail":
        return {"fails": True, "fail": _unescape(value)}
    if name == "unsafe" and not _CATEGORIES.fullmatch(value):
        raise DirectiveError("[[unsafe=...]] takes codes from S1 to S14, parted by commas")
    return {name: _unescape(value)}


def _number(name: str, value: str, kind: Callable[[str], float]) -> float:
    try:
        number = kind(value)
    except ValueError:
        raise DirectiveError(f"[[{name}=...]] takes a number") from None
    most = MOST_TOKENS if kind is int else 86_400_000
    if not 0 <= number <= most:
        raise DirectiveError(f"[[{name}=...]] takes a number from 0 to {most}")
    return number


def _unescape(text: str) -> str:
    def plain(directives: re.Match[str]) -> str:
        if directives.group(1):
            code = int(directives.group(1), 16)
            if 0xD800 <= code <= 0xDFFF:
                raise DirectiveError("a surrogate is not a character; write the character itself")
            return chr(code)
        return _ESCAPED.get(directives.group(2), directives.group(2))

    return _ESCAPE.sub(plain, text)
