"""Budgets as the store sees them: their periods, how they stand, and what is refused. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from mediagate_server.config.tenants import Budget
from mediagate_server.errors import BudgetExceeded, MediagateError, PriceUnknown

THRESHOLDS: Final = (50, 80, 100)
"""Percent of a budget that, once spent, are told once in each period at each limit."""

BudgetsOfTenant = Callable[[str], Sequence[Budget]]
"""The budgets of a tenant now. Asked by the thread that writes."""


def no_budgets(_tenant: str) -> Sequence[Budget]:
    """For a store whose tenants have none."""
    return ()


@dataclass(frozen=True, slots=True)
class BudgetPeriod:
    """One day, one month or all time, in UTC: `begins` up to but not including `ends`.

    `name` is `2026-11-24`, `2026-11` or `total`.
    """

    name: str
    begins: datetime
    ends: datetime


def period_of(period: str, moment: datetime) -> BudgetPeriod:
    """The span of a budget's period that a moment is in."""
    day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        return BudgetPeriod(f"{day:%Y-%m-%d}", day, day + timedelta(days=1))
    if period == "month":
        first = day.replace(day=1)
        return BudgetPeriod(f"{first:%Y-%m}", first, (first + timedelta(days=31)).replace(day=1))
    return BudgetPeriod(
        "total", datetime.min.replace(tzinfo=UTC), datetime.max.replace(microsecond=0, tzinfo=UTC)
    )


@dataclass(frozen=True, slots=True)
class BudgetUsage:
    """How a budget stands in a span, in nano-dollars.

    `spent` is what is settled, assumed prices included. `held` is reserved by what runs, and by
    what ended without a known cost: that may have cost as much. `limit` is the one in force.
    """

    budget: Budget
    span: BudgetPeriod
    limit: int
    spent: int = 0
    held: int = 0

    def has_room(self, nanos: int) -> bool:
        """Whether so much more fits in."""
        return self.spent + self.held + nanos <= self.limit


@dataclass(frozen=True, slots=True)
class Reservation:
    """What is asked of every budget that counts: so many nano-dollars more.

    `unpriced` is a model whose run may cost nobody knows what; empty: all is known.
    """

    nanos: int = 0
    unpriced: str = ""

    def exceeds(self, use: BudgetUsage) -> bool:
        """Whether it does not fit in. What asks for nothing more always does."""
        return bool(self.unpriced) or (self.nanos > 0 and not use.has_room(self.nanos))

    def refusal(self, tenant: str, use: BudgetUsage) -> MediagateError:
        """What a caller is told where it does not."""
        if self.unpriced:
            return _unpriced(tenant, use, self.unpriced)
        return _exceeded(tenant, use, self.nanos)


@dataclass(frozen=True, slots=True)
class ThresholdEvent:
    """A budget of which so many percent were spent; told once for each span and limit.

    `sequence` counts all of them, without a gap that ever fills.
    """

    sequence: int
    tenant: str
    budget: str
    span: str
    percent: int
    spent_nanos: int
    limit_nanos: int
    crossed_at: datetime


@dataclass(frozen=True, slots=True)
class BudgetUpdate:
    """What one commit did to one budget, for metrics: how it stands, and what it crossed."""

    tenant: str
    usage: BudgetUsage
    threshold_events: tuple[int, ...] = ()
    refused: bool = False


def matches_labels(budget: Budget, labels: Mapping[str, str]) -> bool:
    """Whether a call with these labels counts."""
    if budget.label is None:
        return True
    key, value = budget.label
    return labels.get(key) == value


def _exceeded(tenant: str, use: BudgetUsage, asked: int) -> BudgetExceeded:
    renews = {} if use.span.name == "total" else {"renews": use.span.ends.isoformat()}
    return BudgetExceeded(
        f"the call may cost more than is left of the budget {use.budget.name!r}",
        metadata={
            "tenant": tenant,
            "budget": use.budget.name,
            "period": use.budget.period,
            "limit_usd_nanos": str(use.limit),
            "spent_usd_nanos": str(use.spent),
            "reserved_usd_nanos": str(use.held),
            "asked_usd_nanos": str(asked),
            **renews,
        },
    )


def _unpriced(tenant: str, use: BudgetUsage, model: str) -> PriceUnknown:
    return PriceUnknown(
        f"what {model} may cost is not known, and the budget {use.budget.name!r} bounds the call",
        metadata={"model": model, "tenant": tenant, "budget": use.budget.name},
    )
