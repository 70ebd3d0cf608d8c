"""Fallback chain: the plans to try in order, the models skipped, and how long each may run.

A model is skipped where it cannot take the request, above all its media and words, is weaker in
safety class, would not finish in time, or would exceed the cost limit. Nothing here runs anything.

Deadline propagation: each model gets its usual run time first, then up to its longest, and the rest
in proportion. Where the timeout has no room for another model's usual run besides the own, none is
reserved.
"""

from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from mediagate_server.catalog.models.model import Model
from mediagate_server.catalog.planning.model_parameters import (
    MODEL_PARAMETERS_PATH,
    dropped_model_parameters,
)
from mediagate_server.catalog.planning.plan import Plan, PlanModel
from mediagate_server.catalog.pricing.prices import Estimate
from mediagate_server.catalog.request import ModelRequest
from mediagate_server.errors import MediagateError
from mediagate_server.structs import replace

UsualDuration = Callable[[Plan], float]
"""Usual run time of a plan, in seconds."""
_HANDOVER_SECONDS: Final = 2.0
"""Seconds to cancel and settle an abandoned run before the next one is sent."""


class SkippedModel(Struct, frozen=True):
    """A model left out of the fallback chain, by its name in the chain, and the reason."""

    model: str
    reason: str


class FallbackChain(Struct, frozen=True):
    """A fallback chain: plans in the order in which they are tried, never empty.

    Where the first plan takes several runs, each of the others makes one output in one run.

    `after_content_refusal`: fall back also where a model refuses the content.
    """

    plans: tuple[Plan, ...]
    skipped: tuple[SkippedModel, ...] = ()
    after_content_refusal: bool = False

    @property
    def estimate(self) -> Estimate:
        """Cost estimate of the chain: usually the first plan alone, at most all of them."""
        first = self.plans[0].total_estimate
        maxima = [plan.total_estimate.maximum for plan in self.plans]
        amounts = [amount for amount in maxima if amount is not None]
        maximum = sum(amounts) if len(amounts) == len(maxima) else None
        return Estimate(first.low, first.expected, maximum)


def usual_duration(plan: Plan) -> float:
    """Usual run time in seconds, from the catalog."""
    return float(plan.usual_run)


def can_finish_in_time(
    plan: Plan, seconds: float, duration_of: UsualDuration = usual_duration
) -> bool:
    """Whether a run of usual length would finish within the seconds left of the timeout."""
    return duration_of(plan) <= seconds


def next_fallback(
    plans: tuple[Plan, ...], model: str, seconds: float, duration_of: UsualDuration = usual_duration
) -> Plan | None:
    """The next fallback after `model` that would finish within `seconds`; None if there is none."""
    models = [plan.slug for plan in plans]
    if model not in models:
        return None
    later_plans = plans[models.index(model) + 1 :]
    return next(
        (plan for plan in later_plans if can_finish_in_time(plan, seconds, duration_of)), None
    )


def share_cost_limit(request: ModelRequest, runs: int) -> ModelRequest:
    """Request for one of several outputs, with its share of the cost limit."""
    if runs == 1:
        return request
    limit = request.max_cost_nanos
    return replace(
        request,
        parameters={**request.parameters, "count": 1},
        max_cost_nanos=None if limit is None else limit // runs,
    )


def build_fallback_chain(
    first: Plan,
    first_model: Model,
    links: Iterable[tuple[str, Model]],
    request: ModelRequest,
    plan_model: PlanModel,
) -> FallbackChain:
    """Chain that starts with `first`, the plan of `first_model`; `links` are names and models."""
    plans, skipped = [first], list[SkippedModel]()
    for name, model in links:
        plan, reason = None, _permanent_skip_reason(model, first_model, plans)
        if not reason:
            try:
                plan = plan_model(model, _fallback_request(request, name))
            except MediagateError as error:
                reason = error.failure.message
            else:
                dropped = dropped_model_parameters(request.model_parameters, plan.slug)
                plan = replace(plan, report=(*plan.report, *dropped)) if dropped else plan
                reason = _skip_reason(plan, plans, request)
        if plan is None or reason:
            skipped.append(SkippedModel(name, reason))
        else:
            plans.append(plan)
    after_refusal = request.fallback is not None and request.fallback.after_content_refusal
    return FallbackChain(tuple(plans), tuple(skipped), after_content_refusal=after_refusal)


def _fallback_request(request: ModelRequest, name: str) -> ModelRequest:
    """The request for a fallback model, to which the first one's own parameters mean nothing."""
    return replace(request, model=name, max_cost_nanos=None, model_parameters={}, is_fallback=True)


def _permanent_skip_reason(model: Model, first_model: Model, previous: list[Plan]) -> str:
    """Why a model cannot be a fallback of any request; empty where it can."""
    if model.slug in {plan.slug for plan in previous}:
        return "it is in the chain already"
    if model.safety.rank < first_model.safety.rank:
        return f"weaker in safety class than {first_model.slug}"
    return ""


def _skip_reason(plan: Plan, previous: list[Plan], request: ModelRequest) -> str:
    """Why a plan cannot be a fallback of this request; empty where it can."""
    if plan.slug in {each.slug for each in previous}:
        return "it is in the chain already"
    if request.strict and request.model_parameters:
        return f"cannot take {MODEL_PARAMETERS_PATH}, which are of the model asked for"
    if request.timeout and not can_finish_in_time(plan, request.timeout):
        return f"takes {plan.usual_run} s as a rule, more than the timeout"
    if request.max_cost_nanos is None:
        return ""
    maxima = [each.total_estimate.maximum for each in (*previous, plan)]
    if plan.estimate.maximum is None:
        return "what it may cost is not known, and the cost of the call is bounded"
    if sum(amount for amount in maxima if amount is not None) > request.max_cost_nanos:
        return "it could bring the cost of the call over max_cost_usd_nanos"
    return ""


def model_time_share(
    plans: tuple[Plan, ...],
    model: str,
    seconds: float,
    *,
    shortest: float,
    duration_of: UsualDuration = usual_duration,
) -> float | None:
    """Seconds of those left that this model's run may take; None: all, there is no fallback.

    `plans` are the chain, `shortest` is the shortest timeout that upstream accepts,
    `duration_of` gives the usual run time of a plan.
    """
    models = [plan.slug for plan in plans]
    if model not in models:
        return None
    at = models.index(model)
    usual_shares = [max(duration_of(plans[at]), shortest)]
    longest_shares = [max(float(plans[at].max_run), usual_shares[0])]
    for plan in plans[at + 1 :]:
        needed = max(duration_of(plan), shortest) + _HANDOVER_SECONDS
        if sum(usual_shares) + needed <= seconds:
            usual_shares.append(needed)
            longest_shares.append(max(plan.max_run + _HANDOVER_SECONDS, needed))
    if len(usual_shares) == 1:
        return None
    spread = sum(longest_shares) - sum(usual_shares)
    if spread and seconds < sum(longest_shares):
        rest = seconds - sum(usual_shares)
        return usual_shares[0] + rest * (longest_shares[0] - usual_shares[0]) / spread
    return seconds * longest_shares[0] / sum(longest_shares)
