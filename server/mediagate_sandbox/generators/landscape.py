"""Drawing of the landscape that the sandbox's pictures and films show, with Pillow."""

from __future__ import annotations

import colorsys
import math
import textwrap
from random import Random

from PIL import Image, ImageDraw, ImageFont

_HILLS = 5
_SMALLEST_FONT = 9
_MOST_LINES = 6
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)


def draw_landscape(width: int, height: int, seed: int) -> Image.Image:
    """Draw a sky, a sun and hills in one family of colours."""
    random = Random(seed)
    hue = random.random()
    sky = Image.new("RGB", (1, 2), _colour(hue, 0.6, 0.4))
    sky.putpixel((0, 1), _colour(hue + 0.14, 0.4, 1.0))
    image = sky.resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    sun = (width * random.uniform(0.25, 0.75), height * random.uniform(0.2, 0.4))
    draw.circle(sun, min(width, height) / 10, fill=_colour(hue + 0.16, 0.2, 1.0))
    for number in range(1, _HILLS + 1):
        near = number / _HILLS
        top, swell = height * (0.4 + 0.5 * near), height * random.uniform(0.02, 0.06)
        turns, start = math.tau * random.uniform(0.7, 2.5), math.tau * random.random()
        ridge = [
            (float(x), top + swell * math.sin(start + turns * x / width)) for x in range(width + 1)
        ]
        colour = _colour(hue + 0.1 * near, 0.3 + 0.3 * near, 0.8 - 0.6 * near)
        draw.polygon([*ridge, (width, height), (0, height)], fill=colour)
    return image


def write(image: Image.Image, bottom: int, note: str, prompt: str) -> None:
    """Write a note and the beginning of a prompt, the last line ending above row `bottom`.

    The font is Pillow's own; scripts that it lacks show as boxes.
    """
    size = max(_SMALLEST_FONT, min(image.width, bottom) // 24)
    columns = max(1, 2 * image.width // size - 4)
    most = columns * _MOST_LINES
    lines = textwrap.wrap(prompt[:most], columns, max_lines=_MOST_LINES, placeholder="")
    ImageDraw.Draw(image).multiline_text(
        (size, bottom - size),
        "\n".join((note, *lines)),
        fill=_WHITE,
        font=ImageFont.load_default(size),
        anchor="ld",
        stroke_width=1,
        stroke_fill=_BLACK,
    )


def _colour(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)
