"""What is asked of the ledger, and what it answers: single charges, and totals of them.

A charge is the settled line of one attempt, with whose it was and what for. It stands for itself:
it outlives the generation that it came of.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from mediagate_server.store.records import Cost


class GroupBy(StrEnum):
    """What to add up by."""

    TENANT = "tenant"
    MODEL = "model"
    MODALITY = "modality"
    LABEL = "label"
    DAY = "day"
    TIER = "tier"
    PRICE_DATE = "price_date"


@dataclass(frozen=True, slots=True)
class ChargeFilter:
    """Which charges. Empty fields match all. Times are aware; `settled_before` is left out."""

    tenant: str = ""
    models: tuple[str, ...] = ()
    modality: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    settled_from: datetime | None = None
    settled_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class UsageTotals:
    """What was used, in whole numbers, so that sums are exact; None where nothing was reported."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    input_characters: int | None = None
    images: int | None = None
    media_nanos: int | None = None
    run_nanos: int | None = None


@dataclass(frozen=True, slots=True)
class ChargePosition:
    """Where a page of charges ended: the next one goes on below it."""

    settled_us: int
    line: int


@dataclass(frozen=True, slots=True)
class Charge:
    """What one attempt cost. `at` is its place in the order of all charges.

    `tier` says in words when the row of the price holds that it was charged by; empty: always.
    """

    at: ChargePosition
    generation_id: str
    ordinal: int
    tenant: str
    model: str
    modality: str
    cost: Cost
    tier: str
    used: UsageTotals
    settled_at: datetime
    labels: Mapping[str, str]
    prediction_id: str


@dataclass(frozen=True, slots=True)
class ChargeTotal:
    """Charges of one group, added up. Amounts are in nano-dollars, and exact.

    `group` holds the value of each dimension asked for, in the order asked; of a day YYYY-MM-DD.
    What was assumed is not in `settled_nanos`; what is unknown is counted, and in no sum.
    """

    group: tuple[str, ...]
    charges: int
    generations: int
    settled_nanos: int
    assumed_nanos: int
    unknown_charges: int
    used: UsageTotals
