"""Step results: how each step of a generation ended, and what they make together. Pure.

One path for one step or many: the record of a single step is what its outcome makes of it.

Each output ends alone: some that failed leave a success with some missing, all that failed a
failure. Where a screening ends in anything but safe, nothing else is sent.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from mediagate_server.errors import Failure
from mediagate_server.generations.outputs.media_discovery import main_output_index, missing_outputs
from mediagate_server.generations.transitions import attempts, failures, prediction_usage
from mediagate_server.generations.transitions.attempts import StepKey
from mediagate_server.generations.transitions.safety_verdict_parser import content_blocked_failure
from mediagate_server.store.records import (
    Attempt,
    AttemptState,
    Generation,
    LedgerEntry,
    MissingOutput,
    Output,
    Purpose,
    State,
    StepOutcome,
    StoredMedia,
    Usage,
    Verdict,
)
from mediagate_server.structs import replace

_SCREENED_OUT: Final = "screened out"


class StepAlreadyEnded(Exception):
    """A step that is to be ended has ended already: a screening has ended it."""


class SettledStep(Struct, frozen=True):
    """A step at its end: its outcome, its last attempt, and that one's ledger entry.

    `started_at` is when upstream says that its run began. `unsent_text` is what streams have still
    to send; `is_broken`: what they sent cannot be continued.
    """

    outcome: StepOutcome
    closed: Attempt
    entry: LedgerEntry
    ended_at: datetime
    started_at: datetime | None = None
    unsent_text: str = ""
    is_broken: bool = False

    @property
    def key(self) -> StepKey:
        """Whose end it is."""
        return self.outcome.purpose, self.outcome.output_index

    @property
    def is_refusal(self) -> bool:
        """Whether it is a screening that lets nothing pass."""
        return self.outcome.purpose is Purpose.SCREEN and self.outcome.failure is not None


def never_accepted(
    closed: Attempt, released: LedgerEntry, failure: Failure, *, cancelled: bool, now: datetime
) -> SettledStep:
    """The end of a step whose last attempt upstream never took."""
    state = State.CANCELLED if cancelled else State.FAILED
    outcome = StepOutcome(closed.purpose, closed.output_index, state, failure=failure)
    return SettledStep(outcome, closed, released, now)


def as_screening(outcome: StepOutcome, model: str) -> StepOutcome:
    """A screening's outcome: without a safe verdict, whatever came instead, nothing passes."""
    if outcome.purpose is not Purpose.SCREEN or outcome.state is not State.SUCCEEDED:
        return outcome
    verdict = outcome.verdict or Verdict(safe=False, model=model, unreadable=True)
    failure = content_blocked_failure(verdict)
    state = State.FAILED if failure else State.SUCCEEDED
    return replace(outcome, state=state, verdict=verdict, failure=failure)


def is_screened(record: Generation) -> bool:
    """Whether the screening, if there is one, has let it pass."""
    if all(one.purpose is not Purpose.SCREEN for one in record.attempts):
        return True
    return any(one.purpose is Purpose.SCREEN and not one.failure for one in record.step_outcomes)


def settlement_entries(record: Generation, settled: SettledStep) -> tuple[LedgerEntry, ...]:
    """The ledger entries of the commit that `add_step_result` is for."""
    return (settled.entry, *(released for _, released in _screened_out(record, settled)))


def add_step_result(record: Generation, settled: SettledStep) -> Generation:
    """The record with one more step at its end; and at its own, where that was the last.

    Raises StepAlreadyEnded.
    """
    closed, key = settled.closed, settled.key
    if attempts.has_step_ended(record, key) or not any(
        one.id == closed.id and attempts.is_open(one) for one in record.attempts
    ):
        raise StepAlreadyEnded
    others = (attempt for attempt, _ in _screened_out(record, settled))
    record = attempts.with_attempt(record, closed, *others)
    outcomes = (*record.step_outcomes, settled.outcome)
    ended = {(one.purpose, one.output_index) for one in outcomes}
    if any(
        attempts.is_open(one) and attempts.step_key(one) not in ended for one in record.attempts
    ):
        screened = settled.outcome.verdict if settled.outcome.purpose is Purpose.SCREEN else None
        return replace(record, step_outcomes=outcomes, verdict=screened or record.verdict)
    return to_finalizing(_ended(record, outcomes, settled))


def _screened_out(
    record: Generation, settled: SettledStep
) -> tuple[tuple[Attempt, LedgerEntry], ...]:
    """What waited for a screening that lets nothing pass: closed, and its hold released."""
    if not settled.is_refusal:
        return ()
    newest = {attempts.step_key(attempt): attempt for attempt in record.attempts}
    return tuple(
        attempts.close_attempt(attempt, AttemptState.REFUSED, _SCREENED_OUT, settled.ended_at)
        for attempt in newest.values()
        if attempt.purpose is Purpose.GENERATE and attempt.state is AttemptState.QUEUED
    )


def to_finalizing(ended: Generation) -> Generation:
    """The settled record: the end, but for what is kept before anybody is told of it."""
    output = ended.output
    if ended.state is State.SUCCEEDED and output and (output.media or output.pending):
        return replace(ended, state=State.FINALIZING, completed_at=None)
    return ended


def _ended(record: Generation, outcomes: tuple[StepOutcome, ...], last: SettledStep) -> Generation:
    """The record of a generation whose steps are all at their ends."""
    screening = [one for one in outcomes if one.purpose is Purpose.SCREEN]
    outputs = sorted(
        (one for one in outcomes if one.purpose is Purpose.GENERATE),
        key=lambda outcome: outcome.output_index,
    )
    is_sole = len(outputs) == 1
    verdicts = (one.verdict for one in screening or outputs if one.verdict)
    is_sole_output = is_sole and last.outcome.purpose is Purpose.GENERATE
    started_at = last.started_at if is_sole_output else None
    record = replace(
        record,
        # A single step's outcome is the record's own, and is not stored twice.
        step_outcomes=outcomes if len(outcomes) > 1 else (),
        completed_at=last.ended_at,
        started_at=started_at or record.started_at,
        verdict=next(verdicts, record.verdict),
        usage=_total_usage(one.usage for one in outputs),
        logs="\n".join(one.logs for one in outputs if one.logs),
    )
    refused = next((one for one in screening if one.failure), None)
    if refused:
        return _failed(record, refused)
    succeeded = [one for one in outputs if one.state is State.SUCCEEDED]
    if not succeeded:
        return _failed(record, outputs[0])
    if is_sole:
        output = succeeded[0].output
        missing = missing_outputs(record, output)
        return replace(record, state=State.SUCCEEDED, output=output, missing=missing)
    return replace(
        record,
        state=State.SUCCEEDED,
        output=Output(
            media=tuple(_medium(one, record.modality) for one in outputs),
            pending=any(map(_is_pending, outputs)),
        ),
        missing=tuple(
            MissingOutput(one.output_index, one.failure)
            for one in outputs
            if one.failure and one.state is not State.SUCCEEDED
        ),
    )


def _failed(record: Generation, outcome: StepOutcome) -> Generation:
    taken = any(attempt.state not in attempts.NEVER_ACCEPTED for attempt in record.attempts)
    failure: Failure | None = outcome.failure
    if failure and taken:
        failure = failures.as_non_retryable(failure, record.model)
    return replace(record, state=outcome.state, failure=failure, output=outcome.output)


def _medium(outcome: StepOutcome, kind: str) -> StoredMedia:
    """The one medium of an output; one without a link where it is missing."""
    if outcome.state is State.SUCCEEDED and outcome.output and outcome.output.media:
        return outcome.output.media[main_output_index(outcome.output.media, kind)]
    return StoredMedia("", "", failure=outcome.failure)


def _is_pending(outcome: StepOutcome) -> bool:
    """Whether the medium is still to be read from upstream's answer."""
    output = outcome.output
    succeeded = outcome.state is State.SUCCEEDED
    return succeeded and output is not None and output.pending and not output.media


def has_several_outputs(record: Generation) -> bool:
    """Whether several steps make an output each: then each is one medium."""
    return any(one.purpose is Purpose.GENERATE and one.output_index for one in record.attempts)


def pending_outputs(record: Generation) -> dict[int, Attempt]:
    """The attempts whose output is still to be read, by their places among the outputs."""
    if not (record.output and record.output.pending):
        return {}
    if not has_several_outputs(record):
        return {0: attempts.output_attempt(record, attempts.FIRST_OUTPUT)}
    outputs = sorted(
        (one for one in record.step_outcomes if one.purpose is Purpose.GENERATE),
        key=lambda outcome: outcome.output_index,
    )
    return {
        place: attempts.output_attempt(record, (one.purpose, one.output_index))
        for place, one in enumerate(outputs)
        if _is_pending(one)
    }


def late_medium(output: Output | None, failure: Failure | None) -> StoredMedia:
    """The one medium of an output that was read late, or why there is none."""
    if output and output.media:
        return output.media[0]
    return StoredMedia("", "", failure=failure)


def _total_usage(usages: Iterable[Usage | None]) -> Usage | None:
    """What several runs used; a figure that one of them does not tell is told by none."""
    known = [usage for usage in usages if usage is not None]
    if len(known) < 2:
        return known[0] if known else None

    def total(name: str) -> float | None:
        figures = [getattr(usage, name) for usage in known]
        return None if None in figures else sum(figures)

    sums: dict[str, Any] = {name: total(name) for name in Usage.__struct_fields__}
    return prediction_usage.clamp_usage(Usage(**sums))
