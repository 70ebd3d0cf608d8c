"""Step results: how each step of a generation ended, and what they make together. Pure.

Each output ends alone: some that failed leave a success with some missing, all that failed a
failure. Where a screening ends in anything but safe, nothing else is sent.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.errors import Failure
from mediagate_server.generations.outputs.media_discovery import main_output_index, missing_outputs
from mediagate_server.generations.transitions import attempts, failures
from mediagate_server.generations.transitions.safety_verdict import content_blocked_failure
from mediagate_server.generations.transitions.settlement import NEVER_ACCEPTED
from mediagate_server.store.records import (
    Attempt,
    AttemptState,
    Generation,
    LedgerEntry,
    MissingOutput,
    Output,
    Purpose,
    State,
    StepResult,
    StoredMedia,
    Usage,
    Verdict,
)
from mediagate_server.structs import replace

_SCREENED_OUT: Final = "screened out"


def is_open(attempt: Attempt) -> bool:
    """Whether an attempt is not at its end."""
    return attempt.state in attempts.OPEN_STATES


def isolate_step(record: Generation, attempt: Attempt, plan: Plan | None) -> Generation:
    """The record as if the attempt's step were all there is, to see how that ends."""
    shown = replace(record, model=attempt.model, attempts=(attempt,))
    if attempt.purpose is Purpose.SCREEN:
        shown = replace(shown, modality="safety")
    return attempts.with_plan(shown, plan) if plan else shown


def to_step_result(ended: Generation, attempt: Attempt) -> StepResult:
    """How the step ended, from the record as it would be if that were all."""
    failure, state = ended.failure, ended.state
    if attempt.purpose is Purpose.SCREEN and state is State.SUCCEEDED:
        # Without a verdict, whatever came instead, nothing passes.
        verdict = ended.verdict or Verdict(safe=False, model=attempt.model, unreadable=True)
        ended, failure = replace(ended, verdict=verdict), content_blocked_failure(verdict)
        state = State.FAILED if failure else State.SUCCEEDED
    return StepResult(
        attempt.purpose,
        attempt.output_index,
        state,
        output=ended.output,
        usage=ended.usage,
        verdict=ended.verdict,
        failure=failure,
        logs=ended.logs,
    )


def add_step_result(record: Generation, result: StepResult, now: datetime) -> Generation:
    """The record with one more step at its end; and at its own, where that was the last."""
    verdict = result.verdict if result.purpose is Purpose.SCREEN else record.verdict
    record = replace(record, step_results=(*record.step_results, result), verdict=verdict)
    ended = {(one.purpose, one.output_index) for one in record.step_results}
    if any(is_open(one) and attempts.step_key(one) not in ended for one in record.attempts):
        return record
    return _ended(record, now)


def is_screened(record: Generation) -> bool:
    """Whether the screening, if there is one, has let it pass."""
    if all(one.purpose is not Purpose.SCREEN for one in record.attempts):
        return True
    return any(
        result.purpose is Purpose.SCREEN and not result.failure for result in record.step_results
    )


def close_unsubmitted(record: Generation, now: datetime) -> tuple[tuple[Attempt, LedgerEntry], ...]:
    """What waited for a screening that lets nothing pass: closed, and what was held given back."""
    newest = {attempts.step_key(attempt): attempt for attempt in record.attempts}
    return tuple(
        attempts.close_attempt(attempt, AttemptState.REFUSED, _SCREENED_OUT, now)
        for attempt in newest.values()
        if attempt.purpose is Purpose.GENERATE and attempt.state is AttemptState.QUEUED
    )


def to_finalizing(ended: Generation) -> Generation:
    """The settled record: the end, but for what is kept before anybody is told of it."""
    output = ended.output
    if ended.state is State.SUCCEEDED and output and (output.media or output.pending):
        return replace(ended, state=State.FINALIZING, completed_at=None)
    return ended


def _ended(record: Generation, now: datetime) -> Generation:
    screening = [result for result in record.step_results if result.purpose is Purpose.SCREEN]
    outputs = sorted(
        (result for result in record.step_results if result.purpose is Purpose.GENERATE),
        key=lambda result: result.output_index,
    )
    record = replace(
        record,
        completed_at=now,
        usage=_together(result.usage for result in outputs),
        logs="\n".join(result.logs for result in outputs if result.logs),
    )
    refused = next((result for result in screening if result.failure), None)
    if refused:
        return _failed(record, refused)
    made = [result for result in outputs if result.state is State.SUCCEEDED]
    if not made:
        return _failed(record, outputs[0])
    if len(outputs) == 1:
        return replace(
            record,
            state=State.SUCCEEDED,
            output=made[0].output,
            missing=missing_outputs(record, made[0].output),
        )
    return replace(
        record,
        state=State.SUCCEEDED,
        output=Output(
            media=tuple(_medium(result, record.modality) for result in outputs),
            pending=any(map(_is_pending, outputs)),
        ),
        missing=tuple(
            MissingOutput(result.output_index, result.failure)
            for result in outputs
            if result.failure and result.state is not State.SUCCEEDED
        ),
    )


def _failed(record: Generation, result: StepResult) -> Generation:
    taken = any(attempt.state not in NEVER_ACCEPTED for attempt in record.attempts)
    failure: Failure | None = result.failure
    if failure and taken:
        failure = failures.as_non_retryable(failure, record.model)
    return replace(record, state=result.state, failure=failure, output=result.output)


def _medium(result: StepResult, kind: str) -> StoredMedia:
    """The one medium of an output; one without a link where it is missing."""
    if result.state is State.SUCCEEDED and result.output and result.output.media:
        return result.output.media[main_output_index(result.output.media, kind)]
    return StoredMedia("", "", failure=result.failure)


def _is_pending(result: StepResult) -> bool:
    """Whether the medium is still to be read from upstream's answer."""
    output = result.output
    succeeded = result.state is State.SUCCEEDED
    return succeeded and output is not None and output.pending and not output.media


def pending_outputs(record: Generation) -> dict[int, Attempt]:
    """The attempts whose media are still to be read, by their places among several outputs."""
    outputs = sorted(
        (result for result in record.step_results if result.purpose is Purpose.GENERATE),
        key=lambda result: result.output_index,
    )
    if len(outputs) < 2:
        return {}
    return {
        place: attempts.output_attempt(record, (result.purpose, result.output_index))
        for place, result in enumerate(outputs)
        if _is_pending(result)
    }


def late_medium(output: Output | None, failure: Failure | None) -> StoredMedia:
    """The one medium of an output that was read late, or why there is none."""
    if output and output.media:
        return output.media[0]
    return StoredMedia("", "", failure=failure)


def _together(used: Iterable[Usage | None]) -> Usage | None:
    """What several runs used; a figure that one of them does not tell is told by none."""
    known = [one for one in used if one is not None]
    if not known:
        return None

    def total(name: str) -> float | None:
        figures = [getattr(one, name) for one in known]
        return None if None in figures else sum(figures)

    sums: dict[str, Any] = {name: total(name) for name in Usage.__struct_fields__}
    return failures.clamp_usage(Usage(**sums))
