"""Metrics and logs of budgets. Labels are names of the configuration, so they are bounded."""

from collections.abc import Callable, Iterable
from datetime import datetime

import structlog

from mediagate_server.config.tenants import Tenant
from mediagate_server.errors import StoreUnavailable
from mediagate_server.observability import metrics
from mediagate_server.store.budgets import BudgetStore, BudgetUpdate

_log = structlog.get_logger()


def record_budget_metrics(updates: Iterable[BudgetUpdate]) -> None:
    """Count refusals and reached thresholds of a commit."""
    for update in updates:
        name = update.usage.budget.name
        if update.refused:
            shadow = str(update.usage.budget.shadow).lower()
            metrics.budget_refusals.labels(update.tenant, name, shadow).inc()
        for percent in update.threshold_events:
            metrics.budget_threshold_events.labels(update.tenant, name, str(percent)).inc()
            _log.warning(
                "budget_threshold_reached",
                tenant=update.tenant,
                budget=name,
                span=update.usage.span.name,
                percent=percent,
            )


async def refresh_budget_gauges(
    store: BudgetStore, tenants: Callable[[], Iterable[Tenant]], now: Callable[[], datetime]
) -> None:
    """Set the gauges to the usage of all configured budgets, and remove all others.

    Read regularly and not updated by commits, because a restart, an override, a reload and midnight
    change them as well. While the store is unavailable they keep their values.
    """
    try:
        usages = [
            (tenant.id, await store.budgets(tenant.id, tenant.budgets, now()))
            for tenant in tenants()
            if tenant.budgets
        ]
    except StoreUnavailable:
        return
    metrics.budget_nanos.clear()
    for tenant, tenant_usages in usages:
        for use in tenant_usages:
            amounts = {"limit": use.limit, "spent": use.spent, "held": use.held}
            for amount, nanos in amounts.items():
                metrics.budget_nanos.labels(tenant, use.budget.name, amount).set(nanos)
