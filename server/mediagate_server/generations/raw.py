"""The output of a model that was run by its slug: its links become media, the rest stays JSON.

Which strings are links is known from the model's schema. Where that does not say, a string at
Replicate's own delivery host is one, and so is a data URI.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from mediagate_server.generations.media_discovery import medium_of
from mediagate_server.replicate.media_references import (
    ANY_STEP,
    as_own_words,
    is_link,
    is_reference,
)
from mediagate_server.store.records import Output, StoredMedia

_DEEPEST: Final = 24
"""Levels of JSON that a message can carry: parsers of protobuf stop at 100 levels of theirs, and
one of JSON takes three. What lies deeper becomes its JSON as a text."""
_LARGEST_INTEGER: Final = 2**53
"""The message has doubles alone; up to here they hold every integer."""


def lift(
    output: Any, paths: Sequence[Sequence[str]], media_type: str, ended_at: datetime
) -> Output:
    """The output with `media:N` in place of each link, and the media, in order.

    `paths` are where links are: keys, and ANY_STEP for every item or property; words that stand
    there are words. A string of the model's own that reads like a place is marked as such: see
    `as_own_words`. What a message
    cannot say stands in the value as a text; then all of it is in `exact_json`, too.
    """
    media: list[StoredMedia] = []

    def with_places(value: Any, places: list[Sequence[str]]) -> Any:
        if isinstance(value, str):
            is_there = any(not place for place in places)
            if (is_there and is_link(value)) or is_reference(value):
                media.append(medium_of(value, media_type, ended_at))
                return f"media:{len(media) - 1}"
            return as_own_words(value)
        if isinstance(value, list):
            return [with_places(item, _within(places, ANY_STEP)) for item in value]
        if isinstance(value, dict):
            return {key: with_places(item, _within(places, key)) for key, item in value.items()}
        return value

    lifted = with_places(output, list(paths))
    return as_output(lifted, tuple(media))


def as_output(lifted: Any, media: tuple[StoredMedia, ...]) -> Output:
    """An output whose links are lifted out already."""
    if _is_exact(lifted, 0):
        return Output(value=lifted, media=media)
    return Output(
        value=_as_carried(lifted, 0),
        media=media,
        exact_json=json.dumps(lifted, ensure_ascii=False),
    )


def _is_exact(value: Any, depth: int) -> bool:
    """Whether a message can carry the value as it is."""
    if type(value) is int:
        return abs(value) <= _LARGEST_INTEGER
    if not isinstance(value, list | dict):
        return True
    inner = value if isinstance(value, list) else value.values()
    return depth < _DEEPEST and all(_is_exact(item, depth + 1) for item in inner)


def _as_carried(value: Any, depth: int) -> Any:
    """The value as a message can carry it."""
    if type(value) is int:
        return value if abs(value) <= _LARGEST_INTEGER else str(value)
    if isinstance(value, list | dict) and depth == _DEEPEST:
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return [_as_carried(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {key: _as_carried(item, depth + 1) for key, item in value.items()}
    return value


def _within(places: Sequence[Sequence[str]], step: str) -> list[Sequence[str]]:
    return [place[1:] for place in places if place and place[0] in (step, ANY_STEP)]
