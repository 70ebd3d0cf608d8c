"""Model choice: the cheapest model of a quality that supports the request.

The choice lists the alternatives with their costs. The expected cost of this very request is
compared, not a unit price; a model of unknown price is never the cheapest.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from mediagate_server.catalog.models.model import Model, ModelStatus, Quality
from mediagate_server.catalog.parameters.rule import ParameterHandling
from mediagate_server.catalog.planning.plan import Alternative, ModelChoice, Plan, PlanModel
from mediagate_server.catalog.planning.translation import reject_audio_kind
from mediagate_server.catalog.pricing.prices import UNKNOWN_ESTIMATE
from mediagate_server.catalog.request import Modality, ModelRequest
from mediagate_server.errors import Failure, MediagateError, NoMatchingModel, Violation
from mediagate_server.structs import replace

_AUDIO_KIND_BY_PARAMETER: Final[Mapping[str, str]] = MappingProxyType(
    {
        "text": "speech",
        "lyrics": "music",
        "voice": "speech",
        "speed": "speech",
        "language": "speech",
    }
)
"""Kind of audio implied by a parameter where `kind` is not set, the clearest first."""
_MAX_SUGGESTIONS: Final = 3


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A model that supports the request: its plan, and the parameters that it would not honour."""

    plan: Plan
    unmet_parameters: tuple[str, ...]

    @property
    def rank(self) -> tuple[int, bool, bool, int, int, str]:
        """Sort key: what honours the most, then what costs the least.

        An assumed price is never cheaper than a known one.
        """
        estimate = self.plan.total_estimate
        return (
            len(self.unmet_parameters),
            estimate.expected is None,
            self.plan.price.assumed,
            estimate.expected or 0,
            estimate.maximum or 0,
            self.plan.slug,
        )


def choose_model(models: Iterable[Model], request: ModelRequest, plan_model: PlanModel) -> Plan:
    """Plan of the cheapest model of the request's modality and quality.

    Honoured and emulated count as requested. Where no model honours everything, a lenient request
    gets the one that honours the most; a strict one is rejected. Raises NoMatchingModel.
    """
    models = tuple(models)
    candidates, refusals = _find_candidates(models, request, plan_model)
    if not candidates or (request.strict and candidates[0].unmet_parameters):
        suggestions = models_of_other_quality(models, request, plan_model)
        raise _no_matching_model(request, candidates, refusals, suggestions)
    best = candidates[0]
    costlier = [_alternative(candidate, best) for candidate in candidates[1:]]
    refused = [
        Alternative(slug, UNKNOWN_ESTIMATE, failure.message) for slug, failure in refusals.items()
    ]
    return replace(
        best.plan, choice=ModelChoice(_choice_reason(request, best), (*costlier, *refused))
    )


def choose_substitute(
    models: Iterable[Model], request: ModelRequest, plan_model: PlanModel, refusal: MediagateError
) -> Plan:
    """Plan of a model that supports what the default model does not.

    Raises `refusal` itself where no model of the request's quality does; it then names models of
    another quality that do.
    """
    models = tuple(models)
    try:
        plan = choose_model(models, request, plan_model)
    except NoMatchingModel as nobody:
        rejected_fields = {violation.field for violation in refusal.failure.violations}
        further = (
            each
            for each in nobody.failure.violations
            if rejected_fields and each.field not in rejected_fields
        )
        suggestions = models_of_other_quality(models, request, plan_model)
        failure = replace(refusal.failure, violations=(*refusal.failure.violations, *further))
        refusal.failure = _suggest_models(failure, request, suggestions)
        raise refusal from None
    if plan.choice is None:
        return plan
    reason = f"the default model cannot: {refusal.failure.message}. Instead {plan.choice.reason}"
    return replace(plan, choice=replace(plan.choice, reason=reason))


def check_audio_kind(model: Model, request: ModelRequest) -> None:
    """Raises InvalidRequest where a request asks for no kind of audio that the model makes.

    The kind may be implied by a parameter: text to speak, a voice, lyrics.
    """
    if request.modality is not Modality.AUDIO:
        return
    field, kinds = _requested_audio_kinds(request)
    if kinds:
        reject_audio_kind(model, field, kinds)


def models_of_other_quality(
    models: Iterable[Model], request: ModelRequest, plan_model: PlanModel
) -> tuple[Model, ...]:
    """A few models of other qualities that support the request, the cheapest first."""
    models = tuple(models)
    candidates: list[_Candidate] = []
    for quality in Quality:
        if quality.value != request.quality:
            other_request = replace(request, quality=quality.value)
            candidates += _find_candidates(models, other_request, plan_model)[0]
    capable = [
        candidate
        for candidate in sorted(candidates, key=lambda candidate: candidate.rank)
        if not (request.strict and candidate.unmet_parameters)
    ]
    by_slug = {model.slug: model for model in models}
    return tuple(by_slug[candidate.plan.slug] for candidate in capable[:_MAX_SUGGESTIONS])


def _find_candidates(
    models: tuple[Model, ...], request: ModelRequest, plan_model: PlanModel
) -> tuple[list[_Candidate], dict[str, Failure]]:
    """The models that support the request, the best first; the failures of the others, by slug."""
    candidates: list[_Candidate] = []
    refusals: dict[str, Failure] = {}
    lenient = replace(request, strict=False)
    for model in models:
        if not _is_eligible(model, request):
            continue
        try:
            plan = plan_model(model, lenient)
        except MediagateError as error:
            refusals[model.slug] = error.failure
        else:
            candidates.append(_Candidate(plan, _unmet_parameters(plan)))
    candidates.sort(key=lambda candidate: candidate.rank)
    return candidates, refusals


def _is_eligible(model: Model, request: ModelRequest) -> bool:
    if model.modality is not request.modality or model.status is not ModelStatus.LIVE:
        return False
    kinds = _audio_kinds(request)
    return model.quality.value == request.quality and (not kinds or kinds & {*model.makes} != set())


def _audio_kinds(request: ModelRequest) -> set[str]:
    """Kinds of audio that a request can mean; empty: any."""
    if request.modality is not Modality.AUDIO:
        return set()
    _, kinds = _requested_audio_kinds(request)
    return kinds or {"music", "sound_effect"}


def _requested_audio_kinds(request: ModelRequest) -> tuple[str, set[str]]:
    """The parameter that determines the kind of audio, and the kind; empty where none does."""
    kind = request.parameters.get("kind")
    if kind is not None:
        return "kind", {str(kind)}
    for field, implied_kind in _AUDIO_KIND_BY_PARAMETER.items():
        if str(request.parameters.get(field, "")).strip():
            return field, {implied_kind}
    return "", set()


def _unmet_parameters(plan: Plan) -> tuple[str, ...]:
    return tuple(
        line.parameter
        for line in plan.report
        if line.handling in (ParameterHandling.ADJUSTED, ParameterHandling.DROPPED)
    )


def _choice_reason(request: ModelRequest, best: _Candidate) -> str:
    qualifier = f"of quality {request.quality}"
    if best.plan.total_estimate.expected is None:
        return f"the only one {qualifier} that can take the request; its price is not known"
    if best.unmet_parameters:
        names = ", ".join(best.unmet_parameters)
        return f"the cheapest {qualifier} of those that honour the most; not as asked: {names}"
    return f"the cheapest {qualifier} that honours everything asked for"


def _alternative(candidate: _Candidate, best: _Candidate) -> Alternative:
    if len(candidate.unmet_parameters) > len(best.unmet_parameters):
        reason = f"does not honour {', '.join(candidate.unmet_parameters)}"
    elif candidate.plan.total_estimate.expected is None:
        reason = "its price is not known"
    elif candidate.plan.price.assumed and not best.plan.price.assumed:
        reason = "its price is only assumed"
    else:
        reason = "costs more"
    if candidate.rank[1:5] == best.rank[1:5] and len(candidate.unmet_parameters) == len(
        best.unmet_parameters
    ):
        reason = "costs the same"
    return Alternative(candidate.plan.slug, candidate.plan.total_estimate, reason)


def _no_matching_model(
    request: ModelRequest,
    candidates: list[_Candidate],
    refusals: Mapping[str, Failure],
    suggestions: tuple[Model, ...],
) -> NoMatchingModel:
    """Error with what each model cannot do, and the fields that none of them supports."""
    reasons = {
        candidate.plan.slug: f"does not honour {', '.join(candidate.unmet_parameters)}"
        for candidate in candidates
    }
    reasons |= {slug: failure.message for slug, failure in refusals.items()}
    message = f"no {request.modality.value} model of quality {request.quality} can take it"
    failure = Failure(
        NoMatchingModel.reason,
        f"no {request.modality.value} model of quality {request.quality} can do what was asked",
        {"quality": request.quality, **reasons},
        tuple(
            Violation(field, message) for field in _fields_at_fault(request, candidates, refusals)
        ),
    )
    error = NoMatchingModel(failure.message)
    error.failure = _suggest_models(failure, request, suggestions)
    return error


def _fields_at_fault(
    request: ModelRequest, candidates: list[_Candidate], refusals: Mapping[str, Failure]
) -> list[str]:
    """The fields of the request that most models reject, else those that most require and it lacks.

    Where no model makes such audio at all, the field that determines the kind.
    """
    if not candidates and not refusals:
        return [_requested_audio_kinds(request)[0] or "options.quality"]
    all_counts = Counter(field for candidate in candidates for field in candidate.unmet_parameters)
    for failure in refusals.values():
        all_counts.update({violation.field for violation in failure.violations})
    request_fields = {
        field: count
        for field, count in all_counts.items()
        if field.partition("[")[0] in request.parameters
    }
    counts = request_fields or all_counts
    highest = max(counts.values(), default=0)
    return sorted(field for field, count in counts.items() if count == highest)


def _suggest_models(
    failure: Failure, request: ModelRequest, suggestions: tuple[Model, ...]
) -> Failure:
    """Add models of another quality that a caller may name instead to a failure."""
    names = ", ".join(f"{model.slug} ({model.quality.value})" for model in suggestions)
    if not names:
        return failure
    return replace(
        failure,
        message=f"{failure.message}; of another quality than {request.quality} there is {names}",
        metadata={"able": names, **failure.metadata},
    )
