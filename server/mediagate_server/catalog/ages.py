"""How old a price is. A list price that nobody has read for two months may be another by now."""

from datetime import date
from typing import Final

from mediagate_server.catalog.model import Model, ModelStatus
from mediagate_server.catalog.prices import AS_OF

OLD_DAYS: Final = 60
"""Days after which a price is said to be old."""


def read_on(as_of: str) -> date:
    """The first day that a price's date can mean. Raises ValueError for what is no date."""
    found = AS_OF.fullmatch(as_of)
    if found is None:
        raise ValueError("must be a year, a month or a day: 2026, 2026-11, 2026-11-24")
    year, month, day = found.groups()
    return date(int(year), int(month or 1), int(day or 1))


def age_in_days(as_of: str, today: date) -> int:
    """Days since then; 0 for what lies ahead."""
    return max(0, (today - read_on(as_of)).days)


def is_priced(model: Model) -> bool:
    """Whether any price of it is known."""
    return bool(model.price.tiers)


def is_old(model: Model, today: date) -> bool:
    """Whether it has a price, and that is old."""
    return is_priced(model) and age_in_days(model.price.as_of, today) > OLD_DAYS


def counts(models: tuple[Model, ...], today: date) -> tuple[int, int]:
    """Of the models that can be called: how many have an old price, how many have none."""
    live = [model for model in models if model.status is ModelStatus.LIVE]
    return (
        sum(is_old(model, today) for model in live),
        sum(not is_priced(model) for model in live),
    )
