"""Writes the prompt, the model's name and the measures into pictures and films.

It fits text into boxes with Pillow's built-in font; scripts that font lacks show as boxes.
"""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_INK = (255, 255, 255, 255)
_FAINT = (255, 255, 255, 205)
_PANEL = (12, 14, 26, 150)
_BAND = (18, 20, 32)
_SMALLEST, _LARGEST = 9, 64
_LEADING = 1.28


def sign(image: Image.Image, prompt: str, slug: str, note: str) -> None:
    """Write onto a picture: who made it at the top, the prompt on a panel, the note below."""
    width, height = image.size
    draw = ImageDraw.Draw(image, "RGBA")
    margin = max(2, min(width, height) // 24)
    small = _font(max(_SMALLEST, min(width // 34, height // 22)))
    _corners(draw, image.size, margin, small, (f"sandbox  {slug}", note))
    inset = max(2, width // 30)
    font, lines = _fit(prompt, width - 2 * (margin + inset), round(height * 0.4) - 2 * margin)
    if not lines:
        return
    bottom = height - 2 * margin - _line_height(small)
    top = bottom - _line_height(font) * len(lines) - 2 * inset
    draw.rounded_rectangle((margin, top, width - margin, bottom), radius=inset, fill=_PANEL)
    _lines(draw, lines, font, (margin + inset, top + inset))


def caption(width: int, height: int, prompt: str, slug: str, note: str) -> Image.Image:
    """A band of its own with the same words, to stand below a moving picture."""
    image = Image.new("RGB", (width, height), _BAND)
    draw = ImageDraw.Draw(image, "RGBA")
    margin = max(2, min(width // 40, height // 9))
    small = _font(max(_SMALLEST, min(width // 44, height // 10)))
    _corners(draw, image.size, margin, small, (f"sandbox  {slug}", note))
    top = margin + _line_height(small) * 1.4
    font, lines = _fit(prompt, width - 2 * margin, height - 1.8 * top)
    _lines(draw, lines, font, (margin, top))
    return image


def _corners(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    margin: int,
    font: Font,
    texts: tuple[str, str],
) -> None:
    """One text at the top left, one at the bottom right; either is left out if it is too wide."""
    spots = ((margin, margin, "la"), (size[0] - margin, size[1] - margin, "rd"))
    for text, (across, down, anchor) in zip(texts, spots, strict=True):
        if font.getlength(text) <= size[0] - 2 * margin:
            draw.text((across, down), text, font=font, fill=_FAINT, anchor=anchor)


def _lines(
    draw: ImageDraw.ImageDraw, lines: list[str], font: Font, corner: tuple[float, float]
) -> None:
    for row, line in enumerate(lines):
        spot = (corner[0], corner[1] + row * _line_height(font))
        draw.text(spot, line, font=font, fill=_INK)


def _fit(text: str, width: float, height: float) -> tuple[Font, list[str]]:
    """The largest lettering in which the text fits; at the smallest, as much as there is room."""
    largest = int(max(_SMALLEST, min(_LARGEST, height / 2)))
    for size in range(largest, _SMALLEST, -3):
        font = _font(size)
        lines = list(_wrap(text, font, width))
        if len(lines) * _line_height(font) <= height:
            return font, lines
    font = _font(_SMALLEST)
    rows = max(0, int(height // _line_height(font)))
    lines = list(_wrap(text, font, width))
    if len(lines) > rows:
        lines = [*lines[: rows - 1], "..."] if rows else []
    return font, lines


def _wrap(text: str, font: Font, width: float) -> Iterator[str]:
    line = ""
    for word in text.split():
        for piece in _pieces(word, font, width):
            longer = f"{line} {piece}" if line else piece
            if font.getlength(longer) <= width:
                line = longer
            else:
                if line:
                    yield line
                line = piece
    if line:
        yield line


def _pieces(word: str, font: Font, width: float) -> list[str]:
    """The word, or its parts where no line could hold it whole."""
    length = font.getlength(word)
    if length <= width:
        return [word]
    step = max(1, int(len(word) * width / length))
    return [word[start : start + step] for start in range(0, len(word), step)]


def _font(size: int) -> Font:
    return ImageFont.load_default(size)


def _line_height(font: Font) -> float:
    return font.getbbox("Hg|")[3] * _LEADING
