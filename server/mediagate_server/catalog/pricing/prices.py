"""Price schedules, and the exact arithmetic from billed metrics to nano-dollars.

A schedule is a list of tiers; the first whose criteria all match a prediction's metrics is used.
Prices are decimal strings, USD per N units. A charge is the sum over the tier's rates of metric x
price / N, computed exactly in Decimal and rounded half-up to a nano-dollar once.

A price is added in its model's file, `catalog/models/*.toml`, or by an operator in a file of the
same form (docs/prices.md). The store keeps a schedule as JSON, with decimals as strings: the price
reserved at submit is, digit for digit, the price that settles.

Prices that no model file has are derived: by the second of hardware, of dedicated machines, and
assumed where unknown.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Context, Decimal, Inexact, InvalidOperation
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from mediagate_server.structs import replace

Scalar = Decimal | int | str | bool
Metrics = Mapping[str, Scalar]
NANOS_PER_USD = Decimal(10**9)
MAX_RUN_NANOS = 10**15
"""Maximum estimate of one run: a million dollars. Sums over all runs of one call, and over
thousands of such calls, fit into the 64 bits of the ledger and the contract."""
AS_OF = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")
"""Date of a price, as precise as it is known: a year, a month or a day."""
OUTPUT_COUNT = "output_count"
"""Our own metric, not upstream's: the number of delivered outputs. A rate that names it last may be
charged by it where upstream reports none."""
RUN_COUNT = "run_count"
"""Our own metric: every prediction is one run. For an assumed price per run."""
_EXACT = Context(prec=400, traps=[Inexact, InvalidOperation])
"""Precise enough for every product and sum of bounded quantities and prices; an inexact result
raises rather than being rounded."""
_ROUNDING = Context(prec=400, traps=[InvalidOperation])
_MAX_DIGITS = 60
"""Maximum digits before or after the point. More is no real quantity."""
_QUANTITY_LIMIT = 10**_MAX_DIGITS


class _CachedNanos:
    """Cached price per unit in nano-dollars: neither stored nor compared, so no field of a rate."""

    __slots__ = ("_nanos",)

    _nanos: int | None


@dataclass(frozen=True, slots=True)
class PriceRate(_CachedNanos):
    """Price rate: USD per `per` units of a billed metric.

    `metrics` are the names under which upstream has reported it, newest first: the first that is
    present counts. `per` is a power of ten, so that the division is exact.
    """

    # For pydantic, which reads it from model files: unknown keys are errors.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    metrics: tuple[str, ...]
    usd: Decimal
    per: int

    def __post_init__(self) -> None:
        if not self.metrics:
            raise ValueError("a rate must name the metric it is for")
        if to_quantity(self.usd) is None:
            raise ValueError("usd must be a decimal that is not negative")
        if self.per < 1 or str(self.per).strip("0") != "1":
            raise ValueError("per must be a power of ten")
        unit_nanos = _EXACT.multiply(_unit_price(self.usd, self.per), NANOS_PER_USD)
        # Price of one unit in nano-dollars, where that is an integer.
        is_integer = unit_nanos == unit_nanos.to_integral_value(context=_ROUNDING)
        object.__setattr__(self, "_nanos", int(unit_nanos) if is_integer else None)

    def integer_nanos(self, amount: Scalar | None) -> int | None:
        """Cost of so many units in nano-dollars, where integer arithmetic is exact.

        None where it is not; the rest is for Decimal.
        """
        if self._nanos is None or type(amount) is not int or not 0 <= amount < _QUANTITY_LIMIT:
            return None
        return amount * self._nanos


@dataclass(frozen=True, slots=True)
class Criterion:
    """Criterion of a tier on one metric: equal to a word, or above `over` and up to `up_to`.

    Words are compared case-insensitively; a bool is the word `true` or `false`.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    metric: str
    equals: str | None = None
    over: Decimal | None = None
    up_to: Decimal | None = None

    def __post_init__(self) -> None:
        if (self.equals is None) == (self.over is None and self.up_to is None):
            raise ValueError("a criterion is either `equals` or a range of `over` and `up_to`")

    def matches(self, metrics: Metrics) -> bool:
        """Whether the metric matches; False too where it is missing or of another type."""
        value = metrics.get(self.metric)
        if value is None:
            return False
        if self.equals is not None:
            return _word(value) == self.equals.casefold()
        number = to_quantity(value)
        return (
            number is not None
            and (self.over is None or number > self.over)
            and (self.up_to is None or number <= self.up_to)
        )

    def __str__(self) -> str:
        """Readable form: `resolution is 720p`, `seconds over 5 up to 10`."""
        if self.equals is not None:
            return f"{self.metric} is {self.equals}"
        low = "" if self.over is None else f" over {self.over}"
        return f"{self.metric}{low}" + ("" if self.up_to is None else f" up to {self.up_to}")


@dataclass(frozen=True, slots=True)
class Tier:
    """Price tier: rates that apply where all criteria match. No criteria: always."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    rates: tuple[PriceRate, ...]
    criteria: tuple[Criterion, ...] = ()

    def __post_init__(self) -> None:
        if not self.rates:
            raise ValueError("a tier must have rates")

    @property
    def name(self) -> str:
        """Readable criteria; empty: always."""
        return " and ".join(map(str, self.criteria))


class _CachedText:
    """Cached JSON of a schedule, most of which are a model's own. No field either."""

    __slots__ = ("as_text",)

    as_text: str


@dataclass(frozen=True, slots=True)
class PriceSchedule(_CachedText):
    """Price schedule of a model, as of a date. No tiers: the price is unknown (never zero).

    `sent` holds what the request itself says about the metrics that select a tier (a resolution,
    whether there is sound). It decides where upstream does not report that metric, and is never
    charged for. `assumed` marks an operator's guess: what it settles is not a list price.
    `partial`: only the prices of these tiers are known, a run that matches none costs an unknown
    amount.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    tiers: tuple[Tier, ...]
    as_of: str
    source: str
    sent: Mapping[str, Scalar] = field(default_factory=dict)
    assumed: bool = False
    partial: bool = False


class Estimate(Struct, frozen=True):
    """Cost estimate in nano-dollars; None where the price is unknown.

    `maximum` is what is reserved: settled cost is at most that, but for a model that runs longer
    than its known `max_run`.
    """

    low: int | None
    expected: int | None
    maximum: int | None

    def times(self, count: int) -> "Estimate":
        """Estimate of `count` runs together."""
        if count == 1:
            return self
        bounds = (self.low, self.expected, self.maximum)
        return Estimate(*(None if bound is None else bound * count for bound in bounds))


UNKNOWN_ESTIMATE = Estimate(None, None, None)


def to_nanos(usd: Decimal) -> int:
    """Convert dollars to nano-dollars, rounded half-up: the one rounding of a charge."""
    nanos = _EXACT.multiply(usd, NANOS_PER_USD)
    return int(nanos.to_integral_value(rounding=ROUND_HALF_UP, context=_ROUNDING))


def to_quantity(value: Scalar) -> Decimal | None:
    """Convert a metric to a billable quantity; None where it is none.

    Words and bools are no quantities, nor is anything negative, infinite or absurdly long. A float
    has lost the digits that upstream sent and is a bug of ours: TypeError.
    """
    if isinstance(value, bool | str):
        return None
    if not isinstance(value, int | Decimal):
        raise TypeError(f"money is never computed from {type(value).__name__}")
    if isinstance(value, int):
        return Decimal(value) if 0 <= value < _QUANTITY_LIMIT else None
    if not value.is_finite() or value < 0:
        return None
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -_MAX_DIGITS or value.adjusted() >= _MAX_DIGITS:
        return None
    return value


def compute_cost(
    schedule: PriceSchedule, metrics: Metrics, *, outputs: int | None = None
) -> int | None:
    """Cost of a prediction with these metrics, in nano-dollars; None where it is unknown.

    `outputs` is our own count of delivered outputs (see OUTPUT_COUNT); None where it must not be
    used. Unknown are: no price, or a metric that the tier bills by is missing. Where no tier
    matches, the tier that costs most for these very metrics is charged, so that a new resolution or
    variant upstream is never under-counted; of a partial schedule it is unknown.
    """
    charge = compute_charge(schedule, metrics, outputs=outputs)
    return charge[1] if charge else None


def compute_charge(
    schedule: PriceSchedule, metrics: Metrics, *, outputs: int | None = None
) -> tuple[Tier, int | None] | None:
    """The tier that a prediction is charged by, and its cost; None where no tier is."""
    all_metrics = dict(metrics)
    all_metrics[RUN_COUNT] = 1
    if outputs is not None:
        all_metrics[OUTPUT_COUNT] = outputs
    else:
        all_metrics.pop(OUTPUT_COUNT, None)
    for tier in schedule.tiers:
        if not tier.criteria or _matches(tier, {**schedule.sent, **all_metrics}):
            return tier, _tier_cost(tier, all_metrics)
    if schedule.partial:
        return None
    charges = [(tier, _tier_cost(tier, all_metrics)) for tier in schedule.tiers]
    possible = [(tier, nanos) for tier, nanos in charges if nanos is not None]
    if not possible or len(possible) < len(charges):
        return None
    return max(possible, key=lambda charge: charge[1])


def _matches(tier: Tier, metrics: Metrics) -> bool:
    return all(criterion.matches(metrics) for criterion in tier.criteria)


def _tier_cost(tier: Tier, metrics: Metrics) -> int | None:
    """Sum of the tier's rates, rounded once; None where a metric is missing.

    Tokens are integers at integer nano-dollars: nothing to be rounded.
    """
    total = 0
    for rate in tier.rates:
        nanos = rate.integer_nanos(_reported_amount(rate, metrics))
        if nanos is None:
            return _tier_cost_exact(tier, metrics)
        total += nanos
    return total


def _tier_cost_exact(tier: Tier, metrics: Metrics) -> int | None:
    total = Decimal(0)
    for rate in tier.rates:
        reported = _reported_amount(rate, metrics)
        amount = None if reported is None else to_quantity(reported)
        if amount is None:
            return None
        total = _EXACT.fma(amount, _unit_price(rate.usd, rate.per), total)
    return to_nanos(total)


@lru_cache(maxsize=4_096)
def _unit_price(usd: Decimal, per: int) -> Decimal:
    """Exact price of one unit: `per` is a power of ten."""
    return _EXACT.scaleb(usd, 1 - len(str(per)))


def _reported_amount(rate: PriceRate, metrics: Metrics) -> Scalar | None:
    """The reported metric of a rate; None where none of its names was reported."""
    for name in rate.metrics:
        if name in metrics:
            return metrics[name]
    return None


def _word(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).casefold()


def dump_price(schedule: PriceSchedule) -> str:
    """Serialise a schedule as JSON: the same schedule always gives the same text."""
    text: str | None = getattr(schedule, "as_text", None)
    if text is None:
        record = msgspec.to_builtins(schedule)
        record["sent"] = {name: _dump_scalar(value) for name, value in schedule.sent.items()}
        text = json.dumps(record, sort_keys=True, separators=(",", ":"))
        object.__setattr__(schedule, "as_text", text)
    return text


def load_price(text: str) -> PriceSchedule:
    """Parse the result of `dump_price`. Raises ValueError, KeyError or msgspec.ValidationError."""
    record = json.loads(text)
    return PriceSchedule(
        tiers=msgspec.convert(record["tiers"], tuple[Tier, ...]),
        as_of=record["as_of"],
        source=record["source"],
        sent={name: _load_scalar(value) for name, value in record["sent"].items()},
        assumed=record["assumed"],
        # Missing in prices that were stored before there were partial ones.
        partial=record.get("partial", False),
    )


def _dump_scalar(value: Scalar) -> Any:
    """Decimals as {"decimal": "..."}: a JSON number would lose digits, a string its type."""
    return {"decimal": str(value)} if isinstance(value, Decimal) else value


def _load_scalar(value: Any) -> Scalar:
    if isinstance(value, Mapping):
        return Decimal(value["decimal"])
    if isinstance(value, str | bool | int):
        return value
    raise ValueError("a selector must be a word, a bool or a number")


UNKNOWN_PRICE = PriceSchedule((), "", "")
"""Unknown price: a run costs an unknown amount, never nothing."""
_RUN_TIME_METRIC = "predict_time"


def assumed_price(
    price: PriceSchedule, estimate: Estimate, usd: Decimal | None
) -> tuple[PriceSchedule, Estimate]:
    """Assumed price: the operator's flat cost of a run in dollars, where its cost is unknown.

    Where the price is known and only the estimate is not, the price still settles the run: the
    assumption is then no more than the reservation.
    """
    if usd is None or estimate.maximum is not None:
        return price, estimate
    nanos = to_nanos(usd)
    if not price.tiers:
        flat = Tier((PriceRate((RUN_COUNT,), usd, 1),))
        price = PriceSchedule((flat,), price.as_of, "assumed by the operator", assumed=True)
    return price, Estimate(nanos, nanos, nanos)


@cache
def _hardware_prices() -> dict[str, PriceSchedule]:
    text = files(__package__).joinpath("hardware.toml").read_text(encoding="utf-8")
    document = tomllib.loads(text)
    return {
        sku: PriceSchedule(
            (Tier((PriceRate((_RUN_TIME_METRIC,), Decimal(usd), 1),)),),
            document["as_of"],
            f"{document['source']}: {sku}",
        )
        for sku, usd in document["usd_per_second"].items()
    }


def hardware_price(sku: str) -> PriceSchedule:
    """Price per second of a hardware SKU; without tiers where it is not known."""
    return _hardware_prices().get(sku, UNKNOWN_PRICE)


def dedicated_price(price: PriceSchedule) -> PriceSchedule:
    """Price of a run on dedicated hardware, which is also billed while it starts and is idle.

    No run's metrics contain that time: a cost by run time alone is marked as assumed. Other prices
    stay as they are.
    """
    by_time = any(_RUN_TIME_METRIC in rate.metrics for tier in price.tiers for rate in tier.rates)
    if not by_time or price.assumed:
        return price
    source = f"{price.source}; without set-up and idle time, which are billed besides"
    return replace(price, source=source, assumed=True)
