"""Specification of a finished media file: a recipe is a small fact that fully decides the bytes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from mediagate_sandbox import limits

_TINY_SIDE = 64
_TINY_SECONDS = 0.5

PictureFormat = Literal["png", "jpg", "webp"]
SoundFormat = Literal["wav", "mp3"]

CONTENT_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
}


@dataclass(frozen=True, slots=True)
class PictureRecipe:
    """A picture of exactly this size in pixels; quality (0 to 100) is for lossy formats."""

    slug: str
    prompt: str
    seed: int
    width: int
    height: int
    format: PictureFormat
    quality: int = 80


@dataclass(frozen=True, slots=True)
class SoundRecipe:
    """A sound of this many seconds; rate in hertz, bit rate (of mp3) in bits per second."""

    seed: int
    seconds: float
    rate: int
    channels: int
    format: SoundFormat
    bit_rate: int = 128_000


@dataclass(frozen=True, slots=True)
class FilmRecipe:
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


Recipe = PictureRecipe | SoundRecipe | FilmRecipe


def file_format(recipe: Recipe) -> str:
    """The file name's ending, which also decides the content type."""
    return "mp4" if isinstance(recipe, FilmRecipe) else recipe.format


def too_much(recipe: Recipe) -> str | None:
    """Why the sandbox will not make this, in words a caller can act on; None if it will."""
    if isinstance(recipe, SoundRecipe | FilmRecipe) and recipe.seconds <= 0:
        return "duration must be more than 0 seconds"
    if isinstance(recipe, SoundRecipe):
        if recipe.seconds > limits.LONGEST_SOUND_SECONDS:
            return f"this sandbox makes at most {limits.LONGEST_SOUND_SECONDS} s of sound"
        return None
    if min(recipe.width, recipe.height) < limits.SMALLEST_SIDE:
        return f"width and height must be at least {limits.SMALLEST_SIDE} pixels"
    if max(recipe.width, recipe.height) > limits.LARGEST_SIDE:
        return f"this sandbox draws at most {limits.LARGEST_SIDE} pixels a side"
    if isinstance(recipe, FilmRecipe) and recipe.seconds > limits.LONGEST_FILM_SECONDS:
        return f"this sandbox makes at most {limits.LONGEST_FILM_SECONDS} s of film"
    return None


def shrunk(recipe: Recipe) -> Recipe:
    """The same in tiny, for those who fetch many: at most 64 pixels a side and half a second."""
    if isinstance(recipe, SoundRecipe):
        return replace(recipe, seconds=min(recipe.seconds, _TINY_SECONDS))
    scale = min(1.0, _TINY_SIDE / max(recipe.width, recipe.height))
    width, height = (
        max(limits.SMALLEST_SIDE, round(side * scale / 2) * 2)
        for side in (recipe.width, recipe.height)
    )
    if isinstance(recipe, PictureRecipe):
        return replace(recipe, width=width, height=height)
    seconds = min(recipe.seconds, _TINY_SECONDS)
    return replace(recipe, width=width, height=height, seconds=seconds)
