"""From our own words to protobuf: how a generation and a plan are shown to callers."""

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
)
from mediagate_server.catalog.route import Route
from mediagate_server.generations.media_discovery import main_index
from mediagate_server.outputs.links import NO_LINKS, Link
from mediagate_server.services.finish_reasons import finish_reason_of
from mediagate_server.status import status_of
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


def generation(
    record: Generation,
    links: Mapping[int, Link] = NO_LINKS,
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
        substitution=substitution(record.requested_model, record.substitution),
        choice=choice(record.choice),
        attempts=[_attempt(attempt) for attempt in record.attempts],
        parameters=parameter_reports(record.parameters),
        seed=record.seed,
        usage=usage(record.usage),
        cost=cost(record.cost),
        safety=verdict(record.verdict),
        logs=record.logs if full else "",
        create_time=time(record.created_at),
        start_time=time(record.started_at),
        complete_time=time(record.completed_at),
        deadline_time=time(record.deadline_at),
        labels=record.labels or None,
        sandbox=record.sandbox,
        erase_time=time(record.erased_at),
    )
    if record.failure:
        shown.error.CopyFrom(status_of(record.failure))
    if full and record.logs_document:
        shown.logs_document.CopyFrom(document(record.id, "logs", record.logs_document))
    _add_output(shown, record, links, (now or _now)())
    if record.place:
        shown.queue_position = record.place.position
        shown.expected_start_time.FromDatetime(record.place.expected_at)
    if record.progress is not None:
        shown.progress = record.progress
    if record.run_estimate and record.state is State.RUNNING:
        shown.expected_complete_time.FromDatetime(record.run_estimate.median)
        shown.expected_complete_time_p90.FromDatetime(record.run_estimate.p90)
    for missing in record.missing if record.state is not State.FINALIZING else ():
        shown.partial.missing.add(index=missing.index, error=status_of(missing.failure))
    return shown


def substitution(requested_model: str, reason: str) -> plan_pb2.Substitution | None:
    """That another model stands in for the one asked for, and why; unset where none does."""
    if not reason:
        return None
    return plan_pb2.Substitution(requested_model=requested_model, reason=reason)


def parameter_reports(
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


def route(taken: Route) -> plan_pb2.Plan:
    """A route, as `validate_only` and EstimateCost answer it."""
    planned, whole = taken.plan, taken.estimate
    return plan_pb2.Plan(
        model=planned.slug,
        substitution=substitution(planned.requested_model, planned.substitution.reason)
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
        fallback_models=[plan.slug for plan in taken.candidates.plans[1:]],
        target=planned.target,
        choice=choice(to_builtins(planned.choice)) if planned.choice else None,
        skipped_models=[
            plan_pb2.SkippedModel(model=skipped.model, reason=skipped.reason)
            for skipped in taken.candidates.skipped
        ],
    )


def _estimate_state(taken: Route) -> cost_pb2.CostState.ValueType:
    """How sure an estimate is; unset where it is unknown."""
    if taken.estimate.expected is None:
        return cost_pb2.COST_STATE_UNSPECIFIED
    assumed = taken.is_assumed
    return cost_pb2.COST_STATE_ASSUMED if assumed else cost_pb2.COST_STATE_ESTIMATED


def choice(receipt: Mapping[str, Any] | None) -> plan_pb2.ModelChoice | None:
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


def cost(amount: Cost | None) -> cost_pb2.Cost | None:
    """An amount; unset where it is unknown."""
    if amount is None:
        return None
    return cost_pb2.Cost(
        usd_nanos=amount.nanos, state=_COSTS[amount.state], price_date=amount.price_date
    )


def verdict(found: Verdict | None) -> verdict_pb2.SafetyVerdict | None:
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


def usage(used: Usage | None) -> cost_pb2.Usage | None:
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
        cost=cost(attempt.cost),
        create_time=time(attempt.created_at),
        complete_time=time(attempt.completed_at),
    )


def _add_output(
    shown: generation_pb2.Generation, record: Generation, links: Mapping[int, Link], now: datetime
) -> None:
    output = record.output
    is_text = record.modality == "text" and not record.erased_at
    if is_text and (reason := finish_reason_of(record)):
        shown.text.finish_reason = reason  # Also of one that came to no text.
    if output is None or record.state is State.FINALIZING:
        return  # What it made is told once it is known what it is and whether it was kept.
    if record.modality == "raw":
        shown.raw.CopyFrom(_raw(record, output, links, now))
        return
    if output.text is not None:
        shown.text.text = output.text
        if output.document:
            shown.text.document.CopyFrom(document(record.id, "output", output.document))
        return
    shown_media = _media(record.id, output, links, now)
    if record.modality == "image":
        shown.images.images.extend(shown_media)
    elif shown_media:
        main = shown_media.pop(main_index(output.media, record.modality))
        if record.modality == "video":
            shown.video.CopyFrom(generation_pb2.VideoOutput(video=main, other_media=shown_media))
        else:
            shown.audio.CopyFrom(generation_pb2.AudioOutput(audio=main, other_media=shown_media))


def _media(
    generation_id: str, output: Output, links: Mapping[int, Link], now: datetime
) -> list[medium_pb2.Media]:
    return [
        media(generation_id, index, medium, links.get(index), now)
        for index, medium in enumerate(output.media)
    ]


def _raw(
    record: Generation, output: Output, links: Mapping[int, Link], now: datetime
) -> generation_pb2.RawOutput:
    if output.document:
        return generation_pb2.RawOutput(
            value=struct_pb2.Value(string_value=output.text) if output.text else None,
            media=_media(record.id, output, links, now),
            document=document(record.id, "output", output.document),
        )
    value: Any = output.value if output.text is None else output.text
    return generation_pb2.RawOutput(
        value=json_format.ParseDict(value, struct_pb2.Value()),
        media=_media(record.id, output, links, now),
        exact_json=output.exact_json,
    )


def document(generation_id: str, name: str, kept: StoredMedia) -> medium_pb2.Media:
    """A document of a generation, which MediaService.ReadMedia reads."""
    return medium_pb2.Media(
        id=f"{generation_id}/{name}" if kept.kept else "",
        media_type=kept.media_type,
        size_bytes=kept.size,
        sha256=kept.sha256,
        error=status_of(kept.failure) if kept.failure else None,
    )


def media(
    generation_id: str,
    index: int,
    medium: StoredMedia,
    link: Link | None = None,
    now: datetime | None = None,
) -> medium_pb2.Media:
    """One output: our own `link` to it where there is one, else upstream's until that is over."""
    gone = medium.expires_at is not None and medium.expires_at <= (now or _now())
    theirs = "" if gone else medium.uri
    return medium_pb2.Media(
        id=f"{generation_id}/{index}" if medium.kept else "",
        uri=link.uri if link else theirs,
        uri_expire_time=time(link.expires_at if link else medium.expires_at if theirs else None),
        media_type=medium.media_type,
        size_bytes=medium.size,
        sha256=medium.sha256,
        width=medium.width,
        height=medium.height,
        duration=_duration(medium.seconds),
        error=status_of(medium.failure) if medium.failure else None,
    )


def time(moment: datetime | None) -> Timestamp | None:
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
