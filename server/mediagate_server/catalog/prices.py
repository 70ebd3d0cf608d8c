"""Prices as data and the one arithmetic that turns billed metrics into nano-dollars.

A schedule is a list of tiers; the first whose criteria all hold for a prediction's metrics is
used. Prices are decimal strings, USD per N units. A charge is the sum over the tier's rates of
metric x price / N, computed in Decimal and rounded half-up to a nano-dollar once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

Metrics = Mapping[str, Decimal | int | str | bool]

NANOS_PER_USD = Decimal(10**9)


@dataclass(frozen=True, slots=True)
class Rate:
    """USD per `per` units of a billed metric.

    `metrics` are the names under which upstream has reported it, newest first: the first that is
    present counts.
    """

    metrics: tuple[str, ...]
    usd: Decimal
    per: int


@dataclass(frozen=True, slots=True)
class Criterion:
    """A tier's condition on one metric: equal to a word, or above `over` and up to `up_to`."""

    metric: str
    equals: str | None = None
    over: Decimal | None = None
    up_to: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Tier:
    """Rates that hold where all criteria do. No criteria: always."""

    rates: tuple[Rate, ...]
    criteria: tuple[Criterion, ...] = ()


@dataclass(frozen=True, slots=True)
class PriceSchedule:
    """What a model costs, as of a date. No tiers: the price is unknown (never zero)."""

    tiers: tuple[Tier, ...]
    as_of: str
    source: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run may cost, in nano-dollars; None where the price is unknown.

    `maximum` is what is reserved: settled cost is at most that, but for a model that runs longer
    than its known `max_run`.
    """

    low: int | None
    expected: int | None
    maximum: int | None


def to_nanos(usd: Decimal) -> int:
    """Dollars to whole nano-dollars, half-up: the one rounding of a charge."""
    return int((usd * NANOS_PER_USD).quantize(Decimal(1), rounding=ROUND_HALF_UP))
