"""Parameter translation: contract parameters to model input, with a report for each of them.

HONOURED and EMULATED give the caller what was requested, so strict mode accepts both; ADJUSTED and
DROPPED do not. A request that cannot be translated is rejected before anything is spent.

Response format: no model of the catalog is known to take a JSON Schema of its own, so each gets it
in its system prompt; the answer is validated at the end (`generations/outputs/json_output.py`).
"""

import json
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from msgspec import Struct

from mediagate_server.catalog.models.model import Model, OutputKind, OutputShape
from mediagate_server.catalog.parameters.contract_fields import FIELDS, MEDIA_KINDS, FieldKind
from mediagate_server.catalog.parameters.image_size import format_size, parse_ratio
from mediagate_server.catalog.parameters.rule import (
    InputDraft,
    ParameterHandling,
    ParameterOutcome,
    ParameterReport,
    ParameterRule,
    dropped_outcome,
    emulated_outcome,
    format_short,
    honoured_outcome,
)
from mediagate_server.catalog.parameters.scalar import OutputCount
from mediagate_server.catalog.planning.model_parameters import apply_model_parameters
from mediagate_server.catalog.request import ModelRequest, ResponseFormat, Size, Value
from mediagate_server.errors import InvalidRequest, ParameterUnsupported, Violation
from mediagate_server.structs import replace

_JSON_INSTRUCTION: Final = (
    "Answer with one JSON value and nothing else: no words before or after it, no Markdown."
)
_SCHEMA_INSTRUCTION: Final = (
    "Answer with one JSON value that is valid by the JSON Schema below, and with nothing else: no "
    "words before or after it, no Markdown.\n\nJSON Schema:\n{schema}"
)
_EMULATED_REASON: Final = "asked for in the instructions, and the answer is checked"
GenerateSeed = Callable[[], int]
"""Seed generator, from 1 to 2^31 - 1: all that any model takes, and never 0, which some take for
"random"."""
_UNPRINTED_KINDS = (FieldKind.FREE_TEXT, FieldKind.STRINGS, FieldKind.MESSAGES, FieldKind.MEDIUM)
_UNPRINTED_FIELDS = {
    modality: frozenset(name for name, kind in kinds.items() if kind in _UNPRINTED_KINDS)
    for modality, kinds in FIELDS.items()
}
_NOT_SENT = dropped_outcome()
_SUBJECT_FIELDS = frozenset({"prompt", "text", "lyrics"})
"""Parameters that describe the output."""


class Translation(Struct, frozen=True):
    """Translated request: the model's own input, and a report of each parameter in the order of the
    request.

    `output_count` is the number of outputs of one run, `runs` the number of runs.
    """

    input: Mapping[str, Any]
    report: tuple[ParameterReport, ...]
    seed: int | None
    output_count: int
    runs: int


def translate_request(
    model: Model,
    request: ModelRequest,
    generate_seed: GenerateSeed,
    *,
    allow_weaker_safety: bool = False,
) -> Translation:
    """Translate a request to the model's input. `allow_weaker_safety`: see model_parameters.

    Raises InvalidRequest; and ParameterUnsupported, in strict mode for everything not done as
    requested, always for tools, and for media and text that would not reach the model.
    """
    parameters = request.parameters
    _check_values(model, parameters)
    _reject_tools(model, parameters)
    count, runs = _output_count(model, parameters)
    draft = InputDraft(model.inputs)
    form = requested_format(parameters)
    prompt_parameters = add_format_instruction(parameters, form) if form else parameters
    prompt_rule = model.chat or model.guard
    outcomes = prompt_rule.apply(prompt_parameters, draft) if prompt_rule else {}
    if "response_format" in parameters:
        outcomes["response_format"] = format_outcome(form)
    if "kind" in parameters:
        reject_audio_kind(model, "kind", {parameters["kind"]})
        if "kind" not in model.map:
            outcomes["kind"] = honoured_outcome(parameters["kind"])
    for name, rule in _ordered_rules(model, parameters, outcomes):
        if name != "count" or runs == 1:
            outcomes[name] = _apply(rule, parameters[name], draft)
    if runs > 1:
        outcomes["count"] = emulated_outcome(runs, f"by {runs} runs, each with a seed of its own")
    elif "count" in parameters and "count" not in model.map:
        outcomes["count"] = honoured_outcome(count)
    model_parameters = apply_model_parameters(
        model, request.model_parameters, draft, allow_weaker_safety=allow_weaker_safety
    )
    seed = _seed(model, draft, generate_seed)
    for name, default in model.defaults.items():
        draft.input.setdefault(name, default)
    _check_complete(model, draft)
    _reject_lost_content(model, request, outcomes)
    report = _report(model, parameters, outcomes)
    if request.strict:
        _reject_unsupported(model, report)
    return Translation(draft.input, (*report, *model_parameters), seed, count, runs)


def _ordered_rules(
    model: Model, parameters: Mapping[str, Value], done: Mapping[str, ParameterOutcome]
) -> list[tuple[str, ParameterRule]]:
    """Rules by rank, then in the order of the model file: never of the request."""
    rules: list[tuple[str, ParameterRule]] = [
        (name, rule) for name, rule in model.map.items() if name in parameters and name not in done
    ]
    return sorted(rules, key=lambda named_rule: named_rule[1].rank)


def _apply(rule: ParameterRule, value: Value, draft: InputDraft) -> ParameterOutcome:
    if rule.needs and rule.needs not in draft.input:
        return dropped_outcome(f"it counts only together with the model's input {rule.needs!r}")
    for target in rule.targets:
        if target in draft.input:
            return dropped_outcome("another parameter already uses the same input of the model")
    previous_input = dict(draft.input) if rule.also or rule.forces else None
    outcome = rule.apply(value, draft)
    if outcome.handling is ParameterHandling.DROPPED:
        return outcome
    if previous_input is not None and (clash := _apply_conditions(rule, previous_input, draft)):
        return dropped_outcome(f"another parameter sets the model's input {clash!r} otherwise")
    if not rule.why:
        return outcome
    reason = f"{outcome.reason}; {rule.why}" if outcome.reason else rule.why
    return replace(outcome, reason=reason)


def _apply_conditions(
    rule: ParameterRule, previous_input: Mapping[str, Any], draft: InputDraft
) -> str:
    """Write the further inputs that a rule requires; the name of a conflicting input, if any.

    Then the draft is restored.
    """
    conditions = rule.conditions(draft)
    clash = next(
        (name for name, word in conditions.items() if previous_input.get(name, word) != word), ""
    )
    if clash:
        draft.input.clear()
        draft.input.update(previous_input)
    else:
        draft.input.update(conditions)
    return clash


def _check_values(model: Model, parameters: Mapping[str, Value]) -> None:
    """Reject what no rule handles: unknown names, numbers that are not finite, invalid ratios."""
    kinds = FIELDS[model.modality]
    for name, value in parameters.items():
        kind = kinds.get(name)
        if kind is None:
            raise InvalidRequest.of(name, f"not a parameter of {model.modality.value}")
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidRequest.of(name, "must be a finite number")
        if kind is FieldKind.RATIO and parse_ratio(value) is None:
            raise InvalidRequest.of(name, 'must be two whole numbers over 0, for example "16:9"')
        if isinstance(value, Size) and (value.width < 1 or value.height < 1):
            raise InvalidRequest.of(name, "must be at least 1 pixel wide and high")


def _reject_tools(model: Model, parameters: Mapping[str, Value]) -> None:
    """No model takes tools, and an answer without them is another answer."""
    tool_fields = [name for name in ("tools", "tool_choice") if name in parameters]
    if tool_fields:
        message = f"{model.slug} cannot be given tools"
        raise ParameterUnsupported(*(Violation(name, message) for name in tool_fields))


def _reject_lost_content(
    model: Model, request: ModelRequest, outcomes: Mapping[str, ParameterOutcome]
) -> None:
    """Reject media or text that would not reach the model: an output without them, or without one
    of several, is not what was requested, at the same price.

    Raises ParameterUnsupported in every mode. Only a fallback model that animates the first frame
    may do without the text.
    """
    kinds = FIELDS[model.modality]
    violations: list[Violation] = []
    for name, value in request.parameters.items():
        if kinds[name] not in MEDIA_KINDS and (
            name not in _SUBJECT_FIELDS or not str(value).strip()
        ):
            continue
        outcome = outcomes.get(name, _NOT_SENT)
        if outcome.handling is ParameterHandling.DROPPED:
            if not (request.is_fallback and name == "prompt" and "first_frame" in outcomes):
                violations.append(Violation(name, _loss_reason(model, name, outcome)))
        elif outcome.left_out and isinstance(value, tuple):
            first = len(value) - outcome.left_out
            violations += [
                Violation(f"{name}[{index}]", f"{model.slug} cannot be given it: {outcome.reason}")
                for index in range(first, len(value))
            ]
    if violations:
        raise ParameterUnsupported(*violations)


def _loss_reason(model: Model, name: str, outcome: ParameterOutcome) -> str:
    """Reason for the caller: a model that takes other text says which."""
    used_fields = [word for word in model.map if word in _SUBJECT_FIELDS]
    if name in _SUBJECT_FIELDS and name not in used_fields:
        fields_text = " or ".join(used_fields) or "media alone"
        return f"{model.slug} works from {fields_text}"
    return f"{model.slug} cannot be given it: {outcome.reason}"


def _output_count(model: Model, parameters: Mapping[str, Value]) -> tuple[int, int]:
    """Outputs of one run, and number of runs.

    More than one run makes are made by several: each then succeeds, fails and costs by itself.
    """
    rule = model.map.get("count")
    requested = parameters.get("count")
    if rule is None and requested is None:
        return 1, 1
    max_per_run = rule.max_per_run(model.inputs) if isinstance(rule, OutputCount) else 1
    if isinstance(requested, int):
        return (1, requested) if requested > max_per_run else (requested, 1)
    if not isinstance(rule, OutputCount):
        return 1, 1
    return int(model.defaults.get(rule.to, model.inputs[rule.to].default or 1)), 1


def reject_audio_kind(model: Model, field: str, kinds: Collection[Value]) -> None:
    """Raises InvalidRequest where the model makes no kind of audio that `field` asks for."""
    if model.makes and not {*kinds} & {*model.makes}:
        kinds_text = " and ".join(word.replace("_", " ") for word in model.makes)
        raise InvalidRequest.of(field, f"{model.slug} makes {kinds_text}")


def _seed(model: Model, draft: InputDraft, generate_seed: GenerateSeed) -> int | None:
    """The seed that is sent. Generated where the request has none, so that it can be reported."""
    rule = model.map.get("seed")
    if rule is None:
        return None
    target = rule.targets[0]
    seed: int = draft.input.setdefault(target, generate_seed())
    return seed


def _check_complete(model: Model, draft: InputDraft) -> None:
    """Raises InvalidRequest naming the parameters of required inputs that are missing."""
    missing = [
        name for name, spec in model.inputs.items() if spec.required and name not in draft.input
    ]
    if not missing:
        return
    violations = [
        Violation(field, "needed by this model")
        for field, rule in model.map.items()
        if any(name in rule.targets for name in missing)
    ]
    if violations:
        raise InvalidRequest(*violations)


def _report(
    model: Model, parameters: Mapping[str, Value], outcomes: Mapping[str, ParameterOutcome]
) -> tuple[ParameterReport, ...]:
    """Report of each parameter; without an outcome it was dropped."""
    unprinted = _UNPRINTED_FIELDS[model.modality]
    lines = []
    for name, value in parameters.items():
        outcome = outcomes.get(name, _NOT_SENT)
        requested, sent = ("", "") if name in unprinted else (_printable_value(value), outcome.sent)
        lines.append(ParameterReport(name, outcome.handling, requested, sent, outcome.reason))
    return tuple(lines)


def _printable_value(value: Value) -> str:
    if isinstance(value, int | float | str):
        return format_short(value)
    if isinstance(value, ResponseFormat):
        return value.kind
    if isinstance(value, Size):
        return format_size(value)
    return format_short(len(value) if isinstance(value, tuple) else value)


def _reject_unsupported(model: Model, report: tuple[ParameterReport, ...]) -> None:
    violations = [
        Violation(line.parameter, f"{line.handling.value} by {model.slug}: {line.reason}")
        for line in report
        if line.handling in (ParameterHandling.ADJUSTED, ParameterHandling.DROPPED)
    ]
    if violations:
        raise ParameterUnsupported(*violations)


def requested_format(parameters: Mapping[str, Value]) -> ResponseFormat | None:
    """The requested JSON format; None where any text will do."""
    form = parameters.get("response_format")
    return form if isinstance(form, ResponseFormat) and form.kind != "text" else None


def add_format_instruction(
    parameters: Mapping[str, Value], form: ResponseFormat
) -> dict[str, Value]:
    """The parameters with the format instruction at the end of the system prompt."""
    instruction = _JSON_INSTRUCTION
    if form.kind == "json_schema":
        instruction = _SCHEMA_INSTRUCTION.format(schema=json.dumps(form.schema, ensure_ascii=False))
    system_prompt = str(parameters.get("system_prompt", ""))
    return {
        **parameters,
        "system_prompt": f"{system_prompt}\n\n{instruction}" if system_prompt else instruction,
    }


def format_outcome(form: ResponseFormat | None) -> ParameterOutcome:
    """Outcome of the parameter `response_format`."""
    if form is None:
        return honoured_outcome("text")
    return emulated_outcome(form.kind, _EMULATED_REASON)


def format_shape(form: ResponseFormat) -> OutputShape:
    """Output shape of JSON text: `field` holds the schema to validate it by."""
    return OutputShape(OutputKind.JSON_TEXT, json.dumps(form.schema), "application/json")
