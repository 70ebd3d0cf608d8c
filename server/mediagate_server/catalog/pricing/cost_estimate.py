"""Cost estimation: bounds of the billed metrics, derived from the input that will be sent.

Each billed metric is estimated by a rule of the model's own data; the price arithmetic is the one
that settles. A metric that cannot be estimated makes the estimate unknown, never zero.

A run of any model is checked against the schema that upstream publishes, which may allow what no
price can be computed from: a length of "5s", a million billion tokens. Such an input is rejected by
its name, before anything is reserved. Of a text model's prompt and images only the size counts:
other types than text count by their JSON, others than a list as one image.
"""

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from math import ceil, isfinite
from typing import Annotated, Any, Literal

from msgspec import Struct
from pydantic import Field
from pydantic.dataclasses import dataclass

from mediagate_server.catalog.parameters.scalar import ordinal
from mediagate_server.catalog.pricing.prices import (
    MAX_RUN_NANOS,
    NANOS_PER_USD,
    UNKNOWN_ESTIMATE,
    Estimate,
    Metrics,
    PriceSchedule,
    Scalar,
    compute_cost,
)
from mediagate_server.catalog.schemas.input_spec import STRICT, InputSpec, InputType
from mediagate_server.errors import MaxCostExceeded, PriceUnknown
from mediagate_server.structs import replace

WRAPPING_TOKENS = 256
"""Tokens of what a wrapper adds to a prompt (role prefixes, a default system prompt)."""
TURN_TOKENS = 16
"""Tokens of the markup of each turn of a conversation."""
MAX_UNITS = 10**15
"""Maximum quantity: tokens, seconds, pixels. Real runs are orders of magnitude below."""
MAX_WORD_CHARACTERS = 200
"""Maximum characters of a word that selects a tier."""


class UnpricedInput(ValueError):
    """An input that the price depends on has a value that no price can be computed from.

    `name` is the model's own, empty where no single input is at fault; `message` is the error.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message


class UnitEstimate(Struct, frozen=True):
    """Estimated range of a billed metric: low, expected, high."""

    low: Scalar
    expected: Scalar
    high: Scalar


class EstimatedRun(Struct, frozen=True):
    """The run to estimate: its input, the model's inputs, and the longest run time in seconds."""

    input: Mapping[str, Any]
    specs: Mapping[str, InputSpec]
    max_run: int

    def value(self, name: str) -> Any:
        """Effective value of an input: what is sent, else its own default, else None."""
        return self.input.get(name, self.specs[name].default)

    def billable_value(self, name: str) -> Any:
        """Effective value of an input that the price depends on. Raises UnpricedInput."""
        value: Any = self.value(name)
        if value is None:
            return None
        spec = self.specs[name]
        if not spec.has_type(value):
            raise UnpricedInput(name, f"must be of type {spec.type.value}: the price goes by it")
        if isinstance(value, str):
            if len(value) > MAX_WORD_CHARACTERS:
                limit = f"at most {MAX_WORD_CHARACTERS} characters"
                raise UnpricedInput(name, f"must have {limit}: the price goes by it")
        elif isinstance(value, float):
            value = _to_decimal(name, value)
        if isinstance(value, int | Decimal) and not -MAX_UNITS <= value <= MAX_UNITS:
            raise UnpricedInput(name, f"must be at most {MAX_UNITS:,}: the price goes by it")
        return value


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class InputUnits:
    """A metric that is the value of an input: a duration, a resolution, a switch."""

    by: Literal["input"]
    input: str
    per: int = 1

    def estimate(self, run: EstimatedRun) -> UnitEstimate | None:
        """Exact; a number is divided by `per` (1000: milliseconds billed as seconds)."""
        value = run.billable_value(self.input)
        if value is None:
            return None
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            value = Decimal(value) / self.per
        return UnitEstimate(value, value, value)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class FixedUnits:
    """A metric that is constant for a model, such as a clip length of 6 s."""

    by: Literal["nature"]
    amount: int
    give_or_take: int = 0

    def estimate(self, run: EstimatedRun) -> UnitEstimate | None:
        """Exact, within `give_or_take`."""
        about = self.give_or_take
        return UnitEstimate(self.amount - about, self.amount, self.amount + about)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class PromptTokens:
    """Input tokens. A token of a byte-level vocabulary stands for at least one byte of UTF-8.

    All vocabularies in use are of that kind, so the bytes that are sent bound the tokens from
    above, whatever the language; what a wrapper adds is allowed for. An image counts for
    `per_image` tokens at most; where that is not known, a prompt with images has no bound.
    """

    by: Literal["prompt"]
    per_image: int | None = None

    def estimate(self, run: EstimatedRun) -> UnitEstimate | None:
        """From one token to one per byte; one for four bytes is expected."""
        size, turns, images = 0, 0, 0
        for name, value in run.input.items():
            kind = run.specs[name].type
            if kind is InputType.OBJECTS:
                turns += len(value) if isinstance(value, list) else 1
                size += len(_to_text(value).encode())
            elif kind is InputType.STRING:
                size += len(_to_text(value).encode())
            elif kind is InputType.URI or kind is InputType.URIS:
                images += len(value) if isinstance(value, list) else 1
        if images and self.per_image is None:
            return None
        image_tokens = images * (self.per_image or 0)
        maximum = size + WRAPPING_TOKENS + TURN_TOKENS * turns + image_tokens
        return UnitEstimate(1, max(1, ceil(size / 4) + image_tokens), maximum)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class LimitedTokens:
    """Output tokens: at most the value of the input that limits them."""

    by: Literal["limit"]
    input: str
    usual: int = 400

    def estimate(self, run: EstimatedRun) -> UnitEstimate | None:
        """From none to the limit. Without a limit, or with a negative one, there is no bound."""
        limit = run.billable_value(self.input)
        if limit is None or limit < 0:
            return None
        return UnitEstimate(0, min(self.usual, limit), limit)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class CharacterUnits:
    """Characters of an input: at most its bytes of UTF-8, however they are counted."""

    by: Literal["characters"]
    input: str

    def estimate(self, run: EstimatedRun) -> UnitEstimate | None:
        """Exact for plain ASCII; else between the code points and the bytes."""
        text = _to_text(run.value(self.input) or "")
        return UnitEstimate(len(text), len(text), len(text.encode()))


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class MegapixelUnits:
    """Megapixels of an output image: by width and height where they are sent, else by a class.

    `input` names the class, a word such as "1 MP".
    """

    by: Literal["megapixels"]
    input: str
    width: str
    height: str

    def estimate(self, run: EstimatedRun) -> UnitEstimate | None:
        """Exact for a class. Some models round pixels up to whole megapixels, some do not."""
        if self.width in run.input and self.height in run.input:
            exact = (
                Decimal(run.billable_value(self.width) * run.billable_value(self.height))
                / 1_000_000
            )
            return UnitEstimate(exact, exact, Decimal(ceil(exact)))
        size = ordinal(run.billable_value(self.input))
        if size is None:
            return None
        megapixels = Decimal(size.numerator) / size.denominator
        return UnitEstimate(megapixels, megapixels, megapixels)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class InputImageUnits:
    """Megapixels of the input images, whose sizes are not known."""

    by: Literal["pictures"]
    input: str

    def estimate(self, run: EstimatedRun) -> UnitEstimate | None:
        """Zero without images, else unknown."""
        return None if run.input.get(self.input) else UnitEstimate(0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class RunTimeUnits:
    """Seconds of run time: from none to the model's `max_run`."""

    by: Literal["run_time"]
    usual: int

    def estimate(self, run: EstimatedRun) -> UnitEstimate | None:
        """A wide range: the run time is not known before."""
        return UnitEstimate(0, min(self.usual, run.max_run), run.max_run)


CostEstimator = Annotated[
    InputUnits
    | FixedUnits
    | PromptTokens
    | LimitedTokens
    | CharacterUnits
    | MegapixelUnits
    | InputImageUnits
    | RunTimeUnits,
    Field(discriminator="by"),
]


def estimate_cost(
    price: PriceSchedule,
    expects: Mapping[str, CostEstimator],
    run: EstimatedRun,
    outputs: int,
    counted_by: str = "",
) -> tuple[PriceSchedule, Estimate]:
    """Cost estimate of a run, and the price schedule to settle it by, with what was sent about its
    tiers.

    `counted_by` is the input that sets the number of `outputs`. Raises UnpricedInput.
    """
    estimates = {metric: rule.estimate(run) for metric, rule in expects.items()}
    units = {metric: estimate for metric, estimate in estimates.items() if estimate is not None}
    expected_units = {metric: estimate.expected for metric, estimate in units.items()}
    schedule = _with_sent_metrics(price, expected_units)
    low_units = {metric: estimate.low for metric, estimate in units.items()}
    high_units = {metric: estimate.high for metric, estimate in units.items()}
    low = compute_cost(schedule, low_units, outputs=outputs)
    expected = compute_cost(schedule, expected_units, outputs=outputs)
    high = compute_cost(schedule, high_units, outputs=outputs)
    if low is None or expected is None or high is None:
        return schedule, UNKNOWN_ESTIMATE
    # Sorted, because a tier for long runs may be cheaper than the one for short ones.
    low, expected, high = sorted((low, expected, high))
    if high > MAX_RUN_NANOS:
        dollars = MAX_RUN_NANOS // int(NANOS_PER_USD)
        read_names = (name for rule in expects.values() for name in input_names(rule))
        name = _largest_input(run, (counted_by, *read_names))
        raise UnpricedInput(name, f"asks for a run of more than {dollars:,} dollars")
    return schedule, Estimate(low, expected, high)


def input_names(rule: CostEstimator) -> tuple[str, ...]:
    """The inputs that an estimator reads by name."""
    names = (getattr(rule, field, "") for field in ("input", "width", "height"))
    return tuple(name for name in names if name)


def _largest_input(run: EstimatedRun, names: Iterable[str]) -> str:
    """The input with the largest number; empty where none holds one."""
    numbers = {name: run.value(name) for name in names if name}
    numeric = {name: value for name, value in numbers.items() if isinstance(value, int | float)}
    return max(numeric, key=lambda name: numeric[name], default="")


def _to_decimal(name: str, value: float) -> Decimal:
    """Exact decimal of a float's digits. Raises UnpricedInput where it is not finite."""
    if not isfinite(value):
        raise UnpricedInput(name, "must be a finite number: the price goes by it")
    return Decimal(str(value))


def _to_text(value: Any) -> str:
    """A text as it is, anything else as its JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _with_sent_metrics(price: PriceSchedule, expected: Metrics) -> PriceSchedule:
    """The schedule with what was sent about its tiers; the very same one where that is nothing."""
    sent = {
        criterion.metric: expected[criterion.metric]
        for tier in price.tiers
        for criterion in tier.criteria
        if criterion.metric in expected
    }
    return replace(price, sent=sent) if sent or price.sent else price


def check_cost_limit(slug: str, estimate: Estimate, limit: int | None) -> None:
    """Raises PriceUnknown or MaxCostExceeded where a call may cost over `limit` nano-dollars."""
    if limit is None:
        return
    if estimate.maximum is None:
        raise PriceUnknown(f"what {slug} may cost is not known", metadata={"model": slug})
    if estimate.maximum > limit:
        raise MaxCostExceeded(
            f"a call of {slug} may cost more than max_cost_usd_nanos",
            metadata={
                "model": slug,
                "maximum_usd_nanos": str(estimate.maximum),
                "max_cost_usd_nanos": str(limit),
            },
        )
