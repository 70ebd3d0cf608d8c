"""The text in a model's output, whatever shape it comes in. Pure; also for worker processes.

Texts come as one string, as a list of pieces, as a number, or within objects whose members have
any of a few names. What is none of these is told as the JSON that it is: nothing that was paid for
is thrown away.
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
    "message",
    "delta",
    "result",
    "results",
    "parts",
    "generation",
    "transcription",
)
"""Names under which models have their text, those that say it most plainly first."""
_CHOICES: Final = ("choices", "candidates", "generations")
"""Names of lists of alternatives, of which the first is the answer."""
_NAMES: Final = frozenset({*_MEMBERS, *_CHOICES})
_SAID_BY_OTHERS: Final = frozenset({"user", "human", "system", "tool", "developer"})


def find_text(output: Any) -> str | None:
    """A text model's output, whole; None where there is none."""
    if isinstance(output, str):
        return output
    if isinstance(output, list):
        try:
            return "".join(output)
        except TypeError:  # Not all of them are texts; a thousand tokens need not be asked singly.
            pass
    text = _text_in(output)
    if text is not None or _is_void(output):
        return text
    if isinstance(output, Mapping) and not _NAMES.isdisjoint(output):
        return None  # It is said where the text would be, and that there is none.
    return _as_json(output)


def json_answers(output: Any) -> tuple[str, ...]:
    """What may be the JSON that was asked for: the text in an output, and the output itself."""
    text = find_text(output)
    answers = () if text is None else (text,)
    is_pieces = isinstance(output, list) and all(isinstance(item, str) for item in output)
    if not isinstance(output, Mapping | list) or is_pieces or _is_void(output):
        return answers
    whole = _as_json(output)
    return answers if text == whole else (*answers, whole)


def _text_in(value: Any) -> str | None:
    """The text in a value; None where there is none."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        return _in_list(value)
    if isinstance(value, Mapping):
        return _in_object(value)
    return _as_json(value)


def _in_list(items: list[Any]) -> str | None:
    if items and all(item is None or isinstance(item, int | float) for item in items):
        return None  # Numbers are no pieces of a text: together they would be another number.
    if any(isinstance(item, Mapping) and "role" in item for item in items):
        items = [item for item in items if not _is_by_others(item)] or items
    # Objects without a text are about the others, or what was thought before.
    found = [text for item in items if (text := _text_in(item)) is not None]
    return "".join(found) if found or not items else None


def _in_object(value: Mapping[str, Any]) -> str | None:
    for name in _CHOICES:
        choices = value.get(name)
        if isinstance(choices, list) and choices:
            return _text_in(choices[0])
    empty: str | None = None
    for name in _MEMBERS:
        text = _text_in(value.get(name))
        if text:
            return text
        empty = text if empty is None else empty
    return empty


def _is_void(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_void, value))
    return value is None or value == {}


def _is_by_others(item: Any) -> bool:
    return isinstance(item, Mapping) and item.get("role") in _SAID_BY_OTHERS


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
