"""Extraction of JSON from a model's text, and its validation against a schema. Pure.

What models like to put around it is removed: byte-order marks, tokens that end a text, thoughts, a
fence, words around a single fence. Nothing within the JSON is ever repaired.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct

from mediagate_server.catalog.schemas.json_schema import CompiledSchema, SchemaProblem, cheap_schema
from mediagate_server.upstream.documents.json_parser import MAX_DEPTH, is_too_deep

_FENCE: Final = "```"
_INVISIBLE: Final = "\ufeff\u200b\u200e\u200f\u2060\x00"
"""Byte-order marks and their like."""
_MARKER: Final = (
    r"<\|[^<>|]{1,32}\|>|<\uff5c[^<>\uff5c]{1,32}\uff5c>|</?s>|\[/?INST\]|\[EOS\]"
    r"|<(?:eos|bos|pad|eot|EOT|end_of_turn|start_of_turn|end_of_text|endoftext)>"
)
"""What tokenizers write at the ends of texts and turns, where a server does not take it off."""
_BEFORE: Final = re.compile(rf"(?:[\s{_INVISIBLE}]++|(?:{_MARKER})(?:assistant|model)?)*+")
_BEHIND: Final = re.compile(rf"(?:{_MARKER})\Z")
_LONGEST_MARKER: Final = 40
_TURN_ENDS: Final = re.compile(
    r"<\|(?:eot_id|eom_id|im_end|end_of_text|endoftext|end|return)\|>|<\uff5cend\u2581of\u2581sentence\uff5c>"
    r"|</s>|<end_of_turn>"
)
_THOUGHT_ENDS: Final = re.compile(
    r"</(?:think|thinking|thoughts?|reasoning|reflection|scratchpad|analysis)>|\[/THINK\]|\u25c1/think\u25b7"
    r"|<\|channel\|>final<\|message\|>|<\|message\|>"
)
_INFO: Final = re.compile(r"\s*+(?:jsonc?|json5|jsonl|javascript|js)\b", re.IGNORECASE)
"""What is said of the JSON at the beginning of its fence."""
_TAG: Final = re.compile(r"<([A-Za-z_]{1,20})>")
_TOO_DEEP: Final = f"it is nested deeper than {MAX_DEPTH} levels"


class JsonReading(Struct, frozen=True):
    """The JSON, as the model wrote it; or what is wrong with the answer, in our own words."""

    text: str = ""
    problem: str = ""


def read_json(answer: str, schema: str) -> JsonReading:
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
    return JsonReading(problem=problem)


def read_json_task(payload: bytes) -> bytes:
    """`[answer, schema]` -> `[text, problem]`: `read_json` as a task of worker processes."""
    answer, schema = json.loads(payload)
    reading = read_json(answer, schema)
    return json.dumps([reading.text, reading.problem]).encode()


def _candidates(answer: str) -> Iterator[str]:
    """The whole, else what is left without what was thought, else what stands in the one fence."""
    full_text = _without_tokens(answer)
    yield full_text
    thoughts = [found.end() for found in _THOUGHT_ENDS.finditer(full_text)]
    for end in dict.fromkeys([*thoughts[-1:], *thoughts[:1]]):
        yield from _unwrapped(_without_tokens(full_text[end:]))
    # A fence of what was only thought is no answer; one around such a word is.
    if not thoughts or (full_text.startswith(_FENCE) and full_text.rfind(_FENCE) > thoughts[-1]):
        yield from _unwrapped(full_text)


def _unwrapped(text: str) -> Iterator[str]:
    """The text, and without whatever is around the JSON in it."""
    yield text
    if turn := _TURN_ENDS.search(text):
        # What follows is the model's own idea of the next turn.
        text = _without_tokens(text[: turn.start()])
        yield text
    yield from _fenced(text)
    tag = _TAG.match(text)
    if tag and text.endswith(f"</{tag[1]}>"):
        yield from _fenced(text[tag.end() : -len(tag[0]) - 1])
    yield _without_tokens(text.strip("`"))
    if info := _INFO.match(text):
        yield _without_tokens(text[info.end() :])


def _fenced(text: str) -> Iterator[str]:
    """The text itself, then what stands in the one fence, or in the one that is said to be JSON."""
    yield _without_tokens(text)
    lines = text.split("\n")
    fences = [at for at, line in enumerate(lines) if line.lstrip(" \t").startswith(_FENCE)]
    if len(fences) == 2:
        yield "\n".join(lines[fences[0] + 1 : fences[1]]).strip()
    elif len(fences) % 2 == 0:
        of_json = [
            (begin, end)
            for begin, end in zip(fences[::2], fences[1::2], strict=True)
            if _INFO.match(lines[begin].lstrip(" \t").removeprefix(_FENCE))
        ]
        if len(of_json) == 1:
            ((begin, end),) = of_json
            yield "\n".join(lines[begin + 1 : end]).strip()
    first, last = text.find(_FENCE), text.rfind(_FENCE)
    if first < last:
        inner = text[first + len(_FENCE) : last]
        yield _without_tokens(inner)
        if info := _INFO.match(inner):
            yield _without_tokens(inner[info.end() :])


def _without_tokens(text: str) -> str:
    """The text without blanks, byte-order marks and end-of-text tokens around it."""
    found = _BEFORE.match(text)
    begin, end = found.end() if found else 0, len(text)
    while begin < end:
        if text[end - 1].isspace() or text[end - 1] in _INVISIBLE:
            end -= 1
        elif token := _BEHIND.search(text, max(begin, end - _LONGEST_MARKER), end):
            end = token.start()
        else:
            break
    return text[begin:end]


def _checked(text: str, value: Any, schema: str) -> JsonReading:
    try:
        found = cheap_schema(schema)
        problems = (found[1] if found else CompiledSchema(json.loads(schema))).problems(value)
    except ValueError:  # a lone surrogate, say
        return JsonReading(problem="it cannot be checked")
    return JsonReading(problem=_told(problems[0])) if problems else JsonReading(text)


def _told(problem: SchemaProblem) -> str:
    place = "".join(f"/{step}" for step in problem.path)
    return f"{place or 'it'} {problem.message}"


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
