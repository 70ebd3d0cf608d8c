"""Chooses a model where the caller named none: the cheapest of a quality that does what was asked.

A receipt goes with the choice. What a model is expected to cost for this very request is compared,
not a price of a unit; a model whose price is not known is never the cheapest.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mediagate_server.catalog.model import Model, ModelStatus
from mediagate_server.catalog.plan import Alternative, Choice, Handling, Plan
from mediagate_server.catalog.prices import Estimate
from mediagate_server.catalog.request import Modality, ModelRequest
from mediagate_server.errors import MediagateError, NoModelFits
from mediagate_server.replacing import replace

PlanFor = Callable[[Model, ModelRequest], Plan]
"""Plans a request for one model. Raises MediagateError where that model cannot take it."""

_UNKNOWN = Estimate(None, None, None)


@dataclass(frozen=True, slots=True)
class _Offer:
    """A model that can take the request: its plan, and the parameters that it would not honour."""

    plan: Plan
    unmet: tuple[str, ...]

    @property
    def rank(self) -> tuple[int, bool, int, int, str]:
        """The best comes first: what does the most, then what costs the least."""
        estimate = self.plan.whole
        return (
            len(self.unmet),
            estimate.expected is None,
            estimate.expected or 0,
            estimate.maximum or 0,
            self.plan.slug,
        )


def choose(models: Iterable[Model], request: ModelRequest, plan_for: PlanFor) -> Plan:
    """The plan of the model chosen among those of the request's modality and quality.

    Honoured and emulated is as asked for. Where no model does all of it as asked, a lenient request
    gets the one that does the most; a strict one is refused. Raises NoModelFits.
    """
    offers: list[_Offer] = []
    refused: list[Alternative] = []
    lenient = replace(request, strict=False)
    for model in models:
        if not _belongs(model, request):
            continue
        try:
            plan = plan_for(model, lenient)
        except MediagateError as error:
            refused.append(Alternative(model.slug, _UNKNOWN, error.failure.message))
        else:
            offers.append(_Offer(plan, _unmet(plan)))
    offers.sort(key=lambda offer: offer.rank)
    if not offers or (request.strict and offers[0].unmet):
        raise _no_model_fits(request, offers, refused)
    best = offers[0]
    others = [_passed_over(offer, best) for offer in offers[1:]]
    return replace(best.plan, choice=Choice(_reason(request, best), (*others, *refused)))


def _belongs(model: Model, request: ModelRequest) -> bool:
    if model.modality is not request.modality or model.status is not ModelStatus.LIVE:
        return False
    kinds = _kinds(request)
    return model.quality.value == request.quality and (not kinds or kinds & {*model.makes} != set())


def _kinds(request: ModelRequest) -> set[str]:
    """The kinds of sound that a request can mean; empty: any."""
    if request.modality is not Modality.AUDIO:
        return set()
    asked = request.parameters.get("kind")
    if asked is not None:
        return {str(asked)}
    return {"speech"} if "text" in request.parameters else {"music", "sound_effect"}


def _unmet(plan: Plan) -> tuple[str, ...]:
    return tuple(
        line.parameter
        for line in plan.report
        if line.handling in (Handling.ADJUSTED, Handling.DROPPED)
    )


def _reason(request: ModelRequest, best: _Offer) -> str:
    what = f"of quality {request.quality}"
    if best.plan.whole.expected is None:
        return f"the only one {what} that can take the request; its price is not known"
    if best.unmet:
        names = ", ".join(best.unmet)
        return f"the cheapest {what} of those that honour the most; not as asked: {names}"
    return f"the cheapest {what} that honours everything asked for"


def _passed_over(offer: _Offer, best: _Offer) -> Alternative:
    if len(offer.unmet) > len(best.unmet):
        reason = f"does not honour {', '.join(offer.unmet)}"
    elif offer.plan.whole.expected is None:
        reason = "its price is not known"
    else:
        reason = "costs more"
    if offer.rank[1:4] == best.rank[1:4] and len(offer.unmet) == len(best.unmet):
        reason = "costs the same"
    return Alternative(offer.plan.slug, offer.plan.whole, reason)


def _no_model_fits(
    request: ModelRequest, offers: list[_Offer], refused: list[Alternative]
) -> NoModelFits:
    """Names what each model cannot do."""
    unmet = {offer.plan.slug: f"does not honour {', '.join(offer.unmet)}" for offer in offers}
    reasons = {**unmet, **{alternative.model: alternative.reason for alternative in refused}}
    return NoModelFits(
        f"no {request.modality.value} model of quality {request.quality} can do what was asked",
        metadata={"quality": request.quality, **reasons},
    )
