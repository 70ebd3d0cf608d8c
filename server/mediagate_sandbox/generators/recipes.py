"""Recipes of a run's output files, by the model's input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mediagate_sandbox.generators.dimensions import (
    audio_duration,
    image_dimensions,
    video_dimensions,
    video_duration,
    video_frame_rate,
)
from mediagate_sandbox.generators.spec import (
    AudioFileFormat,
    AudioRecipe,
    ImageFileFormat,
    ImageRecipe,
    Recipe,
    VideoRecipe,
)
from mediagate_sandbox.models import AudioFacts, ImageFacts, Model, VideoFacts


def recipes_for(
    model: Model, values: Mapping[str, Any], prompt: str, seed: int
) -> tuple[Recipe, ...]:
    """Return the recipes of a run, in output order; `values` is the input with defaults."""
    match model.facts:
        case ImageFacts() as facts:
            return _pictures(model, facts, values, prompt, seed)
        case VideoFacts() as facts:
            return (_film(model, facts, values, prompt, seed),)
        case AudioFacts() as facts:
            return _sounds(facts, values, prompt, seed)
        case _:
            return ()


def _pictures(
    model: Model, facts: ImageFacts, values: Mapping[str, Any], prompt: str, seed: int
) -> tuple[Recipe, ...]:
    width, height = image_dimensions(facts, values)
    count = int(values.get(facts.count_input) or 1)
    return tuple(
        ImageRecipe(
            slug=model.slug,
            prompt=prompt,
            seed=seed + index,
            width=width,
            height=height,
            format=_image_format(values, facts),
            quality=int(values.get("output_quality", 80)),
        )
        for index in range(count)
    )


def _film(
    model: Model, facts: VideoFacts, values: Mapping[str, Any], prompt: str, seed: int
) -> Recipe:
    width, height = video_dimensions(facts, values)
    return VideoRecipe(
        slug=model.slug,
        prompt=prompt,
        seed=seed,
        width=width,
        height=height,
        seconds=video_duration(facts, values),
        fps=video_frame_rate(facts, values),
        sound=facts.always_sound or bool(facts.sound_input and values.get(facts.sound_input)),
    )


def _image_format(values: Mapping[str, Any], facts: ImageFacts) -> ImageFileFormat:
    requested = values.get("output_format")
    if requested is None:
        return facts.format
    return "jpg" if requested == "jpeg" else requested


def _sounds(
    facts: AudioFacts, values: Mapping[str, Any], prompt: str, seed: int
) -> tuple[Recipe, ...]:
    count = int(values.get(facts.count_input) or 1) if facts.count_input else 1
    return tuple(
        AudioRecipe(
            seed=seed + index,
            seconds=audio_duration(facts, values, prompt),
            rate=int(values.get("sample_rate") or facts.rate),
            channels=2 if _stereo(values) else facts.channels,
            format=_audio_format(values, facts),
            bit_rate=int(values.get("bitrate") or 128_000),
        )
        for index in range(count)
    )


def _audio_format(values: Mapping[str, Any], facts: AudioFacts) -> AudioFileFormat:
    """Return the format; flac and pcm, which have no encoder here, become wav."""
    requested = values.get(facts.format_input)
    if requested is None:
        return facts.format
    return "mp3" if str(requested).startswith("mp3") else "wav"


def _stereo(values: Mapping[str, Any]) -> bool:
    variant = str(values.get("model_version") or "")
    return values.get("channel") == "stereo" or variant.startswith("stereo")
