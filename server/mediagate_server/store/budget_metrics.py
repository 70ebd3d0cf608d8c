"""What metrics and logs are told of budgets. Tenants and budgets are names of the configuration."""

from collections.abc import Iterable

import structlog

from mediagate_server import telemetry
from mediagate_server.store.budgets import Moved

_log = structlog.get_logger()


def tell_of(moved: Iterable[Moved]) -> None:
    """A commit moved these budgets, or was refused by one."""
    for one in moved:
        name = one.use.budget.name
        amounts = {"limit": one.use.limit, "spent": one.use.spent, "held": one.use.held}
        for amount, nanos in amounts.items():
            telemetry.budget_nanos.labels(one.tenant, name, amount).set(nanos)
        if one.refused:
            shadow = str(one.use.budget.shadow).lower()
            telemetry.budget_refusals.labels(one.tenant, name, shadow).inc()
        for percent in one.crossed:
            telemetry.budget_crossings.labels(one.tenant, name, str(percent)).inc()
            _log.warning(
                "budget used",
                tenant=one.tenant,
                budget=name,
                span=one.use.span.name,
                percent=percent,
            )
