"""Budgets: periods, usage, reservations and refusals, and the port of their stored usage."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from mediagate_server.config.tenants import Budget
from mediagate_server.errors import BudgetExceeded, MediagateError, PriceUnknown

THRESHOLDS: Final = (50, 80, 100)
"""Percent spent at which a threshold event is written, once per period and limit."""

BudgetsOfTenant = Callable[[str], Sequence[Budget]]
"""The configured budgets of a tenant. Called by the writer thread."""


def no_budgets(_tenant: str) -> Sequence[Budget]:
    """No tenant has a budget."""
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
    """The day, month or total that a moment is in."""
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
    """Usage of a budget in one period, in nano-dollars.

    `spent` is the sum of settled charges, assumed ones included. `held` is reserved by running
    attempts, and by those that ended without a known cost, which may have cost as much. `limit` is
    the one in force.
    """

    budget: Budget
    span: BudgetPeriod
    limit: int
    spent: int = 0
    held: int = 0

    def has_room(self, nanos: int) -> bool:
        """Whether so much more fits into the limit."""
        return self.spent + self.held + nanos <= self.limit


@dataclass(frozen=True, slots=True)
class Reservation:
    """An amount to be reserved in every budget that applies, in nano-dollars.

    `unpriced` is a model whose price is unknown; empty: all prices are known.
    """

    nanos: int = 0
    unpriced: str = ""

    def exceeds(self, use: BudgetUsage) -> bool:
        """Whether it does not fit into a budget. A reservation of nothing always fits."""
        return bool(self.unpriced) or (self.nanos > 0 and not use.has_room(self.nanos))

    def refusal(self, tenant: str, use: BudgetUsage) -> MediagateError:
        """The error of a reservation that does not fit."""
        if self.unpriced:
            return _unpriced(tenant, use, self.unpriced)
        return _exceeded(tenant, use, self.nanos)


@dataclass(frozen=True, slots=True)
class BudgetUpdate:
    """Change of one budget by one commit, for metrics: its usage, and thresholds first reached."""

    tenant: str
    usage: BudgetUsage
    threshold_events: tuple[int, ...] = ()
    refused: bool = False


def matches_labels(budget: Budget, labels: Mapping[str, str]) -> bool:
    """Whether a budget applies to calls with these labels."""
    if budget.label is None:
        return True
    key, value = budget.label
    return labels.get(key) == value


def _exceeded(tenant: str, use: BudgetUsage, nanos: int) -> BudgetExceeded:
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
            "asked_usd_nanos": str(nanos),
            **renews,
        },
    )


def _unpriced(tenant: str, use: BudgetUsage, model: str) -> PriceUnknown:
    return PriceUnknown(
        f"what {model} may cost is not known, and the budget {use.budget.name!r} bounds the call",
        metadata={"model": model, "tenant": tenant, "budget": use.budget.name},
    )


class BudgetStore(Protocol):
    """Stored usage of budgets. All methods raise StoreUnavailable; writes, StaleOwner."""

    async def budgets(
        self, tenant: str, budgets: Sequence[Budget], now: datetime
    ) -> tuple[BudgetUsage, ...]:
        """Usage of a tenant's budgets in the current periods, in the order given."""
        ...

    async def check_budgets(
        self, tenant: str, labels: Mapping[str, str], reservation: Reservation, now: datetime
    ) -> None:
        """Raise what `accept` would raise for this reservation of a call with these labels.

        Nothing is written: what fits now may not fit any more when it is sent.
        """
        ...

    async def override_budget(
        self, tenant: str, budget: str, limit_nanos: int, expires: datetime
    ) -> None:
        """Replace a budget's configured limit until then."""
        ...
