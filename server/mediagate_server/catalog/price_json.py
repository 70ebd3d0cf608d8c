"""A price schedule as text, for the store: the price held at submit is the price that settles.

Decimals are written as strings, so that what is read back is digit for digit what was held.
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from mediagate_server.catalog.prices import Criterion, PriceSchedule, Rate, Scalar, Tier


def dumps(schedule: PriceSchedule) -> str:
    """The schedule as JSON: the same schedule always gives the same text."""
    text: str | None = getattr(schedule, "as_text", None)
    if text is None:
        text = _dumps(schedule)
        object.__setattr__(schedule, "as_text", text)
    return text


def _dumps(schedule: PriceSchedule) -> str:
    record = {
        "as_of": schedule.as_of,
        "source": schedule.source,
        "assumed": schedule.assumed,
        "partial": schedule.partial,
        "sent": {name: _write(value) for name, value in schedule.sent.items()},
        "tiers": [_tier_record(tier) for tier in schedule.tiers],
    }
    return json.dumps(record, sort_keys=True, separators=(",", ":"))


def loads(text: str) -> PriceSchedule:
    """What `dumps` wrote. Raises ValueError or KeyError where the text is anything else."""
    record = json.loads(text)
    return PriceSchedule(
        tiers=tuple(_tier(tier) for tier in record["tiers"]),
        as_of=record["as_of"],
        source=record["source"],
        sent={name: _read(value) for name, value in record["sent"].items()},
        assumed=record["assumed"],
        # Prices that were held before there were partial ones do not say.
        partial=record.get("partial", False),
    )


def _tier_record(tier: Tier) -> dict[str, Any]:
    return {
        "rates": [
            {"metrics": list(rate.metrics), "usd": str(rate.usd), "per": rate.per}
            for rate in tier.rates
        ],
        "criteria": [
            {
                "metric": criterion.metric,
                "equals": criterion.equals,
                "over": None if criterion.over is None else str(criterion.over),
                "up_to": None if criterion.up_to is None else str(criterion.up_to),
            }
            for criterion in tier.criteria
        ],
    }


def _tier(record: Mapping[str, Any]) -> Tier:
    rates = tuple(
        Rate(tuple(rate["metrics"]), Decimal(rate["usd"]), rate["per"]) for rate in record["rates"]
    )
    criteria = tuple(
        Criterion(
            metric=criterion["metric"],
            equals=criterion["equals"],
            over=None if criterion["over"] is None else Decimal(criterion["over"]),
            up_to=None if criterion["up_to"] is None else Decimal(criterion["up_to"]),
        )
        for criterion in record["criteria"]
    )
    return Tier(rates, criteria)


def _write(value: Scalar) -> Any:
    """Decimals as {"decimal": "..."}: a JSON number would lose digits, a string its kind."""
    return {"decimal": str(value)} if isinstance(value, Decimal) else value


def _read(value: Any) -> Scalar:
    if isinstance(value, Mapping):
        return Decimal(value["decimal"])
    if isinstance(value, str | bool | int):
        return value
    raise ValueError("a selector must be a word, a bool or a number")
