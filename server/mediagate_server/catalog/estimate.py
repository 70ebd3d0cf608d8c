"""What a run will cost, foreseen from the input that will be sent.

Each billed metric is foreseen by a rule of the model's own data; the price arithmetic is the one
that settles. What cannot be foreseen makes the estimate unknown, never zero.
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from math import ceil
from typing import Annotated, Any, Literal

from msgspec import Struct
from pydantic import Field
from pydantic.dataclasses import dataclass

from mediagate_server.catalog.inputs import STRICT, InputSpec, InputType
from mediagate_server.catalog.prices import Estimate, Metrics, PriceSchedule, Scalar, cost
from mediagate_server.catalog.rules.words import place
from mediagate_server.replacing import replace

WRAPPING_TOKENS = 256
"""Allowed for what a wrapper puts around a prompt (role marks, a default system prompt)."""
TURN_TOKENS = 16
"""Allowed for the marks around each turn of a conversation."""


class Foresight(Struct, frozen=True):
    """A metric before the run: the least, the usual and the most that it can be."""

    low: Scalar
    expected: Scalar
    high: Scalar


class Run(Struct, frozen=True):
    """The run that is foreseen: its input, the model's inputs, and the longest it may take."""

    input: Mapping[str, Any]
    specs: Mapping[str, InputSpec]
    max_run: int

    def value(self, name: str) -> Any:
        """What the model will take: what is sent, else its own default, else None."""
        return self.input.get(name, self.specs[name].default)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ByInput:
    """The metric is what an input says: a length, a resolution, a switch."""

    by: Literal["input"]
    input: str
    per: int = 1

    def foresee(self, run: Run) -> Foresight | None:
        """Exact; a number is divided by `per` (1000: milliseconds billed as seconds)."""
        value = run.value(self.input)
        if value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = Decimal(str(value)) / self.per
        return Foresight(value, value, value)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ByNature:
    """The metric is always the same, or nearly: a model whose clips are all 6 s long."""

    by: Literal["nature"]
    amount: int
    give_or_take: int = 0

    def foresee(self, run: Run) -> Foresight | None:
        """Exact, but for what the model may give or take."""
        about = self.give_or_take
        return Foresight(self.amount - about, self.amount, self.amount + about)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ByPrompt:
    """Tokens read. A token of a byte-level vocabulary stands for at least one byte of UTF-8.

    All vocabularies in use are of that kind, so the bytes that are sent bound the tokens from
    above, whatever the language; what a wrapper adds is allowed for. A picture counts for
    `per_image` tokens at most; where that is not known, a prompt with pictures has no bound.
    """

    by: Literal["prompt"]
    per_image: int | None = None

    def foresee(self, run: Run) -> Foresight | None:
        """From one token to one a byte; a token for four bytes is usual."""
        size, turns, images = 0, 0, 0
        for name, value in run.input.items():
            kind = run.specs[name].type
            if kind is InputType.OBJECTS:
                turns += len(value)
                size += len(json.dumps(value, ensure_ascii=False).encode())
            elif kind is InputType.STRING:
                size += len(value.encode())
            elif kind is InputType.URI:
                images += 1
            elif kind is InputType.URIS:
                images += len(value)
        if images and self.per_image is None:
            return None
        seen = images * (self.per_image or 0)
        most = size + WRAPPING_TOKENS + TURN_TOKENS * turns + seen
        return Foresight(1, max(1, ceil(size / 4) + seen), most)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ByLimit:
    """Tokens written: at most what the input that limits them says."""

    by: Literal["limit"]
    input: str
    usual: int = 400

    def foresee(self, run: Run) -> Foresight | None:
        """From none to the limit. Without a limit there is no bound."""
        most = run.value(self.input)
        return None if most is None else Foresight(0, min(self.usual, most), most)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ByCharacters:
    """Characters of an input. However they are counted, there are no more than bytes of UTF-8."""

    by: Literal["characters"]
    input: str

    def foresee(self, run: Run) -> Foresight | None:
        """Exact for plain ASCII; else between the code points and the bytes."""
        text = str(run.value(self.input) or "")
        return Foresight(len(text), len(text), len(text.encode()))


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ByMegapixels:
    """Millions of pixels of a picture: by width and height where they are sent, else by a class.

    `input` names the class, a word such as "1 MP".
    """

    by: Literal["megapixels"]
    input: str
    width: str
    height: str

    def foresee(self, run: Run) -> Foresight | None:
        """Exact for a class. Pixels are rounded up to whole megapixels by some and by some not."""
        width, height = run.input.get(self.width), run.input.get(self.height)
        if width is not None and height is not None:
            exact = Decimal(width * height) / 1_000_000
            return Foresight(exact, exact, Decimal(ceil(exact)))
        size = place(run.value(self.input))
        if size is None:
            return None
        megapixels = Decimal(size.numerator) / size.denominator
        return Foresight(megapixels, megapixels, megapixels)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ByPictures:
    """Millions of pixels of the pictures that are given, whose sizes are not known."""

    by: Literal["pictures"]
    input: str

    def foresee(self, run: Run) -> Foresight | None:
        """None where none is given, else there is no telling."""
        return None if run.input.get(self.input) else Foresight(0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ByRunTime:
    """Seconds that the model runs: from none to its `max_run`."""

    by: Literal["run_time"]
    usual: int

    def foresee(self, run: Run) -> Foresight | None:
        """A wide range: how long a run takes is not known before."""
        return Foresight(0, min(self.usual, run.max_run), run.max_run)


Expectation = Annotated[
    ByInput | ByNature | ByPrompt | ByLimit | ByCharacters | ByMegapixels | ByPictures | ByRunTime,
    Field(discriminator="by"),
]


def foresee(
    price: PriceSchedule, expects: Mapping[str, Expectation], run: Run, outputs: int
) -> tuple[PriceSchedule, Estimate]:
    """The price to hold for this run, with what was sent about its tiers, and its estimate."""
    least: dict[str, Scalar] = {}
    expected: dict[str, Scalar] = {}
    most: dict[str, Scalar] = {}
    for metric, rule in expects.items():
        seen = rule.foresee(run)
        if seen is not None:
            least[metric], expected[metric], most[metric] = seen.low, seen.expected, seen.high
    held = _held(price, expected)
    low = cost(held, least, outputs=outputs)
    usual = cost(held, expected, outputs=outputs)
    high = cost(held, most, outputs=outputs)
    if low is None or usual is None or high is None:
        return held, _UNKNOWN
    # Sorted, because a tier for long runs may be cheaper than the one for short ones.
    return held, Estimate(*sorted((low, usual, high)))


def _held(price: PriceSchedule, expected: Metrics) -> PriceSchedule:
    """With what was sent about its tiers; the very same one where that is nothing."""
    sent = {
        criterion.metric: expected[criterion.metric]
        for tier in price.tiers
        for criterion in tier.criteria
        if criterion.metric in expected
    }
    return replace(price, sent=sent) if sent or price.sent else price


_UNKNOWN = Estimate(None, None, None)
