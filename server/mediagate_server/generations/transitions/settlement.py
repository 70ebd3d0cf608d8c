"""Settlement of a prediction: its terminal record and its ledger entry. Pure."""

from datetime import datetime

from msgspec import Struct

from mediagate_server import ledger
from mediagate_server.catalog.pricing.prices import PriceSchedule
from mediagate_server.errors import Failure
from mediagate_server.generations.outputs.json_output import JsonReading
from mediagate_server.generations.outputs.media_discovery import count_of_kind
from mediagate_server.generations.transitions import attempts, failures
from mediagate_server.generations.transitions.outcome import StreamedText, apply_end, truncate_text
from mediagate_server.store.records import (
    Attempt,
    AttemptState,
    ChargeBasis,
    Generation,
    LedgerEntry,
    Output,
    State,
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
NEVER_ACCEPTED = frozenset({AttemptState.REFUSED, AttemptState.ABSENT})
"""Attempts of which nothing runs upstream, as far as anybody can know."""


class Settlement(Struct, frozen=True):
    """The terminal record, the attempt in it, and its ledger line.

    `unsent_text` is what streams have still to send; `broken`: what they sent cannot be continued.
    """

    record: Generation
    closed: Attempt
    entry: LedgerEntry
    unsent_text: str
    broken: bool


def settle_prediction(
    record: Generation,
    attempt: Attempt,
    end: Prediction | None,
    price: PriceSchedule,
    *,
    now: datetime,
    streamed: StreamedText,
    cancel_reason: str,
    reading: JsonReading | None = None,
    large_media: int | None = 0,
) -> Settlement:
    """What becomes of a generation whose prediction is at its end; None: upstream lost it.

    `large_media` is how many media there are in an output that is read later; None: unknown.
    """
    finished = apply_end(
        record,
        end,
        now=now,
        streamed=streamed,
        cancel_reason=cancel_reason,
        reading=reading,
    )
    ended = truncate_text(finished.record, end)
    made = ended.output.media if ended.output else ()
    kind = record.shape.get("media_type", "").partition("/")[0]
    delivered = count_of_kind(made, kind) if made else large_media
    entry, basis = settlement_entry(attempt, end, price, outputs=delivered, usage=ended.usage)
    reason = ended.failure.reason.value if ended.failure else ""
    closing = end_attempt(attempt, end, entry, reason, now, basis)
    return Settlement(
        attempts.with_attempt(ended, closing),
        closing,
        entry,
        finished.unsent_text,
        finished.is_broken,
    )


def settle_quarantined(
    record: Generation,
    attempt: Attempt,
    end: Prediction | None,
    price: PriceSchedule,
    failure: Failure,
    *,
    now: datetime,
    text: str,
) -> Settlement:
    """The same without a look at what was made; `text` is what callers were sent of it."""
    ended = replace(
        record,
        state=State.FAILED,
        failure=failure,
        completed_at=now,
        usage=failures.usage_from(end) if end else record.usage,
        output=Output(text=text) if text else None,
    )
    ended = truncate_text(ended, end)
    entry, basis = settlement_entry(attempt, end, price, outputs=None)
    closing = end_attempt(attempt, end, entry, failure.reason.value, now, basis)
    return Settlement(
        attempts.with_attempt(ended, closing), closing, entry, unsent_text="", broken=False
    )


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
        usage or failures.usage_from(end), outputs or 0, tier.name if tier else ""
    )


def fail_unsubmitted(
    record: Generation, *, closed: Attempt, state: State, failure: Failure, now: datetime
) -> Generation:
    """What becomes of a generation whose last attempt upstream never took."""
    record = attempts.with_attempt(record, closed)
    ended = replace(record, state=state, failure=failure, completed_at=now)
    if was_never_accepted(ended):
        return ended
    return replace(ended, failure=failures.as_non_retryable(failure, ended.model))


def was_never_accepted(record: Generation) -> bool:
    """True where upstream took no attempt: callers get the status, and nothing is bound."""
    return record.state is State.FAILED and all(
        attempt.state in NEVER_ACCEPTED for attempt in record.attempts
    )
