"""Rules for the size and shape of pictures: pixels, aspect ratios and resolutions.

Models name them in five ways: width and height, a ratio from a list, a string of pixels, a ratio
and a number of lines, or a ratio and an area.
"""

from collections.abc import Iterable, Mapping
from dataclasses import field
from fractions import Fraction
from functools import lru_cache
from math import log
from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from mediagate_server.catalog.fields import FieldKind
from mediagate_server.catalog.inputs import STRICT, InputSpec
from mediagate_server.catalog.request import Size, Value
from mediagate_server.catalog.rules.rule import Draft, Outcome, Rule, adjusted, emulated, honoured
from mediagate_server.catalog.rules.words import nearest

ONLY_SHAPE = "the model takes a shape, not a size in pixels"


def ratio_of(text: object) -> Fraction | None:
    """A ratio such as "16:9" as a number; None for anything else ("custom", "match_input")."""
    word = str(text)
    # Each model has a dozen; what callers write may be of any length, and is not to be kept.
    return _known_ratio(word) if len(word) <= _SHORT else _ratio(word)


def _ratio(word: str) -> Fraction | None:
    width, colon, height = word.partition(":")
    if not (colon and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        return None
    return Fraction(int(width), int(height))


_SHORT = 16
_known_ratio = lru_cache(maxsize=1_024)(_ratio)


def nearest_ratio(wanted: Fraction, allowed: Iterable[tuple[str, Fraction]]) -> str | None:
    """The word whose ratio differs by the smallest factor; the first of several."""
    pairs = list(allowed)
    if not pairs:
        return None
    for word, ratio in pairs:
        if ratio == wanted:
            return word
    return min(pairs, key=lambda pair: abs(log(pair[1] / wanted)))[0]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Ratio(Rule):
    """One of the model's aspect ratios: the nearest to the ratio or size that was asked for.

    `ratios` gives words of the model a ratio ("portrait" = "9:16"). `area` names an input that
    takes megapixels, to come nearer to a size.
    """

    takes: ClassVar[frozenset[FieldKind]] = frozenset({FieldKind.RATIO, FieldKind.SIZE})

    rule: Literal["ratio"]
    to: str
    area: str = ""
    ratios: Mapping[str, str] = field(default_factory=dict)

    @property
    def targets(self) -> tuple[str, ...]:
        """The ratio, and the area where there is one."""
        return (self.to, self.area) if self.area else (self.to,)

    def problem(self, specs: Mapping[str, InputSpec]) -> str:
        """An area is chosen from a list."""
        listed = not self.area or specs[self.area].enum
        return "" if listed else f"the input {self.area!r} needs an enum"

    def apply(self, value: Value, draft: Draft) -> Outcome:
        """A ratio of the list is HONOURED; a size is always ADJUSTED, for no pixel is sure."""
        if isinstance(value, Size):
            word = self._send(Fraction(value.width, value.height), draft)
            if self.area:
                megapixels = Fraction(value.width * value.height, 10**6)
                area = nearest(float(megapixels), draft.specs[self.area].enum)
                draft.input[self.area] = area
                return adjusted(f"{word}, {area} megapixels", ONLY_SHAPE)
            return adjusted(word, ONLY_SHAPE)
        wanted = ratio_of(value)
        if wanted is None:
            raise TypeError("an aspect ratio is two whole numbers with a colon between")
        word = self._send(wanted, draft)
        same = ratio_of(self.ratios.get(word, word)) == wanted
        return honoured(word) if same else adjusted(word, "the nearest shape of the model")

    def _send(self, wanted: Fraction, draft: Draft) -> str:
        words = [str(word) for word in draft.specs[self.to].enum]
        pairs = [(word, ratio_of(self.ratios.get(word, word))) for word in words]
        allowed = [(word, ratio) for word, ratio in pairs if ratio is not None]
        chosen = nearest_ratio(wanted, allowed)
        word = f"{wanted.numerator}:{wanted.denominator}" if chosen is None else chosen
        draft.input[self.to] = word
        return word


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Pixels(Rule):
    """Width and height in one string, free or from a list: "1024x1024", "1280*720"."""

    takes: ClassVar[frozenset[FieldKind]] = frozenset({FieldKind.RATIO, FieldKind.SIZE})

    rule: Literal["pixels"]
    to: str
    separator: str = "x"
    area: int = 1024 * 1024

    @property
    def targets(self) -> tuple[str, ...]:
        """The one input."""
        return (self.to,)

    def apply(self, value: Value, draft: Draft) -> Outcome:
        """The size of the list that is nearest in shape, then in area."""
        wanted = value if isinstance(value, Size) else _of_ratio(value, self.area)
        sizes = [size for word in draft.specs[self.to].enum if (size := self._size(word))]
        chosen = min(sizes, key=lambda size: _distance(size, wanted), default=wanted)
        draft.input[self.to] = f"{chosen.width}{self.separator}{chosen.height}"
        if isinstance(value, Size):
            same = chosen == value
            return (
                honoured(pixels(chosen)) if same else adjusted(pixels(chosen), "the nearest size")
            )
        if Fraction(chosen.width, chosen.height) == ratio_of(value):
            return emulated(pixels(chosen), "by a size of that shape")
        return adjusted(pixels(chosen), "the size of the nearest shape")

    def _size(self, word: object) -> Size | None:
        width, _, height = str(word).partition(self.separator)
        if not (width.isdecimal() and height.isdecimal()):
            return None
        return Size(int(width), int(height))


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Frame(Rule):
    """A video's size as the model names it: lines ("720p"), and a ratio where it takes one."""

    takes: ClassVar[frozenset[FieldKind]] = frozenset({FieldKind.SIZE})

    rule: Literal["frame"]
    resolution: str
    ratio: str

    @property
    def targets(self) -> tuple[str, ...]:
        """Both inputs."""
        return (self.resolution, self.ratio)

    def problem(self, specs: Mapping[str, InputSpec]) -> str:
        """Both are chosen from a list."""
        return "" if all(specs[name].enum for name in self.targets) else "its inputs need enums"

    def apply(self, value: Value, draft: Draft) -> Outcome:
        """Always ADJUSTED: no model promises the pixels behind its "720p"."""
        if not isinstance(value, Size):
            raise TypeError("a size is needed")
        lines = nearest(min(value.width, value.height), draft.specs[self.resolution].enum)
        ratios = [(str(word), ratio_of(word)) for word in draft.specs[self.ratio].enum]
        shape = nearest_ratio(
            Fraction(value.width, value.height),
            [(word, ratio) for word, ratio in ratios if ratio is not None],
        )
        draft.input[self.resolution], draft.input[self.ratio] = lines, shape
        return adjusted(f"{lines} {shape}", "the model takes a resolution and a shape, not pixels")


def pixels(size: Size) -> str:
    """A size as it is printed in reports."""
    return f"{size.width}x{size.height}"


def _of_ratio(value: Value, area: int) -> Size:
    """A size of that shape and about that area."""
    ratio = ratio_of(value)
    if ratio is None:
        raise TypeError("an aspect ratio is two whole numbers with a colon between")
    scale = max(1, round((area / (ratio.numerator * ratio.denominator)) ** 0.5))
    return Size(ratio.numerator * scale, ratio.denominator * scale)


def _distance(size: Size, wanted: Size) -> tuple[float, float]:
    shape = abs(log((size.width * wanted.height) / (size.height * wanted.width)))
    area = abs(log((size.width * size.height) / (wanted.width * wanted.height)))
    return round(shape, 6), area
