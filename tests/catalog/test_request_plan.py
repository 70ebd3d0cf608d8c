"""A route's whole cost: screening, every output and every fallback under one bound."""

import pytest

from mediagate_server.catalog.catalog import Catalog
from mediagate_server.catalog.planning.fallback import FallbackChain
from mediagate_server.catalog.planning.request_plan import (
    RequestPlan,
    add_screening,
    screening_request,
)
from mediagate_server.catalog.pricing.prices import Estimate
from mediagate_server.catalog.request import Modality, ModelRequest
from mediagate_server.errors import MaxCostExceeded, PriceUnknown
from tests.catalog.builders import shipped_catalog

CATALOG = shipped_catalog()
IMAGE = ModelRequest(Modality.IMAGE, "flux-pro", {"prompt": "a cat", "count": 2})


def route(request: ModelRequest, catalog: Catalog = CATALOG) -> RequestPlan:
    """The route of a request that is screened."""
    return add_screening(
        request, screening_request(request), catalog.plan, catalog.plan_with_fallbacks
    )


def with_bound(most: int) -> ModelRequest:
    """The same request under a bound."""
    return ModelRequest(Modality.IMAGE, "flux-pro", IMAGE.parameters, max_cost_nanos=most)


def test_costs_are_summed_over_the_plan() -> None:
    """The least: a check and the first model; the most: the check and all models."""
    request_plan = route(IMAGE)
    assert request_plan.screening_plan is not None
    check = request_plan.screening_plan.estimate
    models = [plan.total_estimate for plan in request_plan.fallback_chain.plans]
    assert request_plan.plan.runs == 2
    assert len(models) > 1
    assert request_plan.estimate == Estimate(
        models[0].low + check.low,  # type: ignore[operator]
        models[0].expected + check.expected,  # type: ignore[operator]
        sum(model.maximum for model in models) + check.maximum,  # type: ignore[misc, operator]
    )


def test_the_screening_cost_counts_against_the_bound() -> None:
    """To the nano-dollar: the first model must fit into what is left; fallbacks go before it."""
    free = route(IMAGE)
    assert free.screening_plan is not None
    first = free.plan.total_estimate.maximum
    check = free.screening_plan.estimate.maximum
    assert first is not None
    assert check is not None
    tight = route(with_bound(first + check))
    assert tight.plan.slug == free.plan.slug
    assert tight.fallback_chain.plans[1:] == ()
    assert tight.fallback_chain.skipped
    with pytest.raises(MaxCostExceeded) as refused:
        route(with_bound(first + check - 1))
    metadata = refused.value.failure.metadata
    assert metadata["maximum_usd_nanos"] == str(first + check)
    assert metadata["max_cost_usd_nanos"] == str(first + check - 1)
    with pytest.raises(MaxCostExceeded):
        route(with_bound(check - 1))


def test_an_unknown_part_makes_the_whole_unknown() -> None:
    """And a bound on it cannot be kept."""
    plan = CATALOG.plan(IMAGE)
    sure = shipped_catalog(assumed=False)
    unknown = RequestPlan(FallbackChain((plan,)), screening_plan=sure.plan(_music()))
    assert unknown.estimate == Estimate(None, None, None)
    request = with_bound(10**12)
    check = screening_request(request)
    with pytest.raises(PriceUnknown):
        add_screening(request, check, lambda _: sure.plan(_music()), CATALOG.plan_with_fallbacks)
    assert RequestPlan(FallbackChain((plan,)), screening_plan=CATALOG.plan(_music())).is_assumed
    assert not RequestPlan(FallbackChain((plan,))).is_assumed


def test_a_request_without_text_has_no_screening() -> None:
    """The route is that of the request alone, and says so."""
    request = ModelRequest(Modality.IMAGE, "flux-pro", {"prompt": " "})
    chain = FallbackChain((CATALOG.plan(IMAGE),))
    request_plan = add_screening(request, screening_request(request), CATALOG.plan, lambda _: chain)
    assert request_plan.screening_plan is None
    assert request_plan.not_screened
    assert not route(IMAGE).not_screened


def _music() -> ModelRequest:
    """Something whose price nobody knows."""
    return ModelRequest(Modality.AUDIO, "sepal/audiogen", {"prompt": "rain"})
