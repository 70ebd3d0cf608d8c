"""Text extraction from a model's output, whatever its shape. Pure; also for worker processes.

Texts come as one string, as a list of pieces, as a number, or within objects under one of several
names. Any other value is returned as its JSON: nothing that was paid for is discarded.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

_MEMBERS: Final = (
    "text",
    "output_text",
    "generated_text",
    "output",
    "outputs",
    "response",
    "content",
    "answer",
    "completion",
    "transcription",
    "delta",
    "result",
    "results",
    "parts",
    "generation",
    "message",
)
"""Names of members with text, the most explicit first.

`message` is often about the run ("success"), so it is last; that of a chat is first.
"""
_CHOICES: Final = ("choices", "candidates", "generations")
"""Names of lists of alternatives, whose first item is the answer."""
_NAMES: Final = frozenset({*_MEMBERS, *_CHOICES})
_WORDS, _NUMBER, _NOTHING, _FLAG = range(4)
"""Ranks of candidates, the best first: a number or a flag beside words is about them, as is a flag
beside an empty text."""
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False)
_RankedText = tuple[int, str]
_OTHER_ROLES: Final = frozenset({"user", "human", "system", "tool", "developer"})


def find_text(output: Any) -> str | None:
    """The text of an output; None where there is none."""
    if isinstance(output, str):
        return output
    if isinstance(output, list):
        try:
            return "".join(output)
        except TypeError:  # Not all are strings; faster than checking a thousand tokens first.
            pass
    text = _text_in(output)
    if text is not None or _is_void(output):
        return text[1] if text else None
    if isinstance(output, Mapping) and not _NAMES.isdisjoint(output):
        return None  # It is said where the text would be, and that there is none.
    return _as_json(output)


def json_answers(output: Any) -> tuple[str, ...]:
    """Candidates for requested JSON: the text of an output, and the output itself."""
    text = find_text(output)
    answers = () if text is None else (text,)
    is_pieces = isinstance(output, list) and all(isinstance(item, str) for item in output)
    if not isinstance(output, Mapping | list) or is_pieces or _is_void(output):
        return answers
    document = _as_json(output)
    return answers if text == document else (*answers, document)


def _text_in(value: Any) -> _RankedText | None:
    """The best text in a value, with its rank; None where there is none."""
    if value is None:
        return None
    if isinstance(value, str):
        return (_WORDS if value else _NOTHING), value
    if isinstance(value, list):
        return _in_list(value)
    if isinstance(value, Mapping):
        return _in_object(value)
    return (_FLAG if isinstance(value, bool) else _NUMBER), _as_json(value)


def _in_list(items: list[Any]) -> _RankedText | None:
    if not items:
        return _NOTHING, ""
    if all(item is None or isinstance(item, int | float) for item in items):
        return None  # Numbers are no pieces of a text: together they would be another number.
    if any(isinstance(item, Mapping) and "role" in item for item in items):
        items = [item for item in items if not _is_by_others(item)] or items
    # Objects without a text are about the others, or what was thought before.
    texts = [text for item in items if (text := _text_in(item)) is not None]
    if not texts:
        return None
    return min(rank for rank, _ in texts), "".join(text for _, text in texts)


def _in_object(value: Mapping[str, Any]) -> _RankedText | None:
    """The best text in an object; among equals the one with the most explicit name."""
    alternatives = [value[name] for name in _CHOICES if name in value]
    candidates = [items[0] for items in alternatives if isinstance(items, list) and items]
    if _is_of_chat(value.get("message")):
        candidates.append(value["message"])
    candidates += [value[name] for name in _MEMBERS if name in value]
    best: _RankedText | None = None
    for candidate in candidates:
        text = _text_in(candidate)
        if text and text[0] == _WORDS:
            return text
        if text and (best is None or text[0] < best[0]):
            best = text
    return best


def _is_of_chat(message: Any) -> bool:
    is_chat = isinstance(message, Mapping) and "content" in message
    return is_chat and not _is_by_others(message)


def _is_void(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_void, value))
    return value is None or value == {}


def _is_by_others(item: Any) -> bool:
    return isinstance(item, Mapping) and item.get("role") in _OTHER_ROLES


def _as_json(value: Any) -> str:
    return _ENCODER.encode(value)
