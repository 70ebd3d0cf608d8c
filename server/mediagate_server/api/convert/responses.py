"""Response encoder: records and plans -> protobuf; webhook events -> proto JSON."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf import json_format, struct_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from msgspec import to_builtins

from mediagate.v1 import (
    cost_pb2,
    generation_pb2,
    medium_pb2,
    modality_pb2,
    plan_pb2,
    verdict_pb2,
    webhook_pb2,
)
from mediagate_server.api.status import to_status
from mediagate_server.catalog.planning.request_plan import RequestPlan
from mediagate_server.errors import Reason
from mediagate_server.generations.outputs.media_discovery import main_output_index
from mediagate_server.media.signed_links import NO_LINKS, MediaLinkSigner, SignedLink
from mediagate_server.store.outbox import EventKind, OutboxEvent
from mediagate_server.store.records import (
    Attempt,
    AttemptState,
    Cost,
    CostState,
    Generation,
    Output,
    Purpose,
    State,
    StoredMedia,
    Usage,
    Verdict,
)

_REASONS_AFTER_SUCCESS: Final = frozenset({Reason.OUTPUT_INVALID, Reason.OUTPUT_TOO_LARGE})
"""Reasons of failures of which the model knows nothing: its own run has succeeded."""


def derive_finish_reason(record: Generation) -> "generation_pb2.FinishReason.ValueType":
    """Finish reason of a text, from its record.

    UNSPECIFIED while it has not ended, where it failed, and where nobody knows.

    Replicate does not say why a text ended. LENGTH: as many tokens were counted as the model was
    allowed. STOP: fewer were, or there was no limit; where there was one and no count came, it may
    have been either.
    """
    if not record.state.is_terminal:
        return generation_pb2.FINISH_REASON_UNSPECIFIED
    reason = record.failure.reason if record.failure else None
    if reason is Reason.CONTENT_BLOCKED:
        return generation_pb2.FINISH_REASON_CONTENT
    if record.state is State.CANCELLED:
        return generation_pb2.FINISH_REASON_CANCELLED
    if record.state is not State.SUCCEEDED and reason not in _REASONS_AFTER_SUCCESS:
        return generation_pb2.FINISH_REASON_UNSPECIFIED
    if record.token_limit is None:
        return generation_pb2.FINISH_REASON_STOP
    tokens = record.usage.output_tokens if record.usage else None
    if tokens is None:
        return generation_pb2.FINISH_REASON_UNSPECIFIED
    if tokens >= record.token_limit:
        return generation_pb2.FINISH_REASON_LENGTH
    return generation_pb2.FINISH_REASON_STOP


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = 86_400
STATES: Final = {s: generation_pb2.Generation.State.Value(f"STATE_{s.name}") for s in State}
_ATTEMPT_STATES: Final = {
    s: generation_pb2.Attempt.State.Value(f"STATE_{s.name}") for s in AttemptState
}
_PURPOSES: Final = {p: generation_pb2.Attempt.Purpose.Value(f"PURPOSE_{p.name}") for p in Purpose}
_COST_STATES: Final = {s: cost_pb2.CostState.Value(f"COST_STATE_{s.name}") for s in CostState}
MODALITIES: Final = {
    word: modality_pb2.Modality.Value(f"MODALITY_{word.upper()}")
    for word in ("text", "image", "video", "audio", "safety", "raw")
}
_HANDLINGS: Final = {
    word: plan_pb2.ParameterReport.Handling.Value(f"HANDLING_{word.upper()}")
    for word in ("honoured", "adjusted", "emulated", "dropped")
}


def encode_generation(
    record: Generation,
    links: Mapping[int, SignedLink] = NO_LINKS,
    *,
    full: bool = False,
    now: Callable[[], datetime] | None = None,
) -> generation_pb2.Generation:
    """Encode a generation, with its logs if `full`. `links` are those signed for its outputs.

    Upstream's links that have expired are left out.
    """
    generation = generation_pb2.Generation(
        id=record.id,
        modality=MODALITIES[record.modality],
        state=STATES[record.state],
        request_id=record.request_id,
        requested_model=record.requested_model,
        model=record.model,
        substitution=encode_substitution(record.requested_model, record.substitution),
        choice=encode_choice(record.choice),
        attempts=[_attempt(attempt) for attempt in record.attempts],
        parameters=encode_parameter_reports(record.parameters),
        seed=record.seed,
        usage=encode_usage(record.usage),
        cost=encode_cost(record.cost),
        safety=encode_verdict(record.verdict),
        logs=record.logs if full else "",
        create_time=to_timestamp(record.created_at),
        start_time=to_timestamp(record.started_at),
        complete_time=to_timestamp(record.completed_at),
        deadline_time=to_timestamp(record.deadline_at),
        labels=record.labels or None,
        sandbox=record.sandbox,
        erase_time=to_timestamp(record.erased_at),
    )
    if record.failure:
        generation.error.CopyFrom(to_status(record.failure))
    if full and record.logs_document:
        generation.logs_document.CopyFrom(encode_document(record.id, "logs", record.logs_document))
    _set_output(generation, record, links, (now or _now)())
    if record.queue_position:
        generation.queue_position = record.queue_position.position
        generation.expected_start_time.FromDatetime(record.queue_position.expected_at)
    if record.progress is not None:
        generation.progress = record.progress
    if record.run_estimate and record.state is State.RUNNING:
        generation.expected_complete_time.FromDatetime(record.run_estimate.median)
        generation.expected_complete_time_p90.FromDatetime(record.run_estimate.p90)
    for missing in record.missing if record.state is not State.FINALIZING else ():
        generation.partial.missing.add(index=missing.index, error=to_status(missing.failure))
    return generation


def encode_substitution(requested_model: str, reason: str) -> plan_pb2.Substitution | None:
    """Encode why another model is used than the requested one; unset where none is."""
    if not reason:
        return None
    return plan_pb2.Substitution(requested_model=requested_model, reason=reason)


def encode_parameter_reports(
    lines: Iterable[Mapping[str, str]],
) -> list[plan_pb2.ParameterReport]:
    """Encode the handling of each parameter, as the catalog reports it."""
    return [
        plan_pb2.ParameterReport(
            parameter=line["parameter"],
            handling=_HANDLINGS[line["handling"]],
            requested=line["requested"],
            sent=line["sent"],
            reason=line["reason"],
        )
        for line in lines
    ]


def encode_request_plan(request_plan: RequestPlan) -> plan_pb2.Plan:
    """Encode the plan of a request, as `validate_only` and EstimateCost answer it."""
    plan, estimate = request_plan.plan, request_plan.estimate
    return plan_pb2.Plan(
        model=plan.slug,
        substitution=encode_substitution(plan.requested_model, plan.substitution.reason)
        if plan.substitution
        else None,
        parameters=[
            plan_pb2.ParameterReport(
                parameter=line.parameter,
                handling=_HANDLINGS[line.handling.value],
                requested=line.requested,
                sent=line.sent,
                reason=line.reason,
            )
            for line in plan.report
        ],
        cost=cost_pb2.CostEstimate(
            low_usd_nanos=estimate.low,
            expected_usd_nanos=estimate.expected,
            maximum_usd_nanos=estimate.maximum,
            price_date=plan.price.as_of,
            state=_estimate_state(request_plan),
            price_source=plan.price.source,
        ),
        fallback_models=[fallback.slug for fallback in request_plan.fallback_chain.plans[1:]],
        target=plan.target,
        choice=encode_choice(to_builtins(plan.choice)) if plan.choice else None,
        skipped_models=[
            plan_pb2.SkippedModel(model=skipped.model, reason=skipped.reason)
            for skipped in request_plan.fallback_chain.skipped
        ],
    )


def _estimate_state(plan: RequestPlan) -> cost_pb2.CostState.ValueType:
    """How sure an estimate is; unset where it is unknown."""
    if plan.estimate.expected is None:
        return cost_pb2.COST_STATE_UNSPECIFIED
    assumed = plan.is_assumed
    return cost_pb2.COST_STATE_ASSUMED if assumed else cost_pb2.COST_STATE_ESTIMATED


def encode_choice(choice: Mapping[str, Any] | None) -> plan_pb2.ModelChoice | None:
    """Encode an automatic choice of model; unset where the caller named one."""
    if choice is None:
        return None
    return plan_pb2.ModelChoice(
        reason=choice["reason"],
        alternatives=[
            plan_pb2.Alternative(
                model=other["model"],
                cost=_estimate(other["estimate"]),
                reason=other["reason"],
            )
            for other in choice["alternatives"]
        ],
    )


def _estimate(bounds: Mapping[str, int | None]) -> cost_pb2.CostEstimate:
    return cost_pb2.CostEstimate(
        low_usd_nanos=bounds["low"],
        expected_usd_nanos=bounds["expected"],
        maximum_usd_nanos=bounds["maximum"],
    )


def encode_cost(cost: Cost | None) -> cost_pb2.Cost | None:
    """Encode a cost; unset where it is unknown."""
    if cost is None:
        return None
    return cost_pb2.Cost(
        usd_nanos=cost.nanos, state=_COST_STATES[cost.state], price_date=cost.price_date
    )


def encode_verdict(verdict: Verdict | None) -> verdict_pb2.SafetyVerdict | None:
    """Encode a safety model's verdict; unset where there is none."""
    if verdict is None:
        return None
    if verdict.not_checked:
        return verdict_pb2.SafetyVerdict(not_checked=verdict.not_checked)
    return verdict_pb2.SafetyVerdict(
        verdict=verdict_pb2.SafetyVerdict.VERDICT_SAFE
        if verdict.safe
        else verdict_pb2.SafetyVerdict.VERDICT_UNSAFE,
        categories=[
            verdict_pb2.SafetyCategory(code=harm.code, name=harm.name) for harm in verdict.harms
        ],
        confidence=verdict.confidence,
        model=verdict.model,
        unreadable=verdict.unreadable,
    )


def encode_usage(usage: Usage | None) -> cost_pb2.Usage | None:
    """Encode the usage of a generation; unset where it is unknown."""
    if usage is None:
        return None
    return cost_pb2.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        input_characters=usage.input_characters,
        images=usage.images,
        media_duration=_duration(usage.media_seconds),
        run_duration=_duration(usage.run_seconds),
    )


def _attempt(attempt: Attempt) -> generation_pb2.Attempt:
    return generation_pb2.Attempt(
        ordinal=attempt.ordinal,
        purpose=_PURPOSES[attempt.purpose],
        output_index=attempt.output_index,
        model=attempt.model,
        account=attempt.account,
        prediction_id=attempt.prediction_id,
        state=_ATTEMPT_STATES[attempt.state],
        reason=attempt.reason,
        cost=encode_cost(attempt.cost),
        create_time=to_timestamp(attempt.created_at),
        complete_time=to_timestamp(attempt.completed_at),
    )


def _set_output(
    generation: generation_pb2.Generation,
    record: Generation,
    links: Mapping[int, SignedLink],
    now: datetime,
) -> None:
    output = record.output
    is_text = record.modality == "text" and not record.erased_at
    if is_text and (reason := derive_finish_reason(record)):
        generation.text.finish_reason = reason  # Also of one that came to no text.
    if output is None or record.state is State.FINALIZING:
        return  # The output is shown once it is known what it is and whether it was stored.
    if record.modality == "raw":
        generation.raw.CopyFrom(_raw(record, output, links, now))
        return
    if output.text is not None:
        generation.text.text = output.text
        if output.document:
            generation.text.document.CopyFrom(encode_document(record.id, "output", output.document))
        return
    media = _media(record.id, output, links, now)
    if record.modality == "image":
        generation.images.images.extend(media)
    elif media:
        main = media.pop(main_output_index(output.media, record.modality))
        if record.modality == "video":
            generation.video.CopyFrom(generation_pb2.VideoOutput(video=main, other_media=media))
        else:
            generation.audio.CopyFrom(generation_pb2.AudioOutput(audio=main, other_media=media))


def _media(
    generation_id: str, output: Output, links: Mapping[int, SignedLink], now: datetime
) -> list[medium_pb2.Media]:
    return [
        encode_media(generation_id, index, medium, links.get(index), now)
        for index, medium in enumerate(output.media)
    ]


def _raw(
    record: Generation, output: Output, links: Mapping[int, SignedLink], now: datetime
) -> generation_pb2.RawOutput:
    if output.document:
        return generation_pb2.RawOutput(
            value=struct_pb2.Value(string_value=output.text) if output.text else None,
            media=_media(record.id, output, links, now),
            document=encode_document(record.id, "output", output.document),
        )
    value: Any = output.value if output.text is None else output.text
    return generation_pb2.RawOutput(
        value=json_format.ParseDict(value, struct_pb2.Value()),
        media=_media(record.id, output, links, now),
        exact_json=output.exact_json,
    )


def encode_document(generation_id: str, name: str, document: StoredMedia) -> medium_pb2.Media:
    """Encode a document of a generation, which MediaService.ReadMedia reads."""
    return medium_pb2.Media(
        id=f"{generation_id}/{name}" if document.is_stored else "",
        media_type=document.media_type,
        size_bytes=document.size,
        sha256=document.sha256,
        error=to_status(document.failure) if document.failure else None,
    )


def encode_media(
    generation_id: str,
    index: int,
    medium: StoredMedia,
    link: SignedLink | None = None,
    now: datetime | None = None,
) -> medium_pb2.Media:
    """Encode one output, with our own `link` if there is one, else upstream's until it expires."""
    is_expired = medium.expires_at is not None and medium.expires_at <= (now or _now())
    upstream_uri = "" if is_expired else medium.uri
    return medium_pb2.Media(
        id=f"{generation_id}/{index}" if medium.is_stored else "",
        uri=link.uri if link else upstream_uri,
        uri_expire_time=to_timestamp(
            link.expires_at if link else medium.expires_at if upstream_uri else None
        ),
        media_type=medium.media_type,
        size_bytes=medium.size,
        sha256=medium.sha256,
        width=medium.width,
        height=medium.height,
        duration=_duration(medium.seconds),
        error=to_status(medium.failure) if medium.failure else None,
    )


def to_timestamp(moment: datetime | None) -> Timestamp | None:
    """Encode a time; unset where there is none."""
    if moment is None:
        return None
    # What FromDatetime does, at a fifth of its price: a generation has half a dozen times.
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * _DAY + since.seconds, nanos=since.microseconds * 1_000)


def _duration(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    span = Duration()
    span.FromNanoseconds(round(seconds * 1e9))
    return span


def _now() -> datetime:
    return datetime.now(UTC)


_EVENT_TYPES: Final = {
    kind: webhook_pb2.WebhookEventType.Value(f"WEBHOOK_EVENT_TYPE_{kind.name}")
    for kind in EventKind
}


class WebhookEventEncoder:
    """Encodes webhook events. Links to stored outputs are signed anew for each attempt."""

    def __init__(self, links: MediaLinkSigner) -> None:
        self._links = links

    async def encode(self, event: OutboxEvent, record: Generation | None) -> bytes:
        """Encode the body of a webhook: the event, and the generation as it is now."""
        message = webhook_pb2.WebhookEvent(type=_EVENT_TYPES[event.kind])
        message.time.FromDatetime(event.happened_at)
        if record is not None:
            message.generation.CopyFrom(
                encode_generation(record, await self._links.links_for(record))
            )
        if event.kind is EventKind.BUDGET_THRESHOLD:
            json_format.ParseDict(dict(event.facts), message.budget)
        return json_format.MessageToJson(message, indent=None, ensure_ascii=False).encode()
