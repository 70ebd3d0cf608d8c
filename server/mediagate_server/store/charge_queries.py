"""Ledger queries: charges, totals of charges, and the port that answers them.

A charge is the settled ledger line of one attempt, with its tenant, model and labels. It outlives
its generation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from mediagate_server.store.records import Cost


class GroupBy(StrEnum):
    """Dimensions that totals are grouped by."""

    TENANT = "tenant"
    MODEL = "model"
    MODALITY = "modality"
    LABEL = "label"
    DAY = "day"
    TIER = "tier"
    PRICE_DATE = "price_date"


@dataclass(frozen=True, slots=True)
class ChargeFilter:
    """Filter of charges. Empty fields match all; times are aware, `settled_before` is exclusive."""

    tenant: str = ""
    models: tuple[str, ...] = ()
    modality: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    settled_from: datetime | None = None
    settled_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class UsageTotals:
    """Sums of usage, in whole numbers so that they are exact; None where nothing was reported."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    input_characters: int | None = None
    images: int | None = None
    media_nanos: int | None = None
    run_nanos: int | None = None


@dataclass(frozen=True, slots=True)
class ChargePosition:
    """Pagination cursor of charges: the next page begins below it."""

    settled_us: int
    line: int


@dataclass(frozen=True, slots=True)
class Charge:
    """The cost of one attempt. `at` is its position in the order of all charges.

    `tier` is the condition, in words, of the price row that it was charged by; empty: none.
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
    """Sum of the charges of one group. Amounts are exact, in nano-dollars.

    `group` holds the value of each requested dimension, in that order; of a day YYYY-MM-DD.
    Assumed amounts are not in `settled_nanos`; unknown ones are counted, and in no sum.
    """

    group: tuple[str, ...]
    charges: int
    generations: int
    settled_nanos: int
    assumed_nanos: int
    unknown_charges: int
    used: UsageTotals


class LedgerStore(Protocol):
    """Queries of the ledger's settled lines. Every method raises StoreUnavailable."""

    async def charges(
        self, where: ChargeFilter, limit: int, after: ChargePosition | None
    ) -> tuple[Charge, ...]:
        """A page of charges, the last settled first, from below `after`."""
        ...

    async def totals(
        self, where: ChargeFilter, group_by: Sequence[GroupBy] = (), label_key: str = ""
    ) -> tuple[ChargeTotal, ...]:
        """Sums of charges, one for each group that has any, the most expensive first.

        `label_key` is the label that GroupBy.LABEL groups by; a charge without it is in the group
        of the empty value.
        """
        ...
