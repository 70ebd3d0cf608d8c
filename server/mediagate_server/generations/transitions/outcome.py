"""Outcome of a prediction: from upstream's terminal record to our state, output and failure. Pure.

A stream is compared here with the output in that record: text that was sent and is not the
beginning of it must never pass for it.
"""

import json
from datetime import datetime

from msgspec import Struct

from mediagate_server.catalog.models.model import OutputKind
from mediagate_server.errors import Failure
from mediagate_server.generations.outputs.json_output import JsonReading
from mediagate_server.generations.outputs.media_discovery import (
    extract_media,
    fill_missing,
    find_media,
)
from mediagate_server.generations.transitions import failures, prediction_usage
from mediagate_server.generations.transitions.safety_verdict_parser import read_verdict
from mediagate_server.generations.transitions.step_spec import StepSpec
from mediagate_server.runtime.cancellation import DEADLINE_REASON
from mediagate_server.store.records import Generation, Output, State, StepOutcome, Verdict
from mediagate_server.structs import replace
from mediagate_server.upstream.documents.output_text import find_text, json_answers
from mediagate_server.upstream.large_values import LargeValue
from mediagate_server.upstream.port import Prediction, PredictionStatus

TEXTS = (OutputKind.TEXT, OutputKind.TEXT_CHUNKS, OutputKind.RAW_TEXT)
"""The shapes of output that are one text, which may be told while it is made."""
_COMPARED_AT_ONCE = 64 * 1024
_LONGEST_INLINE = 512 * 1024
"""Characters of a streamed text that its record may hold, four bytes each at the most: it is sent
in one message, and written in one commit with others'."""
_HEAD = 64 * 1024


class StreamedText(Struct, frozen=True):
    """What callers were sent. `is_complete`: the stream came to its own end without a gap."""

    text: str
    is_complete: bool


class PredictionOutcome(Struct, frozen=True):
    """What a prediction's end makes of its step. `started_at` is when upstream says that it began.

    `unsent_text` is what streams have still to send; `is_broken`: what they sent cannot be
    continued.
    """

    step: StepOutcome
    started_at: datetime | None = None
    unsent_text: str = ""
    is_broken: bool = False


def read_end(
    spec: StepSpec,
    end: Prediction | None,
    *,
    now: datetime,
    streamed: StreamedText,
    cancel_reason: str,
    reading: JsonReading | None = None,
) -> PredictionOutcome:
    """The end as an outcome. `end` None: upstream no longer knows the prediction.

    `cancel_reason` says why we asked for the end; empty: we did not. `reading` is what was made
    of `answer_candidates`.
    """
    streamed_output = Output(text=streamed.text) if streamed.text else None
    if end is None:
        failure = failures.prediction_lost(spec.model, spec.attempt.prediction_id)
        return PredictionOutcome(failed_step(spec, failure, streamed_output))
    if end.status is PredictionStatus.SUCCEEDED:
        outcome = _with_logs(_success(spec, end, streamed, now, reading), end)
    elif end.status is PredictionStatus.FAILED:
        failure = failures.model_failed(spec.model, end)
        outcome = PredictionOutcome(failed_step(spec, failure, streamed_output))
    else:
        if not cancel_reason and now >= spec.deadline_at:
            cancel_reason = DEADLINE_REASON  # Replicate's own, which we had set, came first.
        failure = cancellation_failure(spec, cancel_reason or "upstream")
        step = failed_step(spec, failure, streamed_output)
        if cancel_reason != DEADLINE_REASON:
            step = replace(step, state=State.CANCELLED)
        outcome = PredictionOutcome(step)
    step = replace(outcome.step, usage=prediction_usage.usage_from(end), logs=end.logs)
    return replace(outcome, step=step, started_at=clamp_time(spec, end.started_at, now))


def failed_step(spec: StepSpec, failure: Failure, output: Output | None = None) -> StepOutcome:
    """The step as FAILED; `output` is what callers have of it already, or may have."""
    return StepOutcome(
        spec.purpose, spec.attempt.output_index, State.FAILED, failure=failure, output=output
    )


def _succeeded(
    spec: StepSpec, output: Output | None = None, verdict: Verdict | None = None
) -> StepOutcome:
    index = spec.attempt.output_index
    return StepOutcome(spec.purpose, index, State.SUCCEEDED, output=output, verdict=verdict)


def _success(
    spec: StepSpec,
    end: Prediction,
    streamed: StreamedText,
    now: datetime,
    reading: JsonReading | None,
) -> PredictionOutcome:
    kind = spec.shape["kind"]
    if isinstance(end.output, LargeValue):
        return PredictionOutcome(_large(spec, end, end.output))
    if end.output_too_deep and not (streamed.is_complete and kind in TEXTS):
        return PredictionOutcome(failed_step(spec, failures.output_too_deep(spec.model, end.id)))
    if kind in TEXTS:
        return _text(spec, end, streamed)
    if kind == OutputKind.JSON_TEXT:
        return _json(spec, end, streamed, reading)
    if spec.modality == "safety":
        return PredictionOutcome(_verdict(spec, end.output))
    if spec.modality == "raw":
        return PredictionOutcome(_raw(spec, end, now))
    return PredictionOutcome(_media(spec, end, now))


def truncate_text(step: StepOutcome, model: str, end: Prediction | None) -> StepOutcome:
    """The step without a streamed text that is longer than a record may hold: of it the beginning
    stays, and a success is none. What upstream's own record has is at most 256 KiB here.
    """
    text = step.output.text if step.output else None
    if not text or len(text) <= _LONGEST_INLINE:
        return step
    failure = step.failure
    if failure is None and end is not None:
        cause = "upstream has it as a stream only"
        failure = failures.output_too_large(model, end, cause)
    state = State.FAILED if step.state is State.SUCCEEDED else step.state
    return replace(step, state=state, failure=failure, output=Output(text=text[:_HEAD]))


def clamp_time(
    spec: StepSpec | Generation, reported: datetime | None, now: datetime
) -> datetime | None:
    """A time that upstream tells of a run that cannot have begun before its call, nor be ahead.

    Its clock may be wrong, or what it says be a recording: links would be over, or live for years.
    """
    return None if reported is None else min(max(reported, spec.created_at), now)


def _large(spec: StepSpec, end: Prediction, value: LargeValue) -> StepOutcome:
    """An output that is settled first and read afterwards: see `large_output_reader.py`."""
    if spec.modality == "safety":
        return _verdict(spec, None)
    if not value.is_too_large:
        return _succeeded(spec, Output(pending=True))
    return failed_step(spec, failures.output_too_large(spec.model, end, "it is too large"))


def _with_logs(outcome: PredictionOutcome, end: Prediction) -> PredictionOutcome:
    """The same; a long log is read afterwards, too. Of a verdict both its ends are enough."""
    step = outcome.step
    if end.large_logs is None or step.output is None or step.state is not State.SUCCEEDED:
        return outcome
    return replace(outcome, step=replace(step, output=replace(step.output, pending=True)))


def cancellation_failure(spec: StepSpec | Generation, reason: str) -> Failure:
    """What is told of an end that was asked for."""
    if reason == DEADLINE_REASON:
        return failures.deadline_passed((spec.deadline_at - spec.created_at).total_seconds())
    return failures.cancelled_failure(reason)


def answer_candidates(spec: StepSpec, end: Prediction | None) -> tuple[str, ...]:
    """What may be the answer that must be JSON by the schema of the step's shape, in the order
    to be tried; none: there is none.
    """
    if spec.shape["kind"] != OutputKind.JSON_TEXT or end is None:
        return ()
    if end.status is not PredictionStatus.SUCCEEDED or isinstance(end.output, LargeValue):
        return ()
    return json_answers(end.output)


def _json(
    spec: StepSpec, end: Prediction, streamed: StreamedText, reading: JsonReading | None
) -> PredictionOutcome:
    """Text that must be JSON is told only once it is: nothing was streamed of it.

    All of it was told already where this end could not be written at the first try.
    """
    answers = json_answers(end.output)
    if not answers or (end.data_removed and not end.output):
        return _text(spec, end, StreamedText("", is_complete=False))
    if reading is None:
        raise ValueError("an answer that must be JSON was not read")
    if reading.problem:
        failure = failures.output_invalid(spec.model, end.id, reading.problem)
        return PredictionOutcome(failed_step(spec, failure, Output(text=answers[0])))
    step = _succeeded(spec, Output(text=reading.text))
    return PredictionOutcome(step, unsent_text="" if streamed.text else reading.text)


def _raw(spec: StepSpec, end: Prediction, now: datetime) -> StepOutcome:
    """Whatever it is: a model without an output has succeeded too, unless it was removed."""
    if end.data_removed and not end.output:
        return failed_step(spec, failures.output_lost(spec.model, end))
    paths = json.loads(spec.shape["field"])
    ended_at = clamp_time(spec, end.completed_at, now) or now
    return _succeeded(spec, extract_media(end.output, paths, spec.shape["media_type"], ended_at))


def _verdict(spec: StepSpec, output: object) -> StepOutcome:
    return _succeeded(spec, verdict=read_verdict(output, spec.shape["field"], spec.model))


def _media(spec: StepSpec, end: Prediction, now: datetime) -> StepOutcome:
    ended_at = clamp_time(spec, end.completed_at, now) or now
    found = find_media(end.output, spec.output_shape, ended_at, spec.requested_outputs)
    if not found:
        return failed_step(spec, failures.output_lost(spec.model, end))
    # Which outputs are missing is seen where the steps are put together.
    media = fill_missing(found, failures.output_missing(spec.model, end))
    return _succeeded(spec, Output(media=media))


def _text(spec: StepSpec, end: Prediction, streamed: StreamedText) -> PredictionOutcome:
    full_text = find_text(end.output)
    if not full_text and end.data_removed:
        full_text = None
    if full_text is not None and full_text.startswith(streamed.text):
        step = _succeeded(spec, Output(text=full_text))
        return PredictionOutcome(step, unsent_text=full_text[len(streamed.text) :])
    if streamed.is_complete and (not full_text or _alike(full_text, streamed.text)):
        # Upstream ended the stream itself; what it keeps of the output may be spaced otherwise,
        # or be gone.
        return PredictionOutcome(_succeeded(spec, Output(text=streamed.text)))
    if full_text is not None:
        # Where the two differ the record is what is paid for: a stream is early, never a proof.
        return PredictionOutcome(_succeeded(spec, Output(text=full_text)), is_broken=True)
    if not streamed.text:
        return PredictionOutcome(failed_step(spec, failures.output_lost(spec.model, end)))
    lost = failed_step(spec, failures.text_lost(spec.model), Output(text=streamed.text))
    return PredictionOutcome(lost, is_broken=True)


def _alike(text: str, streamed: str) -> bool:
    """Whether two texts are the same but for white space, which streams are careless with.

    What was streamed may be 64 MiB long: it is compared by pieces, no further than they are alike.
    """
    words, at = "".join(text.split()), 0
    for begin in range(0, len(streamed), _COMPARED_AT_ONCE):
        piece = "".join(streamed[begin : begin + _COMPARED_AT_ONCE].split())
        if not words.startswith(piece, at):
            return False
        at += len(piece)
    return at == len(words)
