"""All that a request may set going: a check, then a chain of models; and what it may cost in sum.

Admission, estimates and the runs themselves go by the same Route, so they cannot disagree. Pure.
"""

from collections.abc import Callable
from typing import TypeVar

from msgspec import Struct

from mediagate_server.catalog.chains import Candidates
from mediagate_server.catalog.plan import Plan
from mediagate_server.catalog.prices import Estimate
from mediagate_server.catalog.request import ModelRequest, RunRequest
from mediagate_server.catalog.screening import NOTHING_TO_SCREEN
from mediagate_server.errors import MaxCostExceeded, PriceUnknown
from mediagate_server.replacing import replace

Asked = TypeVar("Asked", ModelRequest, RunRequest)


class Route(Struct, frozen=True):
    """`screening` is the check that comes first; None where there is none. `not_screened` says why
    there is none although one was asked for.
    """

    candidates: Candidates
    screening: Plan | None = None
    not_screened: str = ""

    @property
    def plan(self) -> Plan:
        """What is tried first."""
        return self.candidates.plans[0]

    @property
    def is_assumed(self) -> bool:
        """Whether a price is among those of the estimate that is only assumed."""
        screening = () if self.screening is None else (self.screening,)
        return any(plan.price.assumed for plan in (*screening, *self.candidates.plans))

    @property
    def estimate(self) -> Estimate:
        """The sum over screening, every output and every fallback."""
        chain = self.candidates.estimate
        if self.screening is None:
            return chain
        check = self.screening.estimate
        return Estimate(
            _sum(chain.low, check.low),
            _sum(chain.expected, check.expected),
            _sum(chain.maximum, check.maximum),
        )


def screened(
    request: Asked,
    check: ModelRequest | None,
    plan_check: Callable[[ModelRequest], Plan],
    plan_chain: Callable[[Asked], Candidates],
) -> Route:
    """The route of a request whose words are to be checked first, by `check`: see `screening`.

    What the check may cost is taken off the bound that the rest is planned under. Raises what the
    two plans raise, and PriceUnknown or MaxCostExceeded where the check alone breaks the bound.
    """
    if check is None:
        return Route(plan_chain(request), not_screened=NOTHING_TO_SCREEN)
    screening = plan_check(check)
    if request.max_cost_nanos is None:
        return Route(plan_chain(request), screening)
    most = screening.estimate.maximum
    if most is None:
        raise PriceUnknown(
            f"what {screening.slug} may cost is not known", metadata={"model": screening.slug}
        )
    left = request.max_cost_nanos - most
    if left < 0:
        raise _too_dear(screening, most, request.max_cost_nanos)
    try:
        chain = plan_chain(replace(request, max_cost_nanos=left))
    except MaxCostExceeded as error:
        # Told by the bound that the caller set, not by what was left of it.
        known = error.failure.metadata.get("maximum_usd_nanos", "0")
        raise _too_dear(screening, most + int(known), request.max_cost_nanos) from error
    return Route(chain, screening)


def _too_dear(screening: Plan, most: int, bound: int) -> MaxCostExceeded:
    return MaxCostExceeded(
        "a call and its screening may cost more than max_cost_usd_nanos",
        metadata={
            "screening_model": screening.slug,
            "maximum_usd_nanos": str(most),
            "max_cost_usd_nanos": str(bound),
        },
    )


def _sum(one: int | None, other: int | None) -> int | None:
    """Unknown where either is."""
    return None if one is None or other is None else one + other
