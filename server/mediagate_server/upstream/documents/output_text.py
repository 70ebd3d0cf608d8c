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
    "transcription",
    "delta",
    "result",
    "results",
    "parts",
    "generation",
    "message",
)
"""Names under which models have their text, those that say it most plainly first.

The last one is as often about the run: `success`. Where it is one of a chat it comes first.
"""
_CHOICES: Final = ("choices", "candidates", "generations")
"""Names of lists of alternatives, of which the first is the answer."""
_NAMES: Final = frozenset({*_MEMBERS, *_CHOICES})
_WORDS, _NUMBER, _NOTHING, _FLAG = range(4)
"""What is found where a text may be, the best first: beside words a number or a flag is about them,
as a flag is beside an empty text."""
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False)
_FoundText = tuple[int, str]
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
    found = _text_in(output)
    if found is not None or _is_void(output):
        return found[1] if found else None
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


def _text_in(value: Any) -> _FoundText | None:
    """The text in a value; None where there is none."""
    if value is None:
        return None
    if isinstance(value, str):
        return (_WORDS if value else _NOTHING), value
    if isinstance(value, list):
        return _in_list(value)
    if isinstance(value, Mapping):
        return _in_object(value)
    return (_FLAG if isinstance(value, bool) else _NUMBER), _as_json(value)


def _in_list(items: list[Any]) -> _FoundText | None:
    if not items:
        return _NOTHING, ""
    if all(item is None or isinstance(item, int | float) for item in items):
        return None  # Numbers are no pieces of a text: together they would be another number.
    if any(isinstance(item, Mapping) and "role" in item for item in items):
        items = [item for item in items if not _is_by_others(item)] or items
    # Objects without a text are about the others, or what was thought before.
    found = [one for item in items if (one := _text_in(item)) is not None]
    if not found:
        return None
    return min(rank for rank, _ in found), "".join(text for _, text in found)


def _in_object(value: Mapping[str, Any]) -> _FoundText | None:
    """The best that is there; of several as good the one whose name says it most plainly."""
    alternatives = [value[name] for name in _CHOICES if name in value]
    places = [items[0] for items in alternatives if isinstance(items, list) and items]
    if _is_of_chat(value.get("message")):
        places.append(value["message"])
    places += [value[name] for name in _MEMBERS if name in value]
    best: _FoundText | None = None
    for place in places:
        found = _text_in(place)
        if found and found[0] == _WORDS:
            return found
        if found and (best is None or found[0] < best[0]):
            best = found
    return best


def _is_of_chat(message: Any) -> bool:
    is_chat = isinstance(message, Mapping) and "content" in message
    return is_chat and not _is_by_others(message)


def _is_void(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_void, value))
    return value is None or value == {}


def _is_by_others(item: Any) -> bool:
    return isinstance(item, Mapping) and item.get("role") in _SAID_BY_OTHERS


def _as_json(value: Any) -> str:
    return _ENCODER.encode(value)
