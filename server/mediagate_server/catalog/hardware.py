"""What a second of each kind of machine costs, for models that are not sold by the piece."""

import tomllib
from decimal import Decimal
from functools import cache
from importlib.resources import files

from mediagate_server.catalog.prices import PriceSchedule, Rate, Tier


@cache
def _table() -> dict[str, PriceSchedule]:
    text = files(__package__).joinpath("hardware.toml").read_text(encoding="utf-8")
    document = tomllib.loads(text)
    return {
        sku: PriceSchedule(
            (Tier((Rate(("predict_time",), Decimal(usd), 1),)),),
            document["as_of"],
            f"{document['source']}: {sku}",
        )
        for sku, usd in document["usd_per_second"].items()
    }


def price_of(sku: str) -> PriceSchedule:
    """The price by the second of a kind of machine; without tiers where it is not known."""
    return _table().get(sku, UNKNOWN)


UNKNOWN = PriceSchedule((), "", "")
"""No price: what is run at it costs an unknown amount, never nothing."""
