"""Fuzzy matching of model names: what somebody may have meant who wrote one that is not there."""

from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Final

_MAX_NAMES: Final = 3
_MIN_SIMILARITY: Final = 0.6
_MAX_CHARACTERS: Final = 128
"""Characters that are compared: matching takes quadratic time."""


def nearest_names(requested: str, models: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """At most three most similar names, the most similar first, one for each model, which is given
    by its names.
    """
    # The version is not compared.
    text = requested.casefold().partition(":")[0][:_MAX_CHARACTERS]
    best = (max((_similarity(text, name.casefold()), name) for name in names) for names in models)
    ranked = sorted(
        (match for match in best if match[0] >= _MIN_SIMILARITY), key=lambda match: -match[0]
    )
    return tuple(name for _, name in ranked[:_MAX_NAMES])


def _similarity(requested: str, name: str) -> float:
    """Similarity from 0 to 1. The same name of another owner counts more than another of the
    same.
    """
    requested_model, model = requested.rpartition("/")[2], name.rpartition("/")[2]
    return max(_ratio(requested, name), 0.95 * _ratio(requested_model, model))


def _ratio(requested: str, name: str) -> float:
    matcher = SequenceMatcher(None, requested, name, autojunk=False)
    # Upper bounds first: they are cheap, and reject most names.
    if matcher.real_quick_ratio() < _MIN_SIMILARITY or matcher.quick_ratio() < _MIN_SIMILARITY:
        return 0.0
    return matcher.ratio()
