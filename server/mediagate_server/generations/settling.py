"""The end of a prediction as the end of its generation: record and ledger line. Pure."""

from datetime import datetime

from msgspec import Struct

from mediagate_server import ledger
from mediagate_server.catalog.prices import PriceSchedule
from mediagate_server.errors import Failure
from mediagate_server.generations import attempts, endings
from mediagate_server.generations.finish import Streamed, finish, within_bounds
from mediagate_server.generations.media_discovery import count_of_kind
from mediagate_server.generations.structured import Reading
from mediagate_server.replacing import replace
from mediagate_server.replicate.port import Prediction, PredictionStatus
from mediagate_server.store.records import (
    Attempt,
    AttemptState,
    Charged,
    Entry,
    Generation,
    Output,
    State,
    Usage,
)

_ENDED = {
    PredictionStatus.SUCCEEDED: AttemptState.SUCCEEDED,
    PredictionStatus.FAILED: AttemptState.FAILED,
    PredictionStatus.CANCELED: AttemptState.CANCELLED,
    PredictionStatus.ABORTED: AttemptState.ABORTED,
}
NOT_TAKEN = frozenset({AttemptState.REFUSED, AttemptState.ABSENT})
"""Attempts of which nothing runs upstream, as far as anybody can know."""


class Settled(Struct, frozen=True):
    """The terminal record, the attempt in it, and its ledger line.

    `rest` is text that streams have still to send; `broken`: what they sent cannot be continued.
    """

    record: Generation
    closed: Attempt
    entry: Entry
    rest: str
    broken: bool


def settle(
    record: Generation,
    attempt: Attempt,
    end: Prediction | None,
    price: PriceSchedule,
    *,
    now: datetime,
    streamed: Streamed,
    stopped_because: str,
    reading: Reading | None = None,
    large_media: int | None = 0,
) -> Settled:
    """What becomes of a generation whose prediction is at its end; None: upstream lost it.

    `large_media` is how many media there are in an output that is read later; None: unknown.
    """
    finished = finish(
        record,
        end,
        now=now,
        streamed=streamed,
        stopped_because=stopped_because,
        reading=reading,
    )
    ended = within_bounds(finished.record, end)
    made = ended.output.media if ended.output else ()
    kind = record.shape.get("media_type", "").partition("/")[0]
    delivered = count_of_kind(made, kind) if made else large_media
    entry, basis = reckoned(attempt, end, price, outputs=delivered, usage=ended.usage)
    reason = ended.failure.reason.value if ended.failure else ""
    closing = closed(attempt, end, entry, reason, now, basis)
    return Settled(
        attempts.with_attempt(ended, closing), closing, entry, finished.rest, finished.broken
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
) -> Settled:
    """The same without a look at what was made; `text` is what callers were sent of it."""
    ended = replace(
        record,
        state=State.FAILED,
        failure=failure,
        completed_at=now,
        usage=endings.usage_of(end) if end else record.usage,
        output=Output(text=text) if text else None,
    )
    ended = within_bounds(ended, end)
    entry, basis = reckoned(attempt, end, price, outputs=None)
    closing = closed(attempt, end, entry, failure.reason.value, now, basis)
    return Settled(attempts.with_attempt(ended, closing), closing, entry, rest="", broken=False)


def closed(
    attempt: Attempt,
    end: Prediction | None,
    line: Entry,
    reason: str,
    now: datetime,
    basis: Charged | None,
) -> Attempt:
    """The attempt at its end, with what it cost and what that was reckoned from."""
    return replace(
        attempt,
        state=attempt_state(end),
        reason=reason,
        cost=attempts.cost_of(line),
        completed_at=now,
        charged=basis,
    )


def attempt_state(end: Prediction | None) -> AttemptState:
    """How an attempt ended; None: upstream lost its prediction."""
    return AttemptState.FAILED if end is None else _ENDED[end.status]


def reckoned(
    attempt: Attempt,
    end: Prediction | None,
    price: PriceSchedule,
    *,
    outputs: int | None,
    usage: Usage | None = None,
) -> tuple[Entry, Charged | None]:
    """What an attempt cost, by the price that it was sent under, and what that is reckoned from.

    `outputs` None: nobody has counted them. The latter is None where upstream lost the record that
    would say. `usage` is what the end says was used, where somebody has read it already.
    """
    if end is None:
        return ledger.lost(attempt.id, price), None
    line, tier = ledger.settle_by_tier(attempt.id, price, end.status, end.metrics, outputs=outputs)
    return line, Charged(usage or endings.usage_of(end), outputs or 0, tier.name if tier else "")


def unsent(
    record: Generation, *, closed: Attempt, state: State, failure: Failure, now: datetime
) -> Generation:
    """What becomes of a generation whose last attempt upstream never took."""
    record = attempts.with_attempt(record, closed)
    ended = replace(record, state=state, failure=failure, completed_at=now)
    if never_taken(ended):
        return ended
    return replace(ended, failure=endings.though_some_were_taken(failure, ended.model))


def never_taken(record: Generation) -> bool:
    """True where upstream took no attempt: callers get the status, and nothing is bound."""
    return record.state is State.FAILED and all(
        attempt.state in NOT_TAKEN for attempt in record.attempts
    )
