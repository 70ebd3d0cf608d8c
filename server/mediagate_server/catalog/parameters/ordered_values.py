"""Ordinal values: 720p before 1080p, low before high; the nearest allowed value.

Only values with an order have a nearest one; between others (voices, languages) nothing is guessed.
"""

import re
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from typing import TypeVar

_Word = TypeVar("_Word", bound=object)

_EFFORT_ORDER = {"none": 0, "minimal": 1, "low": 2, "medium": 3, "high": 4, "xhigh": 5}
_MAX_CHARACTERS = 64
"""Maximum length: no model's value is as long, and a number of thousands of digits is none."""
_RESOLUTION_LINES = {"2k": 1440, "4k": 2160, "8k": 4320}
_FRAMES = re.compile(r"(\d+)_frames_\w+")
_LEADING_NUMBER = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:p|mp|s|fps)?\s*", re.IGNORECASE)


def ordinal(word: object) -> Fraction | None:
    """Ordinal of a value, for comparison; None where it has none."""
    if isinstance(word, bool):
        return None
    if isinstance(word, int | float | Decimal):
        return Fraction(str(word))
    text = str(word).casefold()
    if len(text) > _MAX_CHARACTERS:
        return None
    if text in _EFFORT_ORDER:
        return Fraction(_EFFORT_ORDER[text])
    if text in _RESOLUTION_LINES:
        return Fraction(_RESOLUTION_LINES[text])
    match = _LEADING_NUMBER.fullmatch(text) or _FRAMES.fullmatch(text)
    return Fraction(match.group(1)) if match else None


def nearest_allowed(value: object, allowed: Iterable[_Word]) -> _Word | None:
    """The allowed value that is nearest to `value`; the lower (cheaper) of two equally near.

    None where `value` or every allowed value has no ordinal.
    """
    target = ordinal(value)
    if target is None:
        return None
    candidates = [(item, order) for item in allowed if (order := ordinal(item)) is not None]
    if not candidates:
        return None
    return min(candidates, key=lambda pair: (abs(pair[1] - target), pair[1]))[0]
