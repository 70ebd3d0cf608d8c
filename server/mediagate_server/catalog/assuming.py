"""What the operator assumes a run to cost where nobody can tell: settled as ASSUMED, never more."""

from decimal import Decimal

from mediagate_server.catalog.prices import (
    RUN_COUNT,
    Estimate,
    PriceSchedule,
    Rate,
    Tier,
    to_nanos,
)


def assume(
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
        flat = Tier((Rate((RUN_COUNT,), usd, 1),))
        price = PriceSchedule((flat,), price.as_of, "assumed by the operator", assumed=True)
    return price, Estimate(nanos, nanos, nanos)
