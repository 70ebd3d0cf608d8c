"""Works out how large and how long the media of one input is to be.

Inputs are read with their defaults; what no input decides comes from the model's facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mediagate_sandbox.models import AudioFacts, ImageFacts, Model, VideoFacts

_SPOKEN_CHARACTERS_PER_SECOND = 14.0
_SHORTEST_SPEECH = 0.5
_SQUARE = (1024, 1024)


def with_defaults(model: Model, given: Mapping[str, Any]) -> dict[str, Any]:
    """The input as the model's code would see it: null and absent become the default."""
    values = {name: field.default for name, field in model.inputs.items()}
    return values | {name: value for name, value in given.items() if value is not None}


def picture_size(facts: ImageFacts, values: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height in pixels: by aspect ratio where the model has one, else as given."""
    ratio = values.get("aspect_ratio")
    if ratio is None or ratio == "custom":
        width, height = values.get("width"), values.get("height")
        return (
            _SQUARE[0] if width is None else int(width),
            _SQUARE[1] if height is None else int(height),
        )
    width, height = facts.sizes.get(ratio, _SQUARE)
    if values.get("megapixels") == "0.25":
        return width // 2, height // 2
    return width, height


def film_size(facts: VideoFacts, values: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height in pixels, both even: the resolution is the short side."""
    resolution = str(values.get(facts.resolution_input) or facts.resolution)
    resolution = facts.resolutions.get(resolution, resolution)
    short = int(resolution.removesuffix("p"))
    across, _, down = str(values.get("aspect_ratio") or facts.aspect_ratio).partition(":")
    ratio = int(across) / int(down)
    long = round(short * max(ratio, 1 / ratio) / 2) * 2
    return (long, short) if ratio >= 1 else (short, long)


def film_seconds(facts: VideoFacts, values: Mapping[str, Any]) -> float:
    """Length of a film in seconds."""
    return float(values.get("duration") or facts.seconds)


def sound_seconds(facts: AudioFacts, values: Mapping[str, Any], text: str) -> float:
    """Length of a sound in seconds; speech takes as long as its text takes to say."""
    if not facts.speech:
        asked = values.get("duration")
        return float(facts.seconds if asked is None else asked)
    pace = _SPOKEN_CHARACTERS_PER_SECOND * float(values.get("speed") or 1)
    return round(min(max(len(text) / pace, _SHORTEST_SPEECH), facts.longest), 2)
