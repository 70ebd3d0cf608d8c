"""Inputs that a price goes by, under a schema that allows anything: priced, or refused by name."""

import math
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from mediagate_server.catalog.models.model import Model
from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.catalog.planning.run_any_model import plan_model_run
from mediagate_server.catalog.pricing.cost_estimate import MAX_UNITS
from mediagate_server.catalog.pricing.prices import MAX_RUN_NANOS
from mediagate_server.catalog.published_models import PublishedModelVersion
from mediagate_server.catalog.request import Modality, ModelRequest, RunRequest
from mediagate_server.catalog.schemas.openapi import ModelSchema
from mediagate_server.errors import InvalidRequest
from tests.catalog.builders import shipped_catalog

LLAMA = "meta/meta-llama-3-70b-instruct"
ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    5,
    5.5,
    -0.0,
    5e-324,
    1e300,
    9e15,
    2**53,
    2**63,
    10**400,
    math.nan,
    math.inf,
    "",
    "5s",
    "5",
    "720p",
    "9" * 5_000,
    "1" * 5_000 + " MP",
    "NaN",
    "x" * 100_000,
    "٣ MP",
    [],
    [5],
    ["a", None, {}],
    {},
    {"value": 5},
    [[[]]],
)
PRICED = tuple(model for model in shipped_catalog().models() if model.price.tiers)


def run_of(model: Model, given: dict[str, Any]) -> Plan:
    """The plan of a run of it, by a schema that says nothing."""
    runnable = PublishedModelVersion(
        model.slug, model.target, model.slug, ModelSchema({}), is_official=True
    )
    request = RunRequest(model.slug, given, {}, 600.0)
    return plan_model_run(request, runnable, model, problems={})


def numbers_in(plan: Plan) -> Iterator[int]:
    """What is known of its cost."""
    estimate = plan.total_estimate
    yield from (
        nanos for nanos in (estimate.low, estimate.expected, estimate.maximum) if nanos is not None
    )


@pytest.mark.parametrize("model", PRICED, ids=lambda model: model.slug)
def test_any_input_value_is_priced_or_refused_by_name(model: Model, seed: int) -> None:
    """Each input with each odd value, and many at once."""
    random = Random(seed)
    cases = [{name: value} for name in model.inputs for value in ODD]
    for _ in range(200):
        names = random.sample(sorted(model.inputs), random.randint(1, len(model.inputs)))
        cases.append({name: random.choice(ODD) for name in names})
    for given in cases:
        try:
            plan = run_of(model, given)
        except InvalidRequest as refused:
            for violation in refused.failure.violations:
                assert violation.field.removeprefix("input.") in given
                assert violation.description
        else:
            assert all(0 <= amount <= MAX_RUN_NANOS for amount in numbers_in(plan))
            assert all(len(str(value)) < 1_000 for value in plan.price.sent.values())


def test_excessive_token_counts_are_refused_by_name() -> None:
    """Nine million billion tokens, which reserved more than 64 bits hold."""
    model = next(priced for priced in PRICED if priced.slug == LLAMA)
    with pytest.raises(InvalidRequest) as refused:
        run_of(model, {"prompt": "x", "max_tokens": int(9e15)})
    assert [violation.field for violation in refused.value.failure.violations] == [
        "input.max_tokens"
    ]
    with pytest.raises(InvalidRequest, match="more than 1,000,000 dollars"):
        run_of(model, {"prompt": "x", "max_tokens": MAX_UNITS})
    plan = run_of(model, {"prompt": "x", "max_tokens": 4_096})
    assert plan.estimate.maximum


def test_an_excessive_field_of_a_catalog_model_is_named() -> None:
    """Whether it is a field of the contract or one of the model's own inputs."""
    catalog = shipped_catalog()
    dear = next(
        model
        for model in catalog.models(Modality.TEXT)
        if model.inputs["max_tokens" if "max_tokens" in model.inputs else "prompt"].max is None
        and "max_tokens" in model.inputs
    )
    huge = 10**14
    request = ModelRequest(
        Modality.TEXT, dear.slug, {"prompt": "x", "max_output_tokens": huge}, fallback=None
    )
    with pytest.raises(InvalidRequest) as refused:
        catalog.plan_with_fallbacks(request)
    assert [violation.field for violation in refused.value.failure.violations] == [
        "max_output_tokens"
    ]


@pytest.mark.parametrize("given", [{}, {"resolution": None}])
def test_a_null_input_counts_as_absent(given: dict[str, Any]) -> None:
    """Priced by the model's own default."""
    model = next(priced for priced in PRICED if "resolution" in priced.inputs)
    assert (
        run_of(model, {"prompt": "x", **given}).estimate == run_of(model, {"prompt": "x"}).estimate
    )
