"""Recipes: specifications of generated media files, which fully determine their bytes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from mediagate_sandbox.generators import limits

_TINY_SIDE = 64
_TINY_SECONDS = 0.5

ImageFileFormat = Literal["png", "jpg", "webp"]
AudioFileFormat = Literal["wav", "mp3"]

CONTENT_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
}


@dataclass(frozen=True, slots=True)
class ImageRecipe:
    """Image of exactly this size in pixels; quality (0 to 100) is for lossy formats."""

    slug: str
    prompt: str
    seed: int
    width: int
    height: int
    format: ImageFileFormat
    quality: int = 80


@dataclass(frozen=True, slots=True)
class AudioRecipe:
    """Sound of so many seconds; rate in hertz, bit rate (of mp3) in bits per second."""

    seed: int
    seconds: float
    rate: int
    channels: int
    format: AudioFileFormat
    bit_rate: int = 128_000


@dataclass(frozen=True, slots=True)
class VideoRecipe:
    """Video of so many seconds at `fps` frames per second, with or without sound."""

    slug: str
    prompt: str
    seed: int
    width: int
    height: int
    seconds: float
    fps: int
    sound: bool = False

    @property
    def frames(self) -> int:
        """Number of frames, at least one."""
        return max(1, round(self.seconds * self.fps))


Recipe = ImageRecipe | AudioRecipe | VideoRecipe


def file_format(recipe: Recipe) -> str:
    """The file name's ending, which also decides the content type."""
    return "mp4" if isinstance(recipe, VideoRecipe) else recipe.format


def find_limit_error(recipe: Recipe) -> str | None:
    """Return the error message of a recipe over the limits; None if it is within them."""
    if isinstance(recipe, AudioRecipe | VideoRecipe) and recipe.seconds <= 0:
        return "duration must be more than 0 seconds"
    if isinstance(recipe, AudioRecipe):
        if recipe.seconds > limits.MAX_AUDIO_SECONDS:
            return f"this sandbox makes at most {limits.MAX_AUDIO_SECONDS} s of sound"
        return None
    if min(recipe.width, recipe.height) < limits.MIN_SIDE:
        return f"width and height must be at least {limits.MIN_SIDE} pixels"
    if max(recipe.width, recipe.height) > limits.MAX_SIDE:
        return f"this sandbox draws at most {limits.MAX_SIDE} pixels a side"
    if isinstance(recipe, VideoRecipe) and recipe.seconds > limits.MAX_VIDEO_SECONDS:
        return f"this sandbox makes at most {limits.MAX_VIDEO_SECONDS} s of film"
    return None


def shrink_to_tiny(recipe: Recipe) -> Recipe:
    """Return a tiny version, for load tests: at most 64 pixels a side and half a second."""
    if isinstance(recipe, AudioRecipe):
        return replace(recipe, seconds=min(recipe.seconds, _TINY_SECONDS))
    scale = min(1.0, _TINY_SIDE / max(recipe.width, recipe.height))
    width, height = (
        max(limits.MIN_SIDE, round(side * scale / 2) * 2) for side in (recipe.width, recipe.height)
    )
    if isinstance(recipe, ImageRecipe):
        return replace(recipe, width=width, height=height)
    seconds = min(recipe.seconds, _TINY_SECONDS)
    return replace(recipe, width=width, height=height, seconds=seconds)
