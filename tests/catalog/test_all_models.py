"""What must hold for every model that is sold, whatever is asked of it.

The schemas are those that the sandbox serves over HTTP: another file, written by other hands.
"""

import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from decimal import Decimal
from fractions import Fraction
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mediagate_server.catalog.models.model import Model, ModelStatus
from mediagate_server.catalog.parameters.contract_fields import FIELDS, MEDIA_KINDS
from mediagate_server.catalog.parameters.rule import ParameterHandling
from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.catalog.pricing.cost_estimate import EstimatedRun, InputImageUnits
from mediagate_server.catalog.pricing.prices import Scalar, compute_cost
from mediagate_server.catalog.request import ModelRequest
from mediagate_server.errors import ParameterUnsupported
from mediagate_server.structs import replace
from tests.catalog.builders import shipped_catalog
from tests.sandbox_process import running_sandbox

from .request_strategies import CANARY, SUBJECT, requests

CATALOG = shipped_catalog(generate_seed=lambda: 77)
MODELS = [model for model in CATALOG.models() if model.status is ModelStatus.LIVE]
each_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.slug)

Schemas = Mapping[str, tuple[frozenset[str], jsonschema_rs.Draft202012Validator]]
"""By slug: the names of a model's inputs, and what checks a whole input."""


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Schemas]:
    """What the sandbox says of each model, read as anybody would."""
    folder: Path = tmp_path_factory.mktemp("sandbox")
    with (
        running_sandbox(folder) as sandbox,
        closing(HTTPConnection(urlsplit(sandbox.url).netloc, timeout=30)) as connection,
    ):
        yield {model.slug: schema_of(connection, model) for model in MODELS}


def schema_of(
    connection: HTTPConnection, model: Model
) -> tuple[frozenset[str], jsonschema_rs.Draft202012Validator]:
    """One model's schema. A community model must also have the version that is pinned."""
    connection.request("GET", f"/v1/models/{model.slug}", headers={"Authorization": "Bearer x"})
    answer = connection.getresponse()
    document = json.loads(answer.read())
    assert answer.status == 200, document
    version = document["latest_version"]
    assert not model.version or version["id"] == model.version
    components = version["openapi_schema"]["components"]
    inputs = frozenset(components["schemas"]["Input"]["properties"])
    openapi_document = {"$ref": "#/components/schemas/Input", "components": components}
    return inputs, jsonschema_rs.Draft202012Validator(openapi_document, validate_formats=True)


@each_model
@settings(
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_request_is_planned_and_reported_completely(
    model: Model, schemas: Schemas, data: st.DataObject
) -> None:
    """What is sent is what it takes, and everything that was set is accounted for."""
    request = strip_screening(data.draw(requests(model)))
    names = data.draw(st.permutations(list(request.parameters)))
    share = data.draw(st.fractions(0, 1, max_denominator=1000))
    plan = CATALOG.plan(request)
    check_input(model, plan, *schemas[model.slug])
    check_report(request, plan)
    check_seed(model, request, plan)
    check_order(request, plan, names)
    check_strict(request, plan)
    check_estimate(model, request, plan)
    check_bounds(model, plan, share)


def strip_screening(request: ModelRequest) -> ModelRequest:
    """The request without the media and words that its model refuses to lose, each named."""
    kinds = FIELDS[request.modality]
    while True:
        try:
            CATALOG.plan(request)
        except ParameterUnsupported as error:
            lost = {violation.field.partition("[")[0] for violation in error.failure.violations}
            assert lost <= request.parameters.keys()
            assert all(kinds[name] in MEDIA_KINDS or name in SUBJECT for name in lost)
            rest = {name: value for name, value in request.parameters.items() if name not in lost}
            request = replace(request, parameters=rest)
        else:
            return request


def check_input(
    model: Model,
    plan: Plan,
    inputs: frozenset[str],
    validator: jsonschema_rs.Draft202012Validator,
) -> None:
    """Names, types, ranges, enums and required inputs hold by both tables; it is plain JSON."""
    sent = json.loads(json.dumps(plan.input))
    assert sent == plan.input
    assert not plan.input.keys() - model.inputs.keys()
    for name, spec in model.inputs.items():
        assert not spec.problem(plan.input[name]) if name in plan.input else not spec.required, name
    assert set(sent) <= inputs
    assert [error.message for error in validator.iter_errors(sent)] == []


def check_report(request: ModelRequest, plan: Plan) -> None:
    """A line for each, in the order set; a reason wherever something is not as asked."""
    own = [f"options.model_parameters.{name}" for name in request.model_parameters]
    assert [line.parameter for line in plan.report] == [*request.parameters, *own]
    for line in plan.report:
        assert line.reason or line.handling is ParameterHandling.HONOURED
        assert not (line.handling is ParameterHandling.DROPPED and line.sent)
        assert CANARY not in line.requested + line.sent + line.reason
        assert "example.com" not in line.requested + line.sent + line.reason


def check_seed(model: Model, request: ModelRequest, plan: Plan) -> None:
    """Where the model takes a seed the plan knows it: the caller's, 0 included, or a drawn one."""
    if "seed" not in model.map:
        assert plan.seed is None
        return
    target = model.map["seed"].targets[0]
    most = model.inputs[target].max
    seed = request.parameters.get("seed", 77)
    assert isinstance(seed, int)
    assert plan.seed == (seed if most is None else min(seed, most))
    assert plan.input[target] == plan.seed


def check_order(request: ModelRequest, plan: Plan, names: list[str]) -> None:
    """The same parameters in any order make the same input and the same handling."""
    turned = replace(request, parameters={name: request.parameters[name] for name in names})
    other = CATALOG.plan(turned)
    assert other.input == plan.input
    assert sorted(map(str, other.report)) == sorted(map(str, plan.report))


def check_strict(request: ModelRequest, plan: Plan) -> None:
    """It names every adjusted or dropped field, or plans the very same input."""
    strict = replace(request, strict=True)
    lost = (ParameterHandling.ADJUSTED, ParameterHandling.DROPPED)
    unmet = [line.parameter for line in plan.report if line.handling in lost]
    if not unmet:
        assert CATALOG.plan(strict).input == plan.input
        return
    with pytest.raises(ParameterUnsupported) as refused:
        CATALOG.plan(strict)
    assert [violation.field for violation in refused.value.failure.violations] == unmet


def check_estimate(model: Model, request: ModelRequest, plan: Plan) -> None:
    """All three whole, ordered and not negative; or none, and then for a reason."""
    bounds = (plan.estimate.low, plan.estimate.expected, plan.estimate.maximum)
    known_bounds = [bound for bound in bounds if bound is not None]
    if not model.price.tiers:
        assert bounds == (None, None, None)
    elif not known_bounds:
        # The size of a picture or film that is given, a tier that was never seen.
        given = {"messages", "reference_images", "source_video"} & set(request.parameters)
        assert given or request.model_parameters or model.price.partial
    else:
        assert len(known_bounds) == len(bounds)
        assert all(type(bound) is int and bound >= 0 for bound in known_bounds)
        assert all(lower <= upper for lower, upper in itertools.pairwise(known_bounds))


def check_bounds(model: Model, plan: Plan, share: Fraction) -> None:
    """Whatever share it uses of what was foreseen, it costs no less and no more than estimated."""
    if plan.estimate.low is None or plan.estimate.maximum is None:
        return
    run = EstimatedRun(plan.input, model.inputs, model.max_run)
    metrics = {}
    for name, rule in model.expects.items():
        seen = rule.estimate(run)
        assert seen is not None
        metrics[name] = between(seen.low, seen.high, share)
    charge = compute_cost(plan.price, metrics, outputs=plan.output_count)
    assert charge is not None
    assert plan.estimate.low <= charge <= plan.estimate.maximum


def between(least: Scalar, most: Scalar, share: Fraction) -> Scalar:
    """What a run may report where this was foreseen."""
    if isinstance(least, int | Decimal) and isinstance(most, int | Decimal) and least < most:
        amount = Fraction(least) + (Fraction(most) - Fraction(least)) * share
        rounded = round(Decimal(amount.numerator) / amount.denominator, 3)
        return min(max(rounded, least), most)
    return most


@each_model
def test_inputs_that_decide_the_price_are_always_sent(model: Model) -> None:
    """Every input that the price or the estimate hangs on is sent, whatever upstream's default."""
    rules = (rule for rule in model.expects.values() if not isinstance(rule, InputImageUnits))
    hang = {getattr(rule, "input", "") for rule in rules} - {""}
    unsent = hang - set(model.defaults)
    assert all(model.inputs[name].required for name in unsent)


@each_model
def test_its_price_is_dated_or_unknown(model: Model) -> None:
    """A price says of when it is and where it was read; no price settles as unknown."""
    if model.price.tiers:
        assert model.price.as_of
        assert model.price.source
    else:
        assert compute_cost(model.price, {"predict_time": 5}, outputs=1) is None
