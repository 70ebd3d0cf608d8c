"""The rule for models that take width and height: every size, shape and area becomes pixels.

The arithmetic keeps the shape that was asked for as long as the model's limits let it.
"""

from fractions import Fraction
from math import ceil, floor, gcd, isqrt, lcm
from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from mediagate_server.catalog.fields import FieldKind
from mediagate_server.catalog.inputs import STRICT, InputSpec
from mediagate_server.catalog.request import Size, Value
from mediagate_server.catalog.rules.rule import Draft, Outcome, Rule, adjusted, emulated, honoured
from mediagate_server.catalog.rules.shapes import pixels, ratio_of

_NO_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Dimensions(Rule):
    """Width and height in pixels, each a multiple of `multiple_of`.

    `area` (pixels) is how large a picture is made where only a shape was asked for.
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

    def apply(self, value: Value, draft: Draft) -> Outcome:
        """A size is HONOURED where it is sent; a shape or an area is EMULATED where it is met."""
        if isinstance(value, Size):
            size = self._within(value, draft)
            if size == value:
                return honoured(pixels(size))
            return adjusted(pixels(size), "the nearest size that the model takes")
        if isinstance(value, str):
            return self._shape(ratio_of(value), draft)
        if isinstance(value, int | float):
            return self._megapixels(float(value), draft)
        raise TypeError("a size, a shape or an area is needed")

    def _shape(self, ratio: Fraction | None, draft: Draft) -> Outcome:
        if ratio is None:
            raise TypeError("an aspect ratio is two whole numbers with a colon between")
        exact = self._exact(ratio, draft)
        # Far from the area there is no size of exactly that shape: a near one is better then.
        size = self._within(exact or self._about(ratio), draft)
        if Fraction(size.width, size.height) == ratio:
            return emulated(pixels(size), "by width and height")
        return adjusted(pixels(size), "the nearest shape in the model's steps of size")

    def _megapixels(self, megapixels: float, draft: Draft) -> Outcome:
        wanted = max(1, round(megapixels * 10**6))
        side = max(1, isqrt(wanted))
        size = self._within(Size(side, side), draft)
        if abs(size.width * size.height - wanted) * 20 <= wanted:
            return emulated(pixels(size), "by width and height")
        return adjusted(pixels(size), "the nearest area in the model's range")

    def _exact(self, ratio: Fraction, draft: Draft) -> Size | None:
        """The size of exactly this shape, in steps and limits, whose area is nearest to ours.

        None where there is none, or none within a factor of two.
        """
        step = self.multiple_of
        unit = lcm(step // gcd(ratio.numerator, step), step // gcd(ratio.denominator, step))
        width, height = ratio.numerator * unit, ratio.denominator * unit
        sides = ((width, draft.specs[self.width]), (height, draft.specs[self.height]))
        least = max(ceil(_least(spec) / side) for side, spec in sides)
        most = min(floor(_most(spec) / side) for side, spec in sides)
        times = min(max(round((self.area / (width * height)) ** 0.5), least), most)
        area = width * height * times * times
        if not least <= times <= most or not self.area <= 2 * area <= 4 * self.area:
            return None
        return Size(width * times, height * times)

    def _about(self, ratio: Fraction) -> Size:
        width = max(1, isqrt(int(self.area * ratio)))
        return Size(width, max(1, round(width / ratio)))

    def _within(self, size: Size, draft: Draft) -> Size:
        """Scale as a whole into the model's limits, then round each side to a step."""
        width, height = draft.specs[self.width], draft.specs[self.height]
        shrink = min(
            Fraction(1), _most(width) / Fraction(size.width), _most(height) / Fraction(size.height)
        )
        grow = max(
            Fraction(1),
            _least(width) / (size.width * shrink),
            _least(height) / (size.height * shrink),
        )
        sent = Size(
            self._step(size.width * shrink * grow, width),
            self._step(size.height * shrink * grow, height),
        )
        draft.input[self.width], draft.input[self.height] = sent.width, sent.height
        return sent

    def _step(self, length: Fraction, spec: InputSpec) -> int:
        step = self.multiple_of
        least = -(-_least(spec) // step) * step
        most = _most(spec) // step * step
        return int(min(max(round(length / step) * step, least), most))


def _least(spec: InputSpec) -> Fraction:
    return Fraction(1 if spec.min is None else max(1, spec.min))


def _most(spec: InputSpec) -> Fraction:
    return Fraction(_NO_LIMIT if spec.max is None else spec.max)
