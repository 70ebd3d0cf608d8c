"""Specification of a finished media file: a recipe is a small fact that fully decides the bytes."""

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
    """A picture of exactly this size in pixels; quality (0 to 100) is for lossy formats."""

    slug: str
    prompt: str
    seed: int
    width: int
    height: int
    format: ImageFileFormat
    quality: int = 80


@dataclass(frozen=True, slots=True)
class AudioRecipe:
    """A sound of this many seconds; rate in hertz, bit rate (of mp3) in bits per second."""

    seed: int
    seconds: float
    rate: int
    channels: int
    format: AudioFileFormat
    bit_rate: int = 128_000


@dataclass(frozen=True, slots=True)
class VideoRecipe:
    """A film of this many seconds, `fps` frames each; with a sound track if asked."""

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
        """How many frames the film has: at least one."""
        return max(1, round(self.seconds * self.fps))


Recipe = ImageRecipe | AudioRecipe | VideoRecipe


def file_format(recipe: Recipe) -> str:
    """The file name's ending, which also decides the content type."""
    return "mp4" if isinstance(recipe, VideoRecipe) else recipe.format


def exceeds_limits(recipe: Recipe) -> str | None:
    """Why the sandbox will not make this, in words a caller can act on; None if it will."""
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
    """The same in tiny, for those who fetch many: at most 64 pixels a side and half a second."""
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
