"""Image size rules: pixels, aspect ratios, resolutions and areas as a model's own inputs.

Models take a size in one of five ways: width and height, a ratio from a list, a string of pixels, a
ratio and a number of lines, or a ratio and an area. The aspect ratio that was requested is kept as
far as the model's limits allow.
"""

from collections.abc import Iterable, Mapping
from dataclasses import field
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor, gcd, isqrt, lcm, log
from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from mediagate_server.catalog.parameters.contract_fields import FieldKind
from mediagate_server.catalog.parameters.rule import (
    InputDraft,
    OneInputRule,
    ParameterOutcome,
    ParameterRule,
    adjusted_outcome,
    emulated_outcome,
    fitted_outcome,
)
from mediagate_server.catalog.parameters.scalar import nearest_allowed
from mediagate_server.catalog.request import Size, Value
from mediagate_server.catalog.schemas.input_spec import STRICT, InputSpec

_ASPECT_RATIO_ONLY_REASON = "the model takes a shape, not a size in pixels"
_DEFAULT_MAX_SIDE = 1 << 20
_MAX_CACHED_CHARACTERS = 16


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class AspectRatio(ParameterRule):
    """Aspect ratio from the model's list: the nearest to the requested ratio or size.

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

    def apply(self, value: Value, draft: InputDraft) -> ParameterOutcome:
        """A ratio of the list is HONOURED; a size always ADJUSTED: no pixel count is guaranteed."""
        if isinstance(value, Size):
            word = self._write_ratio(Fraction(value.width, value.height), draft)
            if self.area:
                megapixels = Fraction(value.width * value.height, 10**6)
                area = nearest_allowed(float(megapixels), draft.specs[self.area].enum)
                draft.input[self.area] = area
                return adjusted_outcome(f"{word}, {area} megapixels", _ASPECT_RATIO_ONLY_REASON)
            return adjusted_outcome(word, _ASPECT_RATIO_ONLY_REASON)
        target = _ratio(value)
        word = self._write_ratio(target, draft)
        same = parse_ratio(self.ratios.get(word, word)) == target
        return fitted_outcome(word, "the nearest shape of the model", is_exact=same)

    def _write_ratio(self, target: Fraction, draft: InputDraft) -> str:
        words = [str(word) for word in draft.specs[self.to].enum]
        pairs = [(word, parse_ratio(self.ratios.get(word, word))) for word in words]
        allowed = [(word, ratio) for word, ratio in pairs if ratio is not None]
        chosen = nearest_ratio(target, allowed)
        word = f"{target.numerator}:{target.denominator}" if chosen is None else chosen
        draft.input[self.to] = word
        return word


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class PixelSize(OneInputRule):
    """Width and height in one string, free or from a list: "1024x1024", "1280*720"."""

    takes: ClassVar[frozenset[FieldKind]] = frozenset({FieldKind.RATIO, FieldKind.SIZE})

    rule: Literal["pixels"]
    separator: str = "x"
    area: int = 1024 * 1024

    def apply(self, value: Value, draft: InputDraft) -> ParameterOutcome:
        """Write the size of the list that is nearest in ratio, then in area."""
        target = value if isinstance(value, Size) else _size_of_ratio(value, self.area)
        sizes = [size for word in draft.specs[self.to].enum if (size := self._parse_size(word))]
        chosen = min(sizes, key=lambda size: _distance(size, target), default=target)
        draft.input[self.to] = f"{chosen.width}{self.separator}{chosen.height}"
        if isinstance(value, Size):
            return fitted_outcome(format_size(chosen), "the nearest size", is_exact=chosen == value)
        if Fraction(chosen.width, chosen.height) == parse_ratio(value):
            return emulated_outcome(format_size(chosen), "by a size of that shape")
        return adjusted_outcome(format_size(chosen), "the size of the nearest shape")

    def _parse_size(self, word: object) -> Size | None:
        width, _, height = str(word).partition(self.separator)
        if not (width.isdecimal() and height.isdecimal()):
            return None
        return Size(int(width), int(height))


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class VideoSize(ParameterRule):
    """Video resolution as the model names it: lines ("720p"), and a ratio where it takes one."""

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

    def apply(self, value: Value, draft: InputDraft) -> ParameterOutcome:
        """Always ADJUSTED: no model guarantees the pixels of its "720p"."""
        if not isinstance(value, Size):
            raise TypeError("a size is needed")
        lines = nearest_allowed(min(value.width, value.height), draft.specs[self.resolution].enum)
        ratios = [(str(word), parse_ratio(word)) for word in draft.specs[self.ratio].enum]
        shape = nearest_ratio(
            Fraction(value.width, value.height),
            [(word, ratio) for word, ratio in ratios if ratio is not None],
        )
        draft.input[self.resolution], draft.input[self.ratio] = lines, shape
        return adjusted_outcome(
            f"{lines} {shape}", "the model takes a resolution and a shape, not pixels"
        )


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Dimensions(ParameterRule):
    """Width and height in pixels, each a multiple of `multiple_of`.

    `area` (pixels) is the default where only a ratio was requested.
    """

    takes: ClassVar[frozenset[FieldKind]] = frozenset(
        {FieldKind.SIZE, FieldKind.RATIO, FieldKind.NUMBER}
    )

    rule: Literal["dimensions"]
    width: str
    height: str
    multiple_of: int = 1
    area: int = 1024 * 1024

    @property
    def targets(self) -> tuple[str, ...]:
        """Both inputs."""
        return (self.width, self.height)

    def apply(self, value: Value, draft: InputDraft) -> ParameterOutcome:
        """A size is HONOURED where it fits; a ratio or an area is EMULATED where it is met."""
        if isinstance(value, Size):
            size = self._write_clamped(value, draft)
            reason = "the nearest size that the model takes"
            return fitted_outcome(format_size(size), reason, is_exact=size == value)
        if isinstance(value, str):
            return self._apply_ratio(_ratio(value), draft)
        if isinstance(value, int | float):
            return self._apply_megapixels(float(value), draft)
        raise TypeError("a size, a shape or an area is needed")

    def _apply_ratio(self, ratio: Fraction, draft: InputDraft) -> ParameterOutcome:
        exact = self._exact_size(ratio, draft)
        # Where the exact ratio is only possible far from the area, a near ratio is better.
        size = self._write_clamped(exact or self._approximate_size(ratio), draft)
        if Fraction(size.width, size.height) == ratio:
            return emulated_outcome(format_size(size), "by width and height")
        return adjusted_outcome(format_size(size), "the nearest shape in the model's steps of size")

    def _apply_megapixels(self, megapixels: float, draft: InputDraft) -> ParameterOutcome:
        pixels = max(1, round(megapixels * 10**6))
        side = max(1, isqrt(pixels))
        size = self._write_clamped(Size(side, side), draft)
        if abs(size.width * size.height - pixels) * 20 <= pixels:
            return emulated_outcome(format_size(size), "by width and height")
        return adjusted_outcome(format_size(size), "the nearest area in the model's range")

    def _exact_size(self, ratio: Fraction, draft: InputDraft) -> Size | None:
        """The size of exactly this ratio, in steps and limits, whose area is nearest to `area`.

        None where there is none, or none within a factor of two.
        """
        step = self.multiple_of
        unit = lcm(step // gcd(ratio.numerator, step), step // gcd(ratio.denominator, step))
        width, height = ratio.numerator * unit, ratio.denominator * unit
        sides = ((width, draft.specs[self.width]), (height, draft.specs[self.height]))
        min_factor = max(ceil(_min_side(spec) / side) for side, spec in sides)
        max_factor = min(floor(_max_side(spec) / side) for side, spec in sides)
        times = min(max(round((self.area / (width * height)) ** 0.5), min_factor), max_factor)
        area = width * height * times * times
        if not min_factor <= times <= max_factor or not self.area <= 2 * area <= 4 * self.area:
            return None
        return Size(width * times, height * times)

    def _approximate_size(self, ratio: Fraction) -> Size:
        width = max(1, isqrt(int(self.area * ratio)))
        return Size(width, max(1, round(width / ratio)))

    def _write_clamped(self, size: Size, draft: InputDraft) -> Size:
        """Scale a size into the model's limits, round each side to a step, and write it."""
        width, height = draft.specs[self.width], draft.specs[self.height]
        shrink = min(
            Fraction(1),
            _max_side(width) / Fraction(size.width),
            _max_side(height) / Fraction(size.height),
        )
        grow = max(
            Fraction(1),
            _min_side(width) / (size.width * shrink),
            _min_side(height) / (size.height * shrink),
        )
        sent = Size(
            self._round_to_step(size.width * shrink * grow, width),
            self._round_to_step(size.height * shrink * grow, height),
        )
        draft.input[self.width], draft.input[self.height] = sent.width, sent.height
        return sent

    def _round_to_step(self, length: Fraction, spec: InputSpec) -> int:
        step = self.multiple_of
        min_length = -(-_min_side(spec) // step) * step
        max_length = _max_side(spec) // step * step
        return int(min(max(round(length / step) * step, min_length), max_length))


def parse_ratio(text: object) -> Fraction | None:
    """Parse an aspect ratio such as "16:9"; None for anything else ("custom", "match_input")."""
    word = str(text)
    # Only short texts are cached: each model has a dozen, callers may write any length.
    return _parse_ratio_cached(word) if len(word) <= _MAX_CACHED_CHARACTERS else _parse_ratio(word)


def _parse_ratio(word: str) -> Fraction | None:
    width, colon, height = word.partition(":")
    if not (colon and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        return None
    return Fraction(int(width), int(height))


_parse_ratio_cached = lru_cache(maxsize=1_024)(_parse_ratio)


def _ratio(value: object) -> Fraction:
    ratio = parse_ratio(value)
    if ratio is None:
        raise TypeError("an aspect ratio is two whole numbers with a colon between")
    return ratio


def nearest_ratio(target: Fraction, allowed: Iterable[tuple[str, Fraction]]) -> str | None:
    """The word whose ratio differs by the smallest factor; the first of several."""
    pairs = list(allowed)
    if not pairs:
        return None
    for word, ratio in pairs:
        if ratio == target:
            return word
    return min(pairs, key=lambda pair: abs(log(pair[1] / target)))[0]


def format_size(size: Size) -> str:
    """Format a size for reports."""
    return f"{size.width}x{size.height}"


def _size_of_ratio(value: Value, area: int) -> Size:
    """A size of that ratio and about that area."""
    ratio = _ratio(value)
    scale = max(1, round((area / (ratio.numerator * ratio.denominator)) ** 0.5))
    return Size(ratio.numerator * scale, ratio.denominator * scale)


def _distance(size: Size, target: Size) -> tuple[float, float]:
    shape = abs(log((size.width * target.height) / (size.height * target.width)))
    area = abs(log((size.width * size.height) / (target.width * target.height)))
    return round(shape, 6), area


def _min_side(spec: InputSpec) -> Fraction:
    return Fraction(1 if spec.min is None else max(1, spec.min))


def _max_side(spec: InputSpec) -> Fraction:
    return Fraction(_DEFAULT_MAX_SIDE if spec.max is None else spec.max)
