"""Generator of the sandbox's sounds: a seeded tone, as WAV or MP3."""

from __future__ import annotations

import io
import math
from array import array
from collections.abc import Iterator
from fractions import Fraction
from random import Random

import av

from mediagate_sandbox.generators.spec import AudioRecipe

_LOUDNESS = 9_000
_LOWEST_HERTZ, _HIGHEST_HERTZ = 220, 880
_LAYOUTS = {1: "mono", 2: "stereo"}


def render_audio(recipe: AudioRecipe) -> bytes:
    """Encode a tone of exactly the length asked for (MP3 pads its last frame)."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=recipe.format) as container:
        stream: av.AudioStream
        if recipe.format == "wav":
            stream = container.add_stream("pcm_s16le", rate=recipe.rate)
        else:
            stream = container.add_stream("libmp3lame", rate=recipe.rate)
            stream.bit_rate = recipe.bit_rate
        stream.layout = _LAYOUTS[recipe.channels]
        samples = round(recipe.seconds * recipe.rate)
        for frame in tone(recipe.seed, samples, recipe.rate, recipe.channels):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def tone(seed: int, samples: int, rate: int, channels: int) -> Iterator[av.AudioFrame]:
    """Yield a tone of so many samples in frames of a second each, the last one shorter."""
    turn = math.tau * Random(seed).randint(_LOWEST_HERTZ, _HIGHEST_HERTZ) / rate
    wave = (int(_LOUDNESS * math.sin(turn * at)) for at in range(rate))
    # A whole number of waves fits into a second, so that the same second follows without a click.
    second = array("h", (sample for sample in wave for _ in range(channels))).tobytes()
    for start in range(0, samples, rate):
        length = min(rate, samples - start)
        frame = av.AudioFrame("s16", _LAYOUTS[channels], length)
        frame.sample_rate = rate
        frame.time_base = Fraction(1, rate)
        frame.pts = start
        frame.planes[0].update(second[: length * channels * 2])
        yield frame
