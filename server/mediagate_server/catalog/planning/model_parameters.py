"""Model-specific parameters (`options.model_parameters`): validation and application.

Fields of the contract take precedence: an input that a field sets cannot be set again here, because
report and estimate are made from the fields. No caller may set what changes who is billed, nor,
unless the operator allows it, what weakens a vendor's safety checks.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from mediagate_server.catalog.models.model import Model, SchemaSource
from mediagate_server.catalog.parameters.rule import (
    InputDraft,
    ParameterHandling,
    ParameterReport,
    format_short,
)
from mediagate_server.catalog.planning.safety_inputs import (
    REFUSED_REASON,
    is_safety_input,
    weakens_safety,
)
from mediagate_server.catalog.schemas.input_spec import InputSpec, InputType
from mediagate_server.errors import InvalidRequest, Violation
from mediagate_server.network.request_url import ascii_url

MODEL_PARAMETERS_PATH: Final = "options.model_parameters"
"""Field of the request; with the name of each after a point, its parameter in a report."""

_LINK_TYPES: Final = (InputType.URI, InputType.URIS)


def apply_model_parameters(
    model: Model,
    parameters: Mapping[str, Any],
    draft: InputDraft,
    *,
    allow_weaker_safety: bool = False,
) -> list[ParameterReport]:
    """Write them beside what the fields have written; each is HONOURED.

    `allow_weaker_safety`: callers may weaken the model's safety checks. Raises InvalidRequest that
    names every parameter that cannot be sent as it is.
    """
    if not parameters:
        return []
    owners = _contract_field_by_input(model)
    violations = [
        Violation(f"{MODEL_PARAMETERS_PATH}.{name}", message)
        for name, value in parameters.items()
        if (message := _problem(model, name, value, owners, draft))
        or (message := "" if allow_weaker_safety else _safety_problem(model, name, value))
    ]
    if violations:
        raise InvalidRequest(*violations)
    draft.input.update(
        (name, _encode_links(value) if model.inputs[name].type in _LINK_TYPES else value)
        for name, value in parameters.items()
    )
    return [
        ParameterReport(
            f"{MODEL_PARAMETERS_PATH}.{name}", ParameterHandling.HONOURED, printed, printed
        )
        for name, value in parameters.items()
        for printed in (_printable_value(model.inputs[name], value),)
    ]


def dropped_model_parameters(
    parameters: Mapping[str, Any], slug: str
) -> tuple[ParameterReport, ...]:
    """Reports for a fallback model: the parameters are of another model, so they are DROPPED."""
    reason = f"an input of the model that was asked for, not of {slug}"
    return tuple(
        ParameterReport(f"{MODEL_PARAMETERS_PATH}.{name}", ParameterHandling.DROPPED, reason=reason)
        for name in parameters
    )


def _problem(
    model: Model, name: str, value: Any, owners: Mapping[str, str], draft: InputDraft
) -> str:
    """Why a parameter cannot be set so; empty where it can."""
    spec = model.inputs.get(name)
    if spec is None:
        qualifier = "" if model.inputs_from is SchemaSource.VERIFIED else " that is known here"
        return f"{model.slug} has no such input{qualifier}"
    if spec.reserved and not is_safety_input(name):
        return "is not a caller's to set"
    if name in owners:
        return f"is what {owners[name]!r} sets: use that field"
    if name in draft.input and draft.input[name] != value:
        return "another parameter needs it at another value"
    if spec.type in _LINK_TYPES and any(each.startswith("http:") for each in _texts(value)):
        return "must be a link by https"
    return spec.problem(value)


def _encode_links(value: Any) -> Any:
    """ASCII form of links, as in every rpc."""
    if isinstance(value, str):
        return ascii_url(value)
    return [_encode_links(item) for item in value] if isinstance(value, list | tuple) else value


def _safety_problem(model: Model, name: str, value: Any) -> str:
    spec = model.inputs[name]
    default = model.defaults.get(name, spec.default)
    return REFUSED_REASON if weakens_safety(name, value, default, allowed_values=spec.enum) else ""


def _contract_field_by_input(model: Model) -> dict[str, str]:
    """The contract's field that writes an input, by the input's name."""
    prompt_rule = model.chat or model.guard
    owners = dict.fromkeys(
        prompt_rule.targets if prompt_rule else (), "messages" if model.chat else "content"
    )
    if model.chat:
        owners[model.chat.prompt] = "prompt"
        owners |= dict.fromkeys([model.chat.system] if model.chat.system else [], "system_prompt")
    for field, rule in model.map.items():
        for target in rule.targets:
            owners.setdefault(target, field)
    return owners


def _texts(value: Any) -> Iterator[str]:
    items = value if isinstance(value, list) else [value]
    return (item for item in items if isinstance(item, str))


def _printable_value(spec: InputSpec, value: Any) -> str:
    """Numbers, switches and words from a list; text of callers is never printed."""
    free = isinstance(value, str) and not spec.enum
    return "" if free or isinstance(value, list | Mapping) else format_short(value)
