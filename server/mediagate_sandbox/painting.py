"""Paints the landscape that pictures and films of the sandbox show.

It draws with Pillow and knows nothing of prompts, files or formats.
"""

from __future__ import annotations

import colorsys
import math
from random import Random

from PIL import Image, ImageChops, ImageDraw

Colour = tuple[int, int, int]

_HILLS = 5
_HALO_EDGE = 76
"""A radial gradient still has this level in the middle of its sides; below it is no halo."""


def landscape(width: int, height: int, random: Random) -> Image.Image:
    """A sky, a sun and hills in one family of colours."""
    hue = random.random()
    sky = (_colour(hue, 0.62, 0.42), _colour(hue + 0.06, 0.5, 0.78), _colour(hue + 0.14, 0.36, 1))
    strip = Image.new("RGB", (1, len(sky)))
    for row, colour in enumerate(sky):
        strip.putpixel((0, row), colour)
    image = strip.resize((width, height), Image.Resampling.BICUBIC)
    _sun(image, random, _colour(hue + 0.16, 0.22, 1.0))
    for layer in range(_HILLS):
        depth = (layer + 1) / _HILLS
        colour = _colour(hue + 0.02 * layer, 0.34 + 0.3 * depth, 0.74 - 0.56 * depth)
        _hill(image, random, depth, colour)
    return image


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, min(saturation, 1.0), max(0.0, value))
    return round(red * 255), round(green * 255), round(blue * 255)


def _sun(image: Image.Image, random: Random, colour: Colour) -> None:
    """A sun with a halo, in the upper part of the sky."""
    across = max(4, int(min(image.size) * 1.3))
    x = int(image.width * random.uniform(0.25, 0.75))
    y = int(image.height * random.uniform(0.26, 0.42))
    halo = ImageChops.invert(Image.radial_gradient("L")).point(
        lambda level: max(0, level - _HALO_EDGE) ** 2 // 160
    )
    image.paste(colour, (x - across // 2, y - across // 2), halo.resize((across, across)))
    radius = across // 14
    box = (x - radius, y - radius, x + radius, y + radius)
    ImageDraw.Draw(image, "RGBA").ellipse(box, fill=(*colour, 235))


def _hill(image: Image.Image, random: Random, depth: float, colour: Colour) -> None:
    """One ridge across the picture, from its line down to the bottom."""
    width, height = image.size
    line = height * (0.48 + 0.44 * depth)
    waves = [
        (
            height * random.uniform(0.01, 0.06) / number,
            number * random.uniform(0.7, 1.6),
            random.uniform(0, math.tau),
        )
        for number in (1, 2, 5)
    ]
    step = max(1, width // 160)
    points = [
        (
            float(x),
            line
            + sum(size * math.sin(math.tau * turns * x / width + at) for size, turns, at in waves),
        )
        for x in range(0, width + step, step)
    ]
    ImageDraw.Draw(image).polygon([*points, (width, height), (0, height)], fill=colour)
