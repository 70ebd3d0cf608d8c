"""What a second of each kind of machine costs, for models that are not sold by the piece."""

import tomllib
from decimal import Decimal
from functools import cache
from importlib.resources import files

from mediagate_server.catalog.prices import PriceSchedule, Rate, Tier
from mediagate_server.replacing import replace

_RUNNING_TIME = "predict_time"


@cache
def _table() -> dict[str, PriceSchedule]:
    text = files(__package__).joinpath("hardware.toml").read_text(encoding="utf-8")
    document = tomllib.loads(text)
    return {
        sku: PriceSchedule(
            (Tier((Rate((_RUNNING_TIME,), Decimal(usd), 1),)),),
            document["as_of"],
            f"{document['source']}: {sku}",
        )
        for sku, usd in document["usd_per_second"].items()
    }


def price_of(sku: str) -> PriceSchedule:
    """The price by the second of a kind of machine; without tiers where it is not known."""
    return _table().get(sku, UNKNOWN)


def for_machine_of_its_own(price: PriceSchedule) -> PriceSchedule:
    """The price of a run on a machine that is billed while it starts and waits, too.

    No run's metrics tell of that time: what is reckoned from the running time alone is an
    assumption, and says so. What is sold by the piece stays as it is.
    """
    by_time = any(_RUNNING_TIME in rate.metrics for tier in price.tiers for rate in tier.rates)
    if not by_time or price.assumed:
        return price
    source = f"{price.source}; without set-up and idle time, which are billed besides"
    return replace(price, source=source, assumed=True)


UNKNOWN = PriceSchedule((), "", "")
"""No price: what is run at it costs an unknown amount, never nothing."""
