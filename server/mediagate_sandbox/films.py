"""Makes the sandbox's films: the camera tilts over a landscape, the prompt stays in view.

The landscape is drawn once, taller than the frame. A frame is then one slice of it per plane with
the lettering below, so that encoding, and not drawing, is what a film costs.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from random import Random

import av
from av.video.plane import VideoPlane
from PIL import Image

from mediagate_sandbox.lettering import caption
from mediagate_sandbox.media import FilmRecipe
from mediagate_sandbox.painting import landscape
from mediagate_sandbox.sounds import frames, tune

_SWEEP_SECONDS = 9.0
"""Time of one tilt down and up again."""
_SOUND_RATE = 44_100
_SOUND_FRAME = 1024
_PLAYED, _UNPLAYED = 235, 60
"""Brightness of the progress bar's two parts."""


@dataclass(frozen=True, slots=True)
class _Plane:
    """One colour plane: scenery taller than the frame, and the rows that stay."""

    stride: int
    scenery: memoryview
    caption: bytes
    rows: int
    """Rows of scenery in a frame."""
    travel: int
    """Rows the camera can move."""


def make_film(recipe: FilmRecipe) -> bytes:
    """Film and encode an MP4 (H.264, AAC if there is sound) of the size and length asked for."""
    planes = _planes(recipe)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=recipe.fps)
        video.width, video.height, video.pix_fmt = recipe.width, recipe.height, "yuv420p"
        video.options = {"preset": "ultrafast", "crf": "26"}
        video.codec_context.thread_count = 1
        sound = _Sound(recipe, container) if recipe.sound else None
        for number in range(recipe.frames):
            frame = _frame(recipe, planes, number)
            container.mux(video.encode(frame))
            if sound is not None:
                sound.play_until((number + 1) / recipe.fps)
        container.mux(video.encode(None))
        if sound is not None:
            sound.end()
    return buffer.getvalue()


def _frame(recipe: FilmRecipe, planes: tuple[_Plane, ...], number: int) -> av.VideoFrame:
    frame = av.VideoFrame(recipe.width, recipe.height, "yuv420p")
    frame.pts = number
    frame.time_base = Fraction(1, recipe.fps)
    sweep = (1 - math.cos(math.tau * number / (recipe.fps * _SWEEP_SECONDS))) / 2
    shift = int(sweep * planes[-1].travel)
    played = (number + 1) / recipe.frames
    for index, plane in enumerate(planes):
        start = (shift * 2 if index == 0 else shift) * plane.stride
        scenery = plane.scenery[start : start + plane.rows * plane.stride]
        below = _with_progress(plane, played) if index == 0 else plane.caption
        frame.planes[index].update(b"".join((scenery, below)))
    return frame


def _with_progress(plane: _Plane, played: float) -> bytes:
    """The caption, its first two rows turned into a bar that shows how much was played."""
    bright = int(plane.stride * played)
    row = bytes((_PLAYED,)) * bright + bytes((_UNPLAYED,)) * (plane.stride - bright)
    return row * 2 + plane.caption[2 * plane.stride :]


def _planes(recipe: FilmRecipe) -> tuple[_Plane, ...]:
    """Draw scenery and caption and turn them into planes of bytes."""
    width, height = recipe.width, recipe.height
    shown = max(2, round(height * 0.72) // 2 * 2)
    travel = max(2, round(height * 0.3) // 2 * 2)
    view = landscape(width, shown + travel, Random(recipe.seed))
    note = f"{width} x {height}   {recipe.fps} fps   {recipe.seconds:g} s   seed {recipe.seed}"
    words = caption(width, height - shown, recipe.prompt, recipe.slug, note)
    return tuple(
        _Plane(
            stride=upper.line_size,
            scenery=memoryview(bytes(upper)),
            caption=bytes(lower),
            rows=upper.height * shown // (shown + travel),
            travel=upper.height * travel // (shown + travel),
        )
        for upper, lower in zip(_yuv(view), _yuv(words), strict=True)
    )


def _yuv(image: Image.Image) -> tuple[VideoPlane, ...]:
    frame: av.VideoFrame = av.VideoFrame.from_image(image)  # type: ignore[no-untyped-call]
    return frame.reformat(format="yuv420p").planes


class _Sound:
    """A film's sound track, fed as the picture goes so that both are interleaved."""

    def __init__(self, recipe: FilmRecipe, container: av.container.OutputContainer) -> None:
        self._container = container
        self._stream = container.add_stream("aac", rate=_SOUND_RATE)
        self._stream.layout = "stereo"
        samples = recipe.frames * _SOUND_RATE // recipe.fps
        self._frames: Iterator[av.AudioFrame] = frames(
            tune(recipe.seed, samples, _SOUND_RATE, 2), _SOUND_RATE, 2, _SOUND_FRAME
        )
        self._played = 0.0

    def play_until(self, seconds: float) -> None:
        """Encode sound up to this time of the film."""
        while self._played < seconds and (frame := next(self._frames, None)) is not None:
            self._played += frame.samples / _SOUND_RATE
            self._container.mux(self._stream.encode(frame))

    def end(self) -> None:
        """Encode what is left."""
        self.play_until(math.inf)
        self._container.mux(self._stream.encode(None))
