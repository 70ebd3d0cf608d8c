"""What a second of each kind of machine costs, for models that are not sold by the piece.

What the operator assumes a run to cost where nobody can tell: settled as ASSUMED, never more.
"""

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
"""No price: what is run at it costs an unknown amount, never nothing."""
_RUN_TIME_METRIC = "predict_time"


def assumed_price(
    price: PriceSchedule, estimate: Estimate, usd: Decimal | None
) -> tuple[PriceSchedule, Estimate]:
    """The price to hold for a run, and what it may cost, by an assumption of so many dollars.

    Only where that is not known. A price that is known settles all the same, though what it will
    come to cannot be foreseen: then the assumption is no more than what is held.
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
    """The price by the second of a kind of machine; without tiers where it is not known."""
    return _hardware_prices().get(sku, UNKNOWN_PRICE)


def dedicated_price(price: PriceSchedule) -> PriceSchedule:
    """The price of a run on a machine that is billed while it starts and waits, too.

    No run's metrics tell of that time: what is reckoned from the running time alone is an
    assumption, and says so. What is sold by the piece stays as it is.
    """
    by_time = any(_RUN_TIME_METRIC in rate.metrics for tier in price.tiers for rate in tier.rates)
    if not by_time or price.assumed:
        return price
    source = f"{price.source}; without set-up and idle time, which are billed besides"
    return replace(price, source=source, assumed=True)
