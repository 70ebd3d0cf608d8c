"""What metrics and logs are told of budgets. Tenants and budgets are names of the configuration."""

from collections.abc import Callable, Iterable
from datetime import datetime

import structlog

from mediagate_server.config.tenants import Tenant
from mediagate_server.errors import StoreUnavailable
from mediagate_server.observability import metrics
from mediagate_server.store.budgets import BudgetStore, BudgetUpdate

_log = structlog.get_logger()


def record_budget_metrics(moved: Iterable[BudgetUpdate]) -> None:
    """A commit moved these budgets, or was refused by one."""
    for one in moved:
        name = one.usage.budget.name
        if one.refused:
            shadow = str(one.usage.budget.shadow).lower()
            metrics.budget_refusals.labels(one.tenant, name, shadow).inc()
        for percent in one.threshold_events:
            metrics.budget_threshold_events.labels(one.tenant, name, str(percent)).inc()
            _log.warning(
                "budget_threshold_reached",
                tenant=one.tenant,
                budget=name,
                span=one.usage.span.name,
                percent=percent,
            )


async def refresh_budget_gauges(
    store: BudgetStore, tenants: Callable[[], Iterable[Tenant]], now: Callable[[], datetime]
) -> None:
    """Set the gauges to how each tenant's budgets stand now; what is configured no more is gone.

    Not by the commits that move them: a restart, an override, a reload and midnight change what
    is left as well. While the store is away they stay as they were.
    """
    try:
        standing = [
            (tenant.id, await store.budgets(tenant.id, tenant.budgets, now()))
            for tenant in tenants()
            if tenant.budgets
        ]
    except StoreUnavailable:
        return
    metrics.budget_nanos.clear()
    for tenant, uses in standing:
        for use in uses:
            amounts = {"limit": use.limit, "spent": use.spent, "held": use.held}
            for amount, nanos in amounts.items():
                metrics.budget_nanos.labels(tenant, use.budget.name, amount).set(nanos)
