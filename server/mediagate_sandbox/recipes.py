"""Turns a model's input into recipes for the files its run leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mediagate_sandbox.measures import film_seconds, film_size, picture_size, sound_seconds
from mediagate_sandbox.media import FilmRecipe, PictureRecipe, Recipe, SoundRecipe
from mediagate_sandbox.models import AudioFacts, ImageFacts, Model, VideoFacts


def recipes_for(
    model: Model, values: Mapping[str, Any], prompt: str, seed: int
) -> tuple[Recipe, ...]:
    """The files of a run, in output order; `values` is the input with its defaults."""
    match model.facts:
        case ImageFacts() as facts:
            return _pictures(model, facts, values, prompt, seed)
        case VideoFacts() as facts:
            return (_film(model, facts, values, prompt, seed),)
        case AudioFacts() as facts:
            return (_sound(facts, values, prompt, seed),)
        case _:
            return ()


def _pictures(
    model: Model, facts: ImageFacts, values: Mapping[str, Any], prompt: str, seed: int
) -> tuple[Recipe, ...]:
    width, height = picture_size(facts, values)
    count = int(values.get("num_outputs") or 1)
    return tuple(
        PictureRecipe(
            slug=model.slug,
            prompt=prompt,
            seed=seed + index,
            width=width,
            height=height,
            format=values.get("output_format") or "png",
            quality=int(values.get("output_quality", 80)),
        )
        for index in range(count)
    )


def _film(
    model: Model, facts: VideoFacts, values: Mapping[str, Any], prompt: str, seed: int
) -> Recipe:
    width, height = film_size(facts, values)
    return FilmRecipe(
        slug=model.slug,
        prompt=prompt,
        seed=seed,
        width=width,
        height=height,
        seconds=film_seconds(facts, values),
        fps=int(values.get("fps") or facts.fps),
        sound=bool(facts.sound_input and values.get(facts.sound_input)),
    )


def _sound(facts: AudioFacts, values: Mapping[str, Any], prompt: str, seed: int) -> Recipe:
    channels = 2 if _stereo(values) else facts.channels
    return SoundRecipe(
        seed=seed,
        seconds=sound_seconds(facts, values, prompt),
        rate=int(values.get("sample_rate") or facts.rate),
        channels=channels,
        format=values.get("output_format") or facts.format,
        bit_rate=int(values.get("bitrate") or 128_000),
    )


def _stereo(values: Mapping[str, Any]) -> bool:
    variant = str(values.get("model_version") or "")
    return values.get("channel") == "stereo" or variant.startswith("stereo")
