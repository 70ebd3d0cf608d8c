"""What was spent, as each of those says who counts it: all of them must say the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mediagate.v1 import admin_pb2, admin_pb2_grpc, cost_pb2, generation_pb2, usage_pb2
from mediagate_client import AsyncClient

EVERYBODY = "*"
GROUPS = ("tenant", "model", "modality", "label", "day", "price")


@dataclass(frozen=True)
class SpendTotals:
    """Nano-dollars that are settled, and by assumed prices; how many charges, how many unknown."""

    settled: int = 0
    assumed: int = 0
    charges: int = 0
    unknown: int = 0

    @property
    def known_nanos(self) -> int:
        """What a budget counts."""
        return self.settled + self.assumed

    def __add__(self, other: SpendTotals) -> SpendTotals:
        return SpendTotals(
            self.settled + other.settled,
            self.assumed + other.assumed,
            self.charges + other.charges,
            self.unknown + other.unknown,
        )


def of_costs(costs: Iterable[cost_pb2.Cost]) -> SpendTotals:
    """The sum of single costs."""
    total = SpendTotals()
    for cost in costs:
        amounts = {cost_pb2.COST_STATE_SETTLED: (1, 0), cost_pb2.COST_STATE_ASSUMED: (0, 1)}
        settled, assumed = amounts.get(cost.state, (0, 0))
        is_unknown = cost.state == cost_pb2.COST_STATE_UNKNOWN
        assert settled + assumed + is_unknown == 1, cost
        nanos = cost.usd_nanos
        total += SpendTotals(settled * nanos, assumed * nanos, 1, int(is_unknown))
    return total


def of_totals(totals: Iterable[usage_pb2.UsageTotal]) -> SpendTotals:
    """The sum of the server's own sums."""
    return sum(
        (
            SpendTotals(
                total.settled_usd_nanos,
                total.assumed_usd_nanos,
                total.charges,
                total.unknown_charges,
            )
            for total in totals
        ),
        SpendTotals(),
    )


def of_generations(generations: Iterable[generation_pb2.Generation]) -> SpendTotals:
    """The sum of what the attempts cost that upstream took."""
    return of_costs(
        attempt.cost
        for generation in generations
        for attempt in generation.attempts
        if attempt.prediction_id
    )


async def charges_of(client: AsyncClient, tenant: str) -> list[usage_pb2.Charge]:
    """Every charge of a tenant, over many pages."""
    return [charge async for charge in client.list_charges(page_size=37, tenant=tenant)]


async def spent_by_all_accounts(client: AsyncClient, tenant: str = EVERYBODY) -> SpendTotals:
    """What the charges come to, and their totals by whatever they are grouped."""
    spent = of_costs(charge.cost for charge in await charges_of(client, tenant))
    for groups in ((), *((group,) for group in GROUPS), ("tenant", "label", "model")):
        totals = await client.get_usage(
            group_by=groups,  # type: ignore[arg-type]
            label_key="team" if "label" in groups else "",
            tenant=tenant,
        )
        assert of_totals(totals) == spent, groups
    return spent


def billed(bill: Any) -> int:
    """What upstream asks for, which must have ended all that it runs."""
    assert all(entry["nanos"] is not None or entry["unpriced"] for entry in bill["entries"])
    assert sum(entry["nanos"] or 0 for entry in bill["entries"]) == bill["total_nanos"]
    return int(bill["total_nanos"])


async def budgets_of(
    admin: admin_pb2_grpc.AdminServiceAsyncStub, tenant: str
) -> dict[str, admin_pb2.Budget]:
    """How a tenant's budgets stand, by name."""
    answer = await admin.GetTenant(admin_pb2.GetTenantRequest(id=tenant))
    return {budget.name: budget for budget in answer.tenant.budgets}


def with_label(
    generations: Iterable[generation_pb2.Generation], key: str, value: str
) -> list[generation_pb2.Generation]:
    """Those that count in a budget of a label; an empty key: all."""
    return [
        generation
        for generation in generations
        if not key or dict(generation.labels).get(key) == value
    ]
