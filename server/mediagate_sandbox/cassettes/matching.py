"""Matching of creates with recorded ones, and the first field in which two differ."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mediagate_sandbox.cassettes.redaction import REDACTED

_PLAIN_NAME = re.compile(r"[A-Za-z_][\w-]*")
_SEED = re.compile(r"(?:\w+_)?seed")
_BEFORE, _SHOWN = 20, 80


@dataclass(frozen=True, slots=True)
class Difference:
    """A field in which a request differs from a recorded one."""

    path: str
    """Where it is, such as `input.prompt` or `input.messages[0].content`."""
    recorded: str
    came: str
    """Both in words, without what may be secret."""

    def __str__(self) -> str:
        """Return it in one sentence."""
        return f"$.{self.path}: recorded {self.recorded}, came {self.came}"


def differences(recorded: Any, came: Any, path: str = "") -> list[Difference]:
    """Return all differences of two JSON values, in the order of the recorded one.

    What was redacted equals anything, within a text as well; 1 equals 1.0, and true does not. A
    seed equals any other, or none: programs draw a new one for each run.
    """
    if isinstance(recorded, str) and isinstance(came, str) and _matches(recorded, came):
        return []
    if isinstance(recorded, dict) and isinstance(came, dict):
        return _in_objects(recorded, came, path)
    if isinstance(recorded, list) and isinstance(came, list):
        return _in_arrays(recorded, came, path)
    if _kind(recorded) == _kind(came) and recorded == came:
        return []
    return [Difference(path or "(root)", *_in_words(recorded, came))]


def _matches(recorded: str, came: str) -> bool:
    if REDACTED not in recorded:
        return recorded == came
    parts = map(re.escape, recorded.split(REDACTED))
    return re.fullmatch(".*".join(parts), came, re.DOTALL) is not None


def _in_objects(
    recorded: Mapping[str, Any], came: Mapping[str, Any], path: str
) -> list[Difference]:
    found = []
    for name, value in recorded.items():
        where = _member(path, name)
        if _is_seed(name, value) and _is_seed(name, came.get(name, 0)):
            continue
        if name in came:
            found += differences(value, came[name], where)
        else:
            found.append(Difference(where, _described(value), "nothing"))
    # Its value may be a secret: no schema says that it is none.
    found += [
        Difference(_member(path, name), "nothing", _kind(value))
        for name, value in came.items()
        if name not in recorded and not _is_seed(name, value)
    ]
    return found


def seeds_in(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the seeds of a create: of recordings that differ in no more, theirs comes first."""
    given = fields.get("input")
    if not isinstance(given, dict):
        return {}
    return {name: value for name, value in given.items() if _is_seed(name, value)}


def _is_seed(name: str, value: Any) -> bool:
    return _SEED.fullmatch(name) is not None and _kind(value) == "a number"


def _in_arrays(recorded: Sequence[Any], came: Sequence[Any], path: str) -> list[Difference]:
    found = []
    for index, (one, other) in enumerate(zip(recorded, came, strict=False)):
        found += differences(one, other, f"{path}[{index}]")
    if len(recorded) != len(came):
        counts = f"{len(recorded)} values", f"{len(came)} values"
        found.append(Difference(path, *counts))
    return found


def _member(path: str, name: str) -> str:
    if not _PLAIN_NAME.fullmatch(name):
        return f'{path}["{name}"]'
    return f"{path}.{name}" if path else name


def _in_words(recorded: Any, came: Any) -> tuple[str, str]:
    if not isinstance(recorded, str) or not isinstance(came, str):
        same = _kind(recorded) == _kind(came)
        return _described(recorded), _described(came) if same else _kind(came)
    length = min(len(recorded), len(came))
    at = next((i for i in range(length) if recorded[i] != came[i]), length)
    start = max(0, at - _BEFORE)
    return _excerpt(recorded, start), _excerpt(came, start)


def _excerpt(text: str, start: int) -> str:
    shown = text[start : start + _SHOWN]
    before = "..." if start else ""
    after = "..." if start + _SHOWN < len(text) else ""
    return f'"{before}{shown}{after}"'


def _described(value: Any) -> str:
    match value:
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case str():
            return _excerpt(value, 0)
        case int() | float():
            return str(value)
        case _:
            return _kind(value)


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case int() | float():
            return "a number"
        case list():
            return "an array"
        case _:
            return "an object"
