"""Fuzzy matching of model names: what somebody may have meant who wrote one that is not there."""

from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Final

_MOST: Final = 3
_LEAST_LIKENESS: Final = 0.6
_LONGEST: Final = 128
"""Characters that are compared: matching takes the square of them."""


def nearest_names(wanted: str, models: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """At most three names that are most like `wanted`, the likest first, and one of each model,
    which is given by its names.
    """
    # A version says nothing of the name before it.
    text = wanted.casefold().partition(":")[0][:_LONGEST]
    best = (max((_likeness(text, name.casefold()), name) for name in names) for names in models)
    ranked = sorted((one for one in best if one[0] >= _LEAST_LIKENESS), key=lambda one: -one[0])
    return tuple(name for _, name in ranked[:_MOST])


def _likeness(wanted: str, name: str) -> float:
    """From 0 to 1. The same name of another owner is likelier meant than another of the same."""
    own, other = wanted.rpartition("/")[2], name.rpartition("/")[2]
    return max(_ratio(wanted, name), 0.95 * _ratio(own, other))


def _ratio(wanted: str, name: str) -> float:
    matcher = SequenceMatcher(None, wanted, name, autojunk=False)
    # Upper bounds first: most names are nothing like it.
    if matcher.real_quick_ratio() < _LEAST_LIKENESS or matcher.quick_ratio() < _LEAST_LIKENESS:
        return 0.0
    return matcher.ratio()
