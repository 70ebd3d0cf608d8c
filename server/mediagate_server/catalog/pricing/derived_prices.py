"""Derived prices: by the second of hardware, of dedicated machines, and assumed where unknown."""

import tomllib
from decimal import Decimal
from functools import cache
from importlib.resources import files

from mediagate_server.catalog.pricing.prices import (
    RUN_COUNT,
    Estimate,
    PriceRate,
    PriceSchedule,
    Tier,
    to_nanos,
)
from mediagate_server.structs import replace

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
