"""Settlement of a prediction: the end of its step and its ledger entry. Pure.

`execution/generation_run.py` (`_settle`) calls and commits it; the amount is from `ledger.py`.
"""

from datetime import datetime

from mediagate_server import ledger
from mediagate_server.catalog.pricing.prices import PriceSchedule
from mediagate_server.errors import Failure
from mediagate_server.generations.outputs.json_output import JsonReading
from mediagate_server.generations.outputs.media_discovery import count_of_kind
from mediagate_server.generations.transitions import attempts, prediction_usage
from mediagate_server.generations.transitions.outcome import (
    StreamedText,
    failed_step,
    read_end,
    truncate_text,
)
from mediagate_server.generations.transitions.step_results import SettledStep, as_screening
from mediagate_server.generations.transitions.step_spec import StepSpec
from mediagate_server.store.records import (
    Attempt,
    AttemptState,
    ChargeBasis,
    LedgerEntry,
    Output,
    Usage,
)
from mediagate_server.structs import replace
from mediagate_server.upstream.port import Prediction, PredictionStatus

_ENDED = {
    PredictionStatus.SUCCEEDED: AttemptState.SUCCEEDED,
    PredictionStatus.FAILED: AttemptState.FAILED,
    PredictionStatus.CANCELED: AttemptState.CANCELLED,
    PredictionStatus.ABORTED: AttemptState.ABORTED,
}


def settle_prediction(
    spec: StepSpec,
    end: Prediction | None,
    price: PriceSchedule,
    *,
    now: datetime,
    streamed: StreamedText,
    cancel_reason: str,
    reading: JsonReading | None = None,
    large_media: int | None = 0,
) -> SettledStep:
    """What becomes of a step whose prediction is at its end; None: upstream lost it.

    `large_media` is how many media there are in an output that is read later; None: unknown.
    """
    outcome = read_end(
        spec,
        end,
        now=now,
        streamed=streamed,
        cancel_reason=cancel_reason,
        reading=reading,
    )
    step = truncate_text(outcome.step, spec.model, end)
    media = step.output.media if step.output else ()
    kind = spec.shape.get("media_type", "").partition("/")[0]
    delivered = count_of_kind(media, kind) if media else large_media
    entry, basis = settlement_entry(spec.attempt, end, price, outputs=delivered, usage=step.usage)
    # The attempt's reason is its run's own; a screening's refusal is the generation's.
    reason = step.failure.reason.value if step.failure else ""
    closed = end_attempt(spec.attempt, end, entry, reason, now, basis)
    return SettledStep(
        as_screening(step, spec.model),
        closed,
        entry,
        now,
        outcome.started_at,
        outcome.unsent_text,
        outcome.is_broken,
    )


def settle_quarantined(
    spec: StepSpec,
    end: Prediction | None,
    price: PriceSchedule,
    failure: Failure,
    *,
    now: datetime,
    text: str,
) -> SettledStep:
    """The same without a look at the output; `text` is what callers were sent of it."""
    step = failed_step(spec, failure, Output(text=text) if text else None)
    if end is not None:
        step = replace(step, usage=prediction_usage.usage_from(end))
    step = truncate_text(step, spec.model, end)
    entry, basis = settlement_entry(spec.attempt, end, price, outputs=None)
    closed = end_attempt(spec.attempt, end, entry, failure.reason.value, now, basis)
    return SettledStep(step, closed, entry, now)


def end_attempt(
    attempt: Attempt,
    end: Prediction | None,
    line: LedgerEntry,
    reason: str,
    now: datetime,
    basis: ChargeBasis | None,
) -> Attempt:
    """The attempt at its end, with what it cost and what that was reckoned from."""
    return replace(
        attempt,
        state=attempt_state(end),
        reason=reason,
        cost=attempts.entry_cost(line),
        completed_at=now,
        charged=basis,
    )


def attempt_state(end: Prediction | None) -> AttemptState:
    """How an attempt ended; None: upstream lost its prediction."""
    return AttemptState.FAILED if end is None else _ENDED[end.status]


def settlement_entry(
    attempt: Attempt,
    end: Prediction | None,
    price: PriceSchedule,
    *,
    outputs: int | None,
    usage: Usage | None = None,
) -> tuple[LedgerEntry, ChargeBasis | None]:
    """What an attempt cost, by the price that it was sent under, and what that is reckoned from.

    `outputs` None: nobody has counted them. The latter is None where upstream lost the record that
    would say. `usage` is what the end says was used, where somebody has read it already.
    """
    if end is None:
        return ledger.settle_unknown(attempt.id, price), None
    line, tier = ledger.settle_with_tier(
        attempt.id, price, end.status, end.metrics, outputs=outputs
    )
    return line, ChargeBasis(
        usage or prediction_usage.usage_from(end), outputs or 0, tier.name if tier else ""
    )
