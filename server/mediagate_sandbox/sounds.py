"""Makes the sandbox's sounds: a seeded tune of plucked notes, as WAV or MP3.

Each note of the tune is computed once and then only copied, so that minutes of sound cost little.
"""

from __future__ import annotations

import io
import math
import sys
import wave
from array import array
from collections.abc import Iterator
from random import Random

import av

from mediagate_sandbox.media import SoundRecipe

_NOTE_SECONDS = 0.4
_SCALE = (0, 2, 4, 7, 9, 12)
"""Semitones of the pentatonic scale: any two of them sound well together."""
_CHORDS = ((0, 0, 2, 4), (9, 1, 3, 4), (5, 0, 2, 5), (7, 1, 3, 5))
"""Root in semitones, then the scale steps its melody may use."""
_LOWEST_HERTZ = 220.0
_LOUDNESS = 9_000
_FRAME_SAMPLES = 1152
_FASTEST = "9"
"""Of libmp3lame's levels; the tune is too plain to gain from a slower one."""
_LAYOUTS = {1: "mono", 2: "stereo"}


def make_sound(recipe: SoundRecipe) -> bytes:
    """Play and encode a tune of exactly the length asked for (MP3 pads its last frame)."""
    samples = round(recipe.seconds * recipe.rate)
    pieces = tune(recipe.seed, samples, recipe.rate, recipe.channels)
    return _wav(recipe, pieces) if recipe.format == "wav" else _mp3(recipe, pieces)


def tune(seed: int, samples: int, rate: int, channels: int) -> Iterator[bytes]:
    """The tune as 16-bit samples of this machine's byte order, a note at a time."""
    random = Random(seed)
    key = random.randrange(12)
    notes: dict[tuple[int, int], bytes] = {}
    left, beat = samples, 0
    while left > 0:
        root, *steps = _CHORDS[beat // 8 % len(_CHORDS)]
        name = (root, random.choice(steps))
        if name not in notes:
            notes[name] = _note(key + root, key + 12 + _SCALE[name[1]], rate, channels)
        length = min(left, len(notes[name]) // (2 * channels))
        yield notes[name][: length * 2 * channels]
        left -= length
        beat += 1


def _note(root: int, melody: int, rate: int, channels: int) -> bytes:
    """A plucked note over a soft root; it starts and ends at silence, so notes join cleanly."""
    count = max(1, int(_NOTE_SECONDS * rate))
    low = math.tau * _hertz(root) / 2 / rate
    high = math.tau * _hertz(melody) / rate
    sin, attack = math.sin, max(1, rate // 100)
    samples = array("h")
    for at in range(count):
        swell = min(1.0, at / attack) * (1 - at / count)
        value = sin(high * at) + 0.3 * sin(2 * high * at) * swell + 0.6 * sin(low * at)
        sample = int(_LOUDNESS * swell * value)
        samples.append(sample)
        if channels == 2:
            samples.append(sample)
    return samples.tobytes()


def _hertz(semitones: int) -> float:
    return float(_LOWEST_HERTZ * 2 ** (semitones / 12))


def _wav(recipe: SoundRecipe, pieces: Iterator[bytes]) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(recipe.channels)
        file.setsampwidth(2)
        file.setframerate(recipe.rate)
        for piece in pieces:
            file.writeframesraw(_little_endian(piece))
    return buffer.getvalue()


def _mp3(recipe: SoundRecipe, pieces: Iterator[bytes]) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=recipe.rate)
        stream.layout = _LAYOUTS[recipe.channels]
        stream.bit_rate = recipe.bit_rate
        stream.options = {"compression_level": _FASTEST}
        for frame in frames(pieces, recipe.rate, recipe.channels, _FRAME_SAMPLES):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def frames(pieces: Iterator[bytes], rate: int, channels: int, size: int) -> Iterator[av.AudioFrame]:
    """The samples as planar frames of `size` samples each, the last one shorter."""
    resampler = av.AudioResampler("fltp", _LAYOUTS[channels], rate)
    width = 2 * channels
    waiting, at = b"", 0
    for piece in pieces:
        waiting += piece
        while len(waiting) >= size * width:
            yield from _planar(resampler, waiting[: size * width], rate, channels, at)
            waiting, at = waiting[size * width :], at + size
    if waiting:
        yield from _planar(resampler, waiting, rate, channels, at)


def _planar(
    resampler: av.AudioResampler, samples: bytes, rate: int, channels: int, at: int
) -> list[av.AudioFrame]:
    frame = av.AudioFrame("s16", _LAYOUTS[channels], len(samples) // (2 * channels))
    frame.sample_rate = rate
    frame.pts = at
    frame.planes[0].update(samples)
    return resampler.resample(frame)


def _little_endian(samples: bytes) -> bytes:
    if sys.byteorder == "little":
        return samples
    swapped = array("h", samples)
    swapped.byteswap()
    return swapped.tobytes()
