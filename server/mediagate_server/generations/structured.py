"""Whether a text is the JSON that was asked for. Pure.

What models like to put around it is taken off: what they thought, a fence, words around a single
fence. Nothing within the JSON is ever mended.
"""

import json
from typing import Any, Final

from msgspec import Struct

from mediagate_server.catalog.schema import Problem, Schema
from mediagate_server.catalog.schema_cache import harmless_schema
from mediagate_server.replicate.json_parsing import DEEPEST, is_too_deep

_THOUGHT: Final = ("<think>", "</think>")
_FENCE: Final = "```"
_TOO_DEEP: Final = f"it is nested deeper than {DEEPEST} levels"


class Reading(Struct, frozen=True):
    """The JSON, as the model wrote it; or what is wrong with the answer, in our own words."""

    text: str = ""
    problem: str = ""


def read_json(answer: str, schema: str) -> Reading:
    """The one JSON value in an answer, if it is valid by `schema` (JSON, compiled before)."""
    problem = "it is no JSON"
    for candidate in _candidates(answer):
        if is_too_deep(candidate.encode(errors="replace")):
            problem = _TOO_DEEP
            continue
        try:
            value = json.loads(candidate, parse_constant=_refuse)
        except ValueError:
            continue
        return _checked(candidate, value, schema)
    return Reading(problem=problem)


def read_json_task(payload: bytes) -> bytes:
    """`[answer, schema]` -> `[text, problem]`: `read_json` as a task of worker processes."""
    answer, schema = json.loads(payload)
    reading = read_json(answer, schema)
    return json.dumps([reading.text, reading.problem]).encode()


def _candidates(answer: str) -> list[str]:
    """The whole, else what stands in the one fence."""
    begin, end = _THOUGHT
    rest = answer.strip()
    if rest.startswith(begin) and end in rest:
        rest = rest.partition(end)[2].strip()
    lines = rest.split("\n")
    fences = [at for at, line in enumerate(lines) if line.lstrip(" \t").startswith(_FENCE)]
    if len(fences) != 2:
        return [rest]
    return [rest, "\n".join(lines[fences[0] + 1 : fences[1]]).strip()]


def _checked(text: str, value: Any, schema: str) -> Reading:
    try:
        found = harmless_schema(schema)
        problems = (found[1] if found else Schema(json.loads(schema))).problems(value)
    except ValueError:  # a lone surrogate, say
        return Reading(problem="it cannot be checked")
    return Reading(problem=_told(problems[0])) if problems else Reading(text)


def _told(problem: Problem) -> str:
    place = "".join(f"/{step}" for step in problem.path)
    return f"{place or 'it'} {problem.words}"


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
