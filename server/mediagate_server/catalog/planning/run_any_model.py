"""Run plan of any model: its own inputs, validated against its own schema.

Nothing is translated, so nothing is adjusted or dropped: an input is sent as it was given, or the
request is rejected with the input's name.
"""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from math import ceil
from typing import Any, Final

from mediagate_server.catalog.models.model import Model, OutputKind, OutputShape
from mediagate_server.catalog.parameters.rule import (
    ParameterHandling,
    ParameterReport,
    format_short,
)
from mediagate_server.catalog.parameters.scalar import OutputCount
from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.catalog.planning.safety_inputs import (
    REFUSED_REASON,
    is_safety_input,
    may_contain_safety_input,
    weakens_safety,
)
from mediagate_server.catalog.pricing import prices
from mediagate_server.catalog.pricing.cost_estimate import (
    EstimatedRun,
    RunTimeUnits,
    UnpricedInput,
    check_cost_limit,
    estimate_cost,
)
from mediagate_server.catalog.pricing.prices import Estimate, PriceSchedule, assumed_price
from mediagate_server.catalog.published_models import PublishedModelVersion
from mediagate_server.catalog.request import MediaInput, Modality, RunRequest
from mediagate_server.catalog.schemas.openapi import ANY_STEP
from mediagate_server.errors import InvalidRequest, Violation
from mediagate_server.network.request_url import ascii_url

MAX_RUN_SECONDS: Final = 1_800
"""Maximum run time in seconds: upstream ends every run after half an hour."""
_DEFAULT_USUAL_SECONDS: Final = 30
_SAFETY_DEFAULT_REASON: Final = (
    "sent by the server: the model's own default would weaken its safety checks"
)
_UNCHECKED_REASON: Final = "sent unchecked: the model publishes no schema"


def plan_model_run(
    request: RunRequest,
    published: PublishedModelVersion,
    catalog_model: Model | None,
    assume_unknown_usd: Decimal | None = None,
    *,
    problems: Mapping[str, str],
    allow_weaker_safety: bool = False,
) -> Plan:
    """Plan a run of a published model. `catalog_model` has the same slug, for its price.

    `assume_unknown_usd` is the assumed cost in dollars where it is unknown. `problems` are the
    validation errors of `build_input`, by path: validation may take long, and is done before.
    `allow_weaker_safety`: callers may weaken the model's safety checks.

    Raises InvalidRequest naming `input.<name>` or `media["<name>"]`; PriceUnknown and
    MaxCostExceeded where the request limits its cost.
    """
    model_input = _checked_inputs(request, published, problems)
    if not allow_weaker_safety:
        _reject_weaker_safety(model_input, published, catalog_model)
    safety_defaults = _safety_defaults(model_input, published, catalog_model)
    sent = {**model_input, **safety_defaults}
    if published.is_deployment and not published.is_official:
        catalog_model = None  # Billed by its own hardware, whatever the model's price.
    price, estimate, max_run = _price(request, published, sent, catalog_model)
    if published.bills_idle_time:
        price = prices.dedicated_price(price)
    price, estimate = assumed_price(price, estimate, assume_unknown_usd)
    check_cost_limit(published.name, estimate, request.max_cost_nanos)
    streams = published.schema.streams_text
    seed = model_input.get("seed")
    return Plan(
        modality=Modality.RAW,
        requested_model=request.model,
        slug=published.name,
        target=published.target,
        input=sent,
        report=_report(published, model_input, safety_defaults),
        seed=seed if isinstance(seed, int) and not isinstance(seed, bool) else None,
        streams=streams,
        output=OutputShape(
            OutputKind.RAW_TEXT if streams else OutputKind.RAW,
            json.dumps(published.schema.link_paths),
            catalog_model.output.media_type if catalog_model else "",
        ),
        output_count=1,
        price=price,
        estimate=estimate,
        max_run=max_run,
    )


def _checked_inputs(
    request: RunRequest, published: PublishedModelVersion, problems: Mapping[str, str]
) -> dict[str, Any]:
    """Validated result of `build_input`. Raises InvalidRequest naming each invalid input."""
    model_input = build_input(request, published)
    violations = [
        Violation(_input_field(name, request.media), message) for name, message in problems.items()
    ]
    if violations:
        raise InvalidRequest(*violations)
    return model_input


def _reject_weaker_safety(
    model_input: Mapping[str, Any], published: PublishedModelVersion, catalog_model: Model | None
) -> None:
    """Raises InvalidRequest naming each input that makes a safety check weaker than its default."""
    weaker = []
    for name, value in model_input.items():
        if not may_contain_safety_input(name, value):
            continue
        spec = published.schema.input(name)
        default = spec.default if spec else None
        if catalog_model and name in catalog_model.inputs:
            default = catalog_model.defaults.get(name, catalog_model.inputs[name].default)
        if weakens_safety(name, value, default, allowed_values=spec.values if spec else ()):
            weaker.append(Violation(f"input.{name}", REFUSED_REASON))
    if weaker:
        raise InvalidRequest(*weaker)


def _safety_defaults(
    model_input: Mapping[str, Any], published: PublishedModelVersion, catalog_model: Model | None
) -> dict[str, Any]:
    """Safety inputs that were not given and are stricter in the catalog than the model's own."""
    defaults = catalog_model.defaults if catalog_model else {}
    return {
        name: value
        for name, value in defaults.items()
        if name not in model_input and is_safety_input(name) and published.schema.input(name)
    }


def build_input(request: RunRequest, published: PublishedModelVersion) -> dict[str, Any]:
    """Build the input that will be sent: without nulls, with media among the rest.

    Raises InvalidRequest.
    """
    model_input = {name: value for name, value in request.input.items() if value is not None}
    for name, media in request.media.items():
        if name in model_input:
            raise InvalidRequest.of(
                _media_field(name), f"must not be set together with input.{name}"
            )
        model_input[name] = _media_value(published, name, media)
    for name, *rest in published.schema.input_link_paths:
        if name in model_input:
            model_input[name] = _encode_links(model_input[name], rest)
    return model_input


def _encode_links(value: Any, path: Sequence[str]) -> Any:
    """A value with the links below a path in ASCII form, as in every rpc."""
    if not path:
        return ascii_url(value) if isinstance(value, str) else value
    step, *rest = path
    if isinstance(value, list):
        return [_encode_links(item, rest) for item in value] if step == ANY_STEP else value
    if isinstance(value, Mapping):
        return {
            name: _encode_links(item, rest) if step in (ANY_STEP, name) else item
            for name, item in value.items()
        }
    return value


def _media_value(published: PublishedModelVersion, name: str, media: tuple[MediaInput, ...]) -> Any:
    uris = [medium.uri for medium in media]
    if not uris:
        raise InvalidRequest.of(f"{_media_field(name)}.media", "must hold a medium")
    is_list = published.schema.takes_list(name)
    if is_list or (is_list is None and len(uris) > 1):
        return uris
    if len(uris) > 1:
        raise InvalidRequest.of(f"{_media_field(name)}.media", "the model takes one")
    return uris[0]


def _input_field(name: str, media: Mapping[str, Any]) -> str:
    """The field at fault, as the caller wrote it."""
    first = name.split(".", maxsplit=1)[0].split("[", maxsplit=1)[0]
    return _media_field(first) if first in media else f"input.{name}"


def _media_field(name: str) -> str:
    return f"media[{json.dumps(name, ensure_ascii=False)}]"


def _report(
    published: PublishedModelVersion,
    model_input: Mapping[str, Any],
    safety_defaults: Mapping[str, Any],
) -> tuple[ParameterReport, ...]:
    """Reports of each given input, and of each safety input that the server adds."""
    return (
        *(_report_entry(published, name, value) for name, value in model_input.items()),
        *(
            ParameterReport(
                f"input.{name}",
                ParameterHandling.ADJUSTED,
                "",
                format_short(value),
                _SAFETY_DEFAULT_REASON,
            )
            for name, value in safety_defaults.items()
        ),
    )


def _report_entry(published: PublishedModelVersion, name: str, value: Any) -> ParameterReport:
    """Numbers and switches are printed; texts and media never are."""
    printed = format_short(value) if isinstance(value, int | float) else ""
    reason = "" if published.schema.is_checkable else _UNCHECKED_REASON
    return ParameterReport(f"input.{name}", ParameterHandling.HONOURED, printed, printed, reason)


def _price(
    request: RunRequest,
    published: PublishedModelVersion,
    model_input: Mapping[str, Any],
    catalog_model: Model | None,
) -> tuple[PriceSchedule, Estimate, int]:
    """Price, estimate and longest run time: by the catalog's price or by the hardware's."""
    if catalog_model:
        # The catalog's price cannot depend on inputs that the catalog does not know.
        priced_inputs = {
            name: value for name, value in model_input.items() if name in catalog_model.inputs
        }
        run = EstimatedRun(priced_inputs, catalog_model.inputs, catalog_model.max_run)
        try:
            return (*_estimate_by_catalog(catalog_model, run), catalog_model.max_run)
        except UnpricedInput as error:
            path = _input_field(error.name, request.media) if error.name else "input"
            raise InvalidRequest.of(path, error.message) from None
    longest = min(MAX_RUN_SECONDS, ceil(request.timeout))
    example = published.usual_seconds or 0.0
    usual_seconds = ceil(example) if 0 < example <= MAX_RUN_SECONDS else _DEFAULT_USUAL_SECONDS
    expects = {"predict_time": RunTimeUnits(by="run_time", usual=usual_seconds)}
    schedule = prices.hardware_price(published.hardware)
    return (*estimate_cost(schedule, expects, EstimatedRun({}, {}, longest), 1), longest)


def _estimate_by_catalog(catalog_model: Model, run: EstimatedRun) -> tuple[PriceSchedule, Estimate]:
    rule = catalog_model.map.get("count")
    counted_by = rule.to if isinstance(rule, OutputCount) else ""
    outputs = (run.billable_value(counted_by) if counted_by else 1) or 1
    if outputs < 0:
        raise UnpricedInput(counted_by, "must be at least 1: the price goes by it")
    return estimate_cost(catalog_model.price, catalog_model.expects, run, int(outputs), counted_by)
