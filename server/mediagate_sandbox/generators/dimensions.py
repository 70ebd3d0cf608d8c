"""Dimensions of generated media: size, frame rate and duration by the model's inputs.

Inputs are read with their defaults; what no input decides comes from the model's facts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mediagate_sandbox.generators.limits import MAX_SIDE
from mediagate_sandbox.models import AudioFacts, ImageFacts, Model, VideoFacts

_SPOKEN_CHARACTERS_PER_SECOND = 14.0
_SHORTEST_SPEECH = 0.5
_SQUARE = (1024, 1024)


def fill_defaults(model: Model, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the input with defaults in place of null and missing values."""
    values = {name: field.default for name, field in model.inputs.items()}
    return values | {name: value for name, value in given.items() if value is not None}


def image_dimensions(facts: ImageFacts, values: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height in pixels: as given where the model takes them, else by ratio and area."""
    named = _pixels(values, facts.pixels_input)
    if named is not None:
        return named
    ratio = values.get("aspect_ratio")
    if ratio is None or all(values.get(name) == word for name, word in facts.free.items()):
        width, height = values.get("width"), values.get("height")
        return (
            _SQUARE[0] if width is None else int(width),
            _SQUARE[1] if height is None else int(height),
        )
    width, height = facts.sizes.get(ratio) or _of_ratio(ratio)
    scale = min(
        facts.areas.get(str(values.get(facts.area_input)), 1.0) ** 0.5,
        MAX_SIDE / max(width, height),
    )
    return round(width * scale), round(height * scale)


def video_dimensions(facts: VideoFacts, values: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height in pixels, both even: the resolution is the short side."""
    named = _pixels(values, facts.pixels_input)
    if named is not None:
        return named
    resolution = str(values.get(facts.resolution_input) or facts.resolution)
    resolution = facts.resolutions.get(resolution, resolution)
    short = int(resolution.removesuffix("p"))
    shape = str(values.get("aspect_ratio") or facts.aspect_ratio)
    shape = facts.ratios.get(shape, shape)
    across, _, down = (shape if ":" in shape else facts.aspect_ratio).partition(":")
    ratio = int(across) / int(down)
    long = round(short * max(ratio, 1 / ratio) / 2) * 2
    return (long, short) if ratio >= 1 else (short, long)


def video_frame_rate(facts: VideoFacts, values: Mapping[str, Any]) -> int:
    """Frames per second."""
    return int(values.get(facts.fps_input) or facts.fps)


def video_duration(facts: VideoFacts, values: Mapping[str, Any]) -> float:
    """Duration of a video in seconds, by time or by frames."""
    if facts.frames_input is not None:
        frames = re.match(r"\d+", str(values.get(facts.frames_input)))
        if frames is not None:
            return int(frames[0]) / video_frame_rate(facts, values)
    return float(values.get(facts.length_input) or facts.seconds)


def audio_duration(facts: AudioFacts, values: Mapping[str, Any], text: str) -> float:
    """Duration of a sound in seconds; of speech by the length of its text."""
    if not facts.speech:
        length = values.get(facts.length_input)
        if isinstance(length, str):
            return facts.lengths.get(length, facts.seconds)
        return float(facts.seconds if length is None else length / facts.per_second)
    pace = _SPOKEN_CHARACTERS_PER_SECOND * float(values.get("speed") or 1)
    return round(min(max(len(text) / pace, _SHORTEST_SPEECH), facts.longest), 2)


def _pixels(values: Mapping[str, Any], name: str | None) -> tuple[int, int] | None:
    """Parse width and height of one word."""
    match = re.fullmatch(r"(\d+)[x*](\d+)", str(values.get(name))) if name else None
    return (int(match[1]), int(match[2])) if match else None


def _of_ratio(ratio: str) -> tuple[int, int]:
    """Sides in steps of 16 whose area is about a million pixels; a square for other words."""
    across, colon, down = ratio.partition(":")
    if not colon:
        return _SQUARE
    shape = (int(across) / int(down)) ** 0.5
    return round(1024 * shape / 16) * 16, round(1024 / shape / 16) * 16
