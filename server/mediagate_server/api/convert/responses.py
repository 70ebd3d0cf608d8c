"""From our own words to protobuf: how a generation and a plan are shown to callers.

Finish reason of a text: why it ended, from what its record says.

What a webhook says: the event as the contract has it, in proto JSON.
"""

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

_RAN_TO_ITS_END: Final = frozenset({Reason.OUTPUT_INVALID, Reason.OUTPUT_TOO_LARGE})
"""Reasons of failures of which the model knows nothing: its own run has succeeded."""


def derive_finish_reason(record: Generation) -> "generation_pb2.FinishReason.ValueType":
    """UNSPECIFIED while it is not at its end, where it broke, and where nobody knows.

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
    if record.state is not State.SUCCEEDED and reason not in _RAN_TO_ITS_END:
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
_COSTS: Final = {s: cost_pb2.CostState.Value(f"COST_STATE_{s.name}") for s in CostState}
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
    """A generation; `full` shows its logs too. `links` are those that were minted for its outputs.

    Upstream's links that are over are left out.
    """
    shown = generation_pb2.Generation(
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
        shown.error.CopyFrom(to_status(record.failure))
    if full and record.logs_document:
        shown.logs_document.CopyFrom(encode_document(record.id, "logs", record.logs_document))
    _add_output(shown, record, links, (now or _now)())
    if record.queue_position:
        shown.queue_position = record.queue_position.position
        shown.expected_start_time.FromDatetime(record.queue_position.expected_at)
    if record.progress is not None:
        shown.progress = record.progress
    if record.run_estimate and record.state is State.RUNNING:
        shown.expected_complete_time.FromDatetime(record.run_estimate.median)
        shown.expected_complete_time_p90.FromDatetime(record.run_estimate.p90)
    for missing in record.missing if record.state is not State.FINALIZING else ():
        shown.partial.missing.add(index=missing.index, error=to_status(missing.failure))
    return shown


def encode_substitution(requested_model: str, reason: str) -> plan_pb2.Substitution | None:
    """That another model stands in for the one asked for, and why; unset where none does."""
    if not reason:
        return None
    return plan_pb2.Substitution(requested_model=requested_model, reason=reason)


def encode_parameter_reports(
    lines: Iterable[Mapping[str, str]],
) -> list[plan_pb2.ParameterReport]:
    """What became of each parameter, as the catalog wrote it."""
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


def encode_request_plan(taken: RequestPlan) -> plan_pb2.Plan:
    """A route, as `validate_only` and EstimateCost answer it."""
    planned, whole = taken.plan, taken.estimate
    return plan_pb2.Plan(
        model=planned.slug,
        substitution=encode_substitution(planned.requested_model, planned.substitution.reason)
        if planned.substitution
        else None,
        parameters=[
            plan_pb2.ParameterReport(
                parameter=line.parameter,
                handling=_HANDLINGS[line.handling.value],
                requested=line.requested,
                sent=line.sent,
                reason=line.reason,
            )
            for line in planned.report
        ],
        cost=cost_pb2.CostEstimate(
            low_usd_nanos=whole.low,
            expected_usd_nanos=whole.expected,
            maximum_usd_nanos=whole.maximum,
            price_date=planned.price.as_of,
            state=_estimate_state(taken),
            price_source=planned.price.source,
        ),
        fallback_models=[plan.slug for plan in taken.fallback_chain.plans[1:]],
        target=planned.target,
        choice=encode_choice(to_builtins(planned.choice)) if planned.choice else None,
        skipped_models=[
            plan_pb2.SkippedModel(model=skipped.model, reason=skipped.reason)
            for skipped in taken.fallback_chain.skipped
        ],
    )


def _estimate_state(taken: RequestPlan) -> cost_pb2.CostState.ValueType:
    """How sure an estimate is; unset where it is unknown."""
    if taken.estimate.expected is None:
        return cost_pb2.COST_STATE_UNSPECIFIED
    assumed = taken.is_assumed
    return cost_pb2.COST_STATE_ASSUMED if assumed else cost_pb2.COST_STATE_ESTIMATED


def encode_choice(receipt: Mapping[str, Any] | None) -> plan_pb2.ModelChoice | None:
    """The receipt for a choice of model, as the catalog wrote it; unset where one was named."""
    if receipt is None:
        return None
    return plan_pb2.ModelChoice(
        reason=receipt["reason"],
        alternatives=[
            plan_pb2.Alternative(
                model=other["model"],
                cost=_estimate(other["estimate"]),
                reason=other["reason"],
            )
            for other in receipt["alternatives"]
        ],
    )


def _estimate(bounds: Mapping[str, int | None]) -> cost_pb2.CostEstimate:
    return cost_pb2.CostEstimate(
        low_usd_nanos=bounds["low"],
        expected_usd_nanos=bounds["expected"],
        maximum_usd_nanos=bounds["maximum"],
    )


def encode_cost(amount: Cost | None) -> cost_pb2.Cost | None:
    """An amount; unset where it is unknown."""
    if amount is None:
        return None
    return cost_pb2.Cost(
        usd_nanos=amount.nanos, state=_COSTS[amount.state], price_date=amount.price_date
    )


def encode_verdict(found: Verdict | None) -> verdict_pb2.SafetyVerdict | None:
    """A safety model's verdict; unset where there is none."""
    if found is None:
        return None
    if found.not_checked:
        return verdict_pb2.SafetyVerdict(not_checked=found.not_checked)
    return verdict_pb2.SafetyVerdict(
        verdict=verdict_pb2.SafetyVerdict.VERDICT_SAFE
        if found.safe
        else verdict_pb2.SafetyVerdict.VERDICT_UNSAFE,
        categories=[
            verdict_pb2.SafetyCategory(code=harm.code, name=harm.name) for harm in found.harms
        ],
        confidence=found.confidence,
        model=found.model,
        unreadable=found.unreadable,
    )


def encode_usage(used: Usage | None) -> cost_pb2.Usage | None:
    """What was used."""
    if used is None:
        return None
    return cost_pb2.Usage(
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        input_characters=used.input_characters,
        images=used.images,
        media_duration=_duration(used.media_seconds),
        run_duration=_duration(used.run_seconds),
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


def _add_output(
    shown: generation_pb2.Generation,
    record: Generation,
    links: Mapping[int, SignedLink],
    now: datetime,
) -> None:
    output = record.output
    is_text = record.modality == "text" and not record.erased_at
    if is_text and (reason := derive_finish_reason(record)):
        shown.text.finish_reason = reason  # Also of one that came to no text.
    if output is None or record.state is State.FINALIZING:
        return  # What it made is told once it is known what it is and whether it was kept.
    if record.modality == "raw":
        shown.raw.CopyFrom(_raw(record, output, links, now))
        return
    if output.text is not None:
        shown.text.text = output.text
        if output.document:
            shown.text.document.CopyFrom(encode_document(record.id, "output", output.document))
        return
    shown_media = _media(record.id, output, links, now)
    if record.modality == "image":
        shown.images.images.extend(shown_media)
    elif shown_media:
        main = shown_media.pop(main_output_index(output.media, record.modality))
        if record.modality == "video":
            shown.video.CopyFrom(generation_pb2.VideoOutput(video=main, other_media=shown_media))
        else:
            shown.audio.CopyFrom(generation_pb2.AudioOutput(audio=main, other_media=shown_media))


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


def encode_document(generation_id: str, name: str, kept: StoredMedia) -> medium_pb2.Media:
    """A document of a generation, which MediaService.ReadMedia reads."""
    return medium_pb2.Media(
        id=f"{generation_id}/{name}" if kept.is_stored else "",
        media_type=kept.media_type,
        size_bytes=kept.size,
        sha256=kept.sha256,
        error=to_status(kept.failure) if kept.failure else None,
    )


def encode_media(
    generation_id: str,
    index: int,
    medium: StoredMedia,
    link: SignedLink | None = None,
    now: datetime | None = None,
) -> medium_pb2.Media:
    """One output: our own `link` to it where there is one, else upstream's until that is over."""
    gone = medium.expires_at is not None and medium.expires_at <= (now or _now())
    theirs = "" if gone else medium.uri
    return medium_pb2.Media(
        id=f"{generation_id}/{index}" if medium.is_stored else "",
        uri=link.uri if link else theirs,
        uri_expire_time=to_timestamp(
            link.expires_at if link else medium.expires_at if theirs else None
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
    """A moment; unset where there is none."""
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


_TYPES: Final = {
    kind: webhook_pb2.WebhookEventType.Value(f"WEBHOOK_EVENT_TYPE_{kind.name}")
    for kind in EventKind
}


class WebhookEventEncoder:
    """Writes events. Links to what is kept are minted anew for each try."""

    def __init__(self, links: MediaLinkSigner) -> None:
        self._links = links

    async def encode(self, callback: OutboxEvent, record: Generation | None) -> bytes:
        """The body of a webhook: what happened, and the generation as it stands now."""
        event = webhook_pb2.WebhookEvent(type=_TYPES[callback.kind])
        event.time.FromDatetime(callback.happened_at)
        if record is not None:
            event.generation.CopyFrom(
                encode_generation(record, await self._links.links_for(record))
            )
        if callback.kind is EventKind.BUDGET_THRESHOLD:
            json_format.ParseDict(dict(callback.facts), event.budget)
        return json_format.MessageToJson(event, indent=None, ensure_ascii=False).encode()
