"""Model search by words, and Replicate's collections."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from mediagate_sandbox.models import Kind, Model

_WORD = re.compile(r"\w+")
_SHORTEST_PLURAL = 3
_NAME_WEIGHT, _OWNER_WEIGHT, _ABOUT_WEIGHT = 3.0, 2.0, 1.0


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One search result."""

    model: Model
    score: float
    """How well it fits; the better, the higher."""


@dataclass(frozen=True, slots=True)
class ModelCollection:
    """A collection of models."""

    slug: str
    name: str
    about: str
    kind: Kind | None = None
    """The kind it holds; None holds every official model."""

    def contains(self, model: Model) -> bool:
        """Whether the model is in this collection."""
        return model.official if self.kind is None else model.kind == self.kind


COLLECTIONS = (
    ModelCollection(
        "official", "Official models", "Models that are always on and have stable interfaces"
    ),
    ModelCollection("language-models", "Large language models", "Models that write text", "text"),
    ModelCollection(
        "text-to-image", "Text to image", "Models that make pictures from text", "image"
    ),
    ModelCollection("text-to-video", "Generate videos", "Models that make films", "video"),
    ModelCollection(
        "text-to-audio", "Generate audio", "Models that make music, sounds and speech", "audio"
    ),
    ModelCollection("safety", "Check safety", "Models that tell safe text from unsafe", "safety"),
)


def search(models: Iterable[Model], query: str) -> list[SearchHit]:
    """Return models with at least one word of the query, the best first."""
    words = _words(query)
    hits = [SearchHit(model, _score(model, words)) for model in models]
    return sorted(
        (each for each in hits if each.score > 0), key=lambda each: (-each.score, each.model.slug)
    )


def search_collections(query: str) -> list[ModelCollection]:
    """Return collections whose name or description has a word of the query."""
    words = _words(query)
    return [each for each in COLLECTIONS if words & _words(f"{each.slug} {each.name} {each.about}")]


def _score(model: Model, words: set[str]) -> float:
    return (
        _NAME_WEIGHT * len(words & _words(model.name))
        + _OWNER_WEIGHT * len(words & _words(model.owner))
        + _ABOUT_WEIGHT * len(words & _words(f"{model.kind} {model.about}"))
    )


def _words(text: str) -> set[str]:
    """Return the lower-case words; a plural counts as its singular."""
    words = (each.lower() for each in _WORD.findall(text))
    return {each.removesuffix("s") if len(each) > _SHORTEST_PLURAL else each for each in words}
