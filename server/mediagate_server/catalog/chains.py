"""Which models take over where one fails: the plans to try, in order, and who is left out and why.

A link is left out where it cannot take the request, above all its media and words, is weaker in
safety class, would not be over in time, or would go over the bound of cost. Nothing here runs
anything.
"""

from collections.abc import Callable, Iterable

from msgspec import Struct

from mediagate_server.catalog.model import Model
from mediagate_server.catalog.own_inputs import PATH, dropped_own_inputs
from mediagate_server.catalog.plan import Plan
from mediagate_server.catalog.prices import Estimate
from mediagate_server.catalog.request import ModelRequest
from mediagate_server.errors import MediagateError
from mediagate_server.replacing import replace

PlanFor = Callable[[Model, ModelRequest], Plan]


class Skipped(Struct, frozen=True):
    """A model that will not take over, by the name that the chain gives it, and why."""

    model: str
    reason: str


class Candidates(Struct, frozen=True):
    """The plans to try, in order: the first is the call's own, there is always one.

    Where that takes several runs, each of the others makes one output in one run.

    `after_content_refusal`: go on also where one refuses the content.
    """

    plans: tuple[Plan, ...]
    skipped: tuple[Skipped, ...] = ()
    after_content_refusal: bool = False

    @property
    def estimate(self) -> Estimate:
        """What the whole may cost: as a rule the first alone, at the most all of them."""
        first = self.plans[0].whole
        most = [plan.whole.maximum for plan in self.plans]
        known = [amount for amount in most if amount is not None]
        return Estimate(first.low, first.expected, sum(known) if len(known) == len(most) else None)


Usual = Callable[[Plan], float]
"""How many seconds a run of a plan takes as a rule."""


def usual_of(plan: Plan) -> float:
    """By the catalog."""
    return float(plan.usual_run)


def can_finish(plan: Plan, seconds: float, usual: Usual = usual_of) -> bool:
    """Whether a run of this plan would be over, as a rule, within what is left of the timeout."""
    return usual(plan) <= seconds


def next_that_fits(
    plans: tuple[Plan, ...], model: str, seconds: float, usual: Usual = usual_of
) -> Plan | None:
    """Who takes over from this model's plan and would be over in time; None: nobody."""
    models = [plan.slug for plan in plans]
    if model not in models:
        return None
    behind = plans[models.index(model) + 1 :]
    return next((plan for plan in behind if can_finish(plan, seconds, usual)), None)


def for_each_run(request: ModelRequest, runs: int) -> ModelRequest:
    """What one output of several is asked for by, within its share of the bound."""
    if runs == 1:
        return request
    most = request.max_cost_nanos
    return replace(
        request,
        parameters={**request.parameters, "count": 1},
        max_cost_nanos=None if most is None else most // runs,
    )


def candidates(
    first: Plan,
    head: Model,
    links: Iterable[tuple[str, Model]],
    request: ModelRequest,
    plan_for: PlanFor,
) -> Candidates:
    """The chain behind `first`, a plan of the model `head`, along `links` (name and model)."""
    plans, skipped = [first], list[Skipped]()
    for name, model in links:
        plan, reason = None, _why_never(model, head, plans)
        if not reason:
            try:
                plan = plan_for(model, _asked_of_others(request, name))
            except MediagateError as error:
                reason = error.failure.message
            else:
                own = dropped_own_inputs(request.model_parameters, plan.slug)
                plan = replace(plan, report=(*plan.report, *own)) if own else plan
                reason = _why_not(plan, plans, request)
        if plan is None or reason:
            skipped.append(Skipped(name, reason))
        else:
            plans.append(plan)
    insists = request.fallback is not None and request.fallback.after_content_refusal
    return Candidates(tuple(plans), tuple(skipped), after_content_refusal=insists)


def _asked_of_others(request: ModelRequest, name: str) -> ModelRequest:
    """The request as it is put to a link: inputs of the first model's own mean nothing to it."""
    return replace(request, model=name, max_cost_nanos=None, model_parameters={}, takes_over=True)


def _why_never(model: Model, head: Model, before: list[Plan]) -> str:
    """Why a model cannot take over whatever the request is; empty where it may."""
    if model.slug in {plan.slug for plan in before}:
        return "it is in the chain already"
    if model.safety.rank < head.safety.rank:
        return f"weaker in safety class than {head.slug}"
    return ""


def _why_not(plan: Plan, before: list[Plan], request: ModelRequest) -> str:
    """Why a link cannot take over; empty where it can."""
    if plan.slug in {each.slug for each in before}:
        return "it is in the chain already"
    if request.strict and request.model_parameters:
        return f"cannot take {PATH}, which are of the model asked for"
    if request.timeout and not can_finish(plan, request.timeout):
        return f"takes {plan.usual_run} s as a rule, more than the timeout"
    if request.max_cost_nanos is None:
        return ""
    most = [each.whole.maximum for each in (*before, plan)]
    if plan.estimate.maximum is None:
        return "what it may cost is not known, and the cost of the call is bounded"
    if sum(amount for amount in most if amount is not None) > request.max_cost_nanos:
        return "it could bring the cost of the call over max_cost_usd_nanos"
    return ""
