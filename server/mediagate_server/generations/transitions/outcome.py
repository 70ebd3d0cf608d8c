"""Outcome of a run: from upstream's terminal record to our state, output and failure. Pure.

A stream is compared here with the output in that record: text that was sent and is not the
beginning of it must never pass for it.
"""

import json
from datetime import datetime

from msgspec import Struct

from mediagate_server.catalog.models.model import OutputKind, OutputShape
from mediagate_server.errors import Failure
from mediagate_server.generations.outputs.json_output import JsonReading
from mediagate_server.generations.outputs.media_discovery import (
    extract_media,
    fill_missing,
    find_media,
    missing_outputs,
)
from mediagate_server.generations.transitions import failures
from mediagate_server.generations.transitions.safety_verdict import read_verdict
from mediagate_server.runtime.cancellation import DEADLINE_REASON
from mediagate_server.store.records import Generation, Output, State
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


class GenerationOutcome(Struct, frozen=True):
    """The record as it ends. `unsent_text` is still to be sent; `is_broken`: it cannot be."""

    record: Generation
    unsent_text: str = ""
    is_broken: bool = False


def apply_end(
    record: Generation,
    end: Prediction | None,
    *,
    now: datetime,
    streamed: StreamedText,
    cancel_reason: str,
    reading: JsonReading | None = None,
) -> GenerationOutcome:
    """The end as a record. `end` None: upstream no longer knows the prediction.

    `cancel_reason` says why we asked for the end; empty: we did not. `reading` is what was made
    of `answer_candidates`.
    """
    record = replace(record, completed_at=now)
    if end is None:
        failure = failures.prediction_lost(record.model, record.attempt.prediction_id)
        output = Output(text=streamed.text) if streamed.text else None
        return GenerationOutcome(
            replace(record, state=State.FAILED, failure=failure, output=output)
        )
    record = replace(
        record,
        usage=failures.usage_from(end),
        logs=end.logs,
        started_at=clamp_time(record, end.started_at, now) or record.started_at,
    )
    if end.status is PredictionStatus.SUCCEEDED:
        return _with_logs(_success(record, end, streamed, now, reading), end)
    if streamed.text:
        record = replace(record, output=Output(text=streamed.text))
    if end.status is PredictionStatus.FAILED:
        failure = failures.model_failed(record.model, end)
        return GenerationOutcome(replace(record, state=State.FAILED, failure=failure))
    if not cancel_reason and now >= record.deadline_at:
        cancel_reason = DEADLINE_REASON  # Replicate's own deadline, which we had set, came first.
    failure = cancellation_failure(record, cancel_reason or "upstream")
    state = State.FAILED if cancel_reason == DEADLINE_REASON else State.CANCELLED
    return GenerationOutcome(replace(record, state=state, failure=failure))


def _success(
    record: Generation,
    end: Prediction,
    streamed: StreamedText,
    now: datetime,
    reading: JsonReading | None,
) -> GenerationOutcome:
    if isinstance(end.output, LargeValue):
        return _large(record, end, end.output)
    if end.output_too_deep and not (streamed.is_complete and record.shape["kind"] in TEXTS):
        failure = failures.output_too_deep(record.model, end.id)
        return GenerationOutcome(replace(record, state=State.FAILED, failure=failure))
    if record.shape["kind"] in TEXTS:
        return _text(record, end, streamed)
    if record.shape["kind"] == OutputKind.JSON_TEXT:
        return _json(record, end, streamed, reading)
    if record.modality == "safety":
        return GenerationOutcome(_verdict(record, end))
    if record.modality == "raw":
        return GenerationOutcome(_raw(record, end, now))
    return GenerationOutcome(_media(record, end, now))


def truncate_text(record: Generation, end: Prediction | None) -> Generation:
    """The record without a streamed text that is longer than a record may hold: of it the beginning
    stays, and a success is none. What upstream's own record has is at most 256 KiB here.
    """
    text = record.output.text if record.output else None
    if not text or len(text) <= _LONGEST_INLINE:
        return record
    failure = record.failure
    if failure is None and end is not None:
        cause = "upstream has it as a stream only"
        failure = failures.output_too_large(record.model, end, cause)
    state = State.FAILED if record.state is State.SUCCEEDED else record.state
    return replace(record, state=state, failure=failure, output=Output(text=text[:_HEAD]))


def clamp_time(record: Generation, told: datetime | None, now: datetime) -> datetime | None:
    """A time that upstream tells of a run that cannot have begun before its call, nor be ahead.

    Its clock may be wrong, or what it says be a recording: links would be over, or live for years.
    """
    return None if told is None else min(max(told, record.created_at), now)


def _large(record: Generation, end: Prediction, value: LargeValue) -> GenerationOutcome:
    """An output that is settled first and read afterwards: see `large_outputs.py`."""
    if record.modality == "safety":
        return GenerationOutcome(_verdict(record, replace(end, output=None)))
    if not value.is_too_large:
        return GenerationOutcome(
            replace(record, state=State.SUCCEEDED, output=Output(pending=True))
        )
    failure = failures.output_too_large(record.model, end, "it is too large")
    return GenerationOutcome(replace(record, state=State.FAILED, failure=failure))


def _with_logs(finished: GenerationOutcome, end: Prediction) -> GenerationOutcome:
    """The same; a long log is read afterwards, too. Of a verdict both its ends are enough."""
    record = finished.record
    if end.large_logs is None or record.output is None or record.state is not State.SUCCEEDED:
        return finished
    output = replace(record.output, pending=True)
    return replace(finished, record=replace(record, output=output))


def cancellation_failure(record: Generation, reason: str) -> Failure:
    """What is told of an end that was asked for."""
    if reason == DEADLINE_REASON:
        return failures.deadline_passed((record.deadline_at - record.created_at).total_seconds())
    return failures.cancelled_failure(reason)


def answer_candidates(record: Generation, end: Prediction | None) -> tuple[str, ...]:
    """What may be the answer that must be JSON by the schema of the record's shape, in the order
    to be tried; none: there is none.
    """
    if record.shape["kind"] != OutputKind.JSON_TEXT or end is None:
        return ()
    if end.status is not PredictionStatus.SUCCEEDED or isinstance(end.output, LargeValue):
        return ()
    return json_answers(end.output)


def _json(
    record: Generation, end: Prediction, streamed: StreamedText, reading: JsonReading | None
) -> GenerationOutcome:
    """Text that must be JSON is told only once it is: nothing was streamed of it.

    All of it was told already where this end could not be written at the first try.
    """
    answers = json_answers(end.output)
    if not answers or (end.data_removed and not end.output):
        return _text(record, end, StreamedText("", is_complete=False))
    if reading is None:
        raise ValueError("an answer that must be JSON was not read")
    if reading.problem:
        failure = failures.output_invalid(record.model, end.id, reading.problem)
        output = Output(text=answers[0])
        return GenerationOutcome(
            replace(record, state=State.FAILED, failure=failure, output=output)
        )
    made = replace(record, state=State.SUCCEEDED, output=Output(text=reading.text))
    return GenerationOutcome(made, unsent_text="" if streamed.text else reading.text)


def _raw(record: Generation, end: Prediction, now: datetime) -> Generation:
    """Whatever it is: a model without an output has succeeded too, unless it was removed."""
    if end.data_removed and not end.output:
        return replace(record, state=State.FAILED, failure=failures.output_lost(record.model, end))
    paths = json.loads(record.shape["field"])
    ended_at = clamp_time(record, end.completed_at, now) or now
    output = extract_media(end.output, paths, record.shape["media_type"], ended_at)
    return replace(record, state=State.SUCCEEDED, output=output)


def _verdict(record: Generation, end: Prediction) -> Generation:
    verdict = read_verdict(end.output, record.shape["field"], record.model)
    return replace(record, state=State.SUCCEEDED, verdict=verdict)


def _media(record: Generation, end: Prediction, now: datetime) -> Generation:
    ended_at = clamp_time(record, end.completed_at, now) or now
    found = find_media(end.output, output_shape(record), ended_at, requested_outputs(record))
    if not found:
        return replace(record, state=State.FAILED, failure=failures.output_lost(record.model, end))
    output = Output(media=fill_missing(found, failures.output_missing(record.model, end)))
    return replace(
        record, state=State.SUCCEEDED, output=output, missing=missing_outputs(record, output)
    )


def output_shape(record: Generation) -> OutputShape:
    """How its output is to be read."""
    shape = record.shape
    return OutputShape(OutputKind(shape["kind"]), shape["field"], shape["media_type"])


def requested_outputs(record: Generation) -> int:
    """How many outputs one run was asked for."""
    return int(record.shape.get("count", "1"))


def _text(record: Generation, end: Prediction, streamed: StreamedText) -> GenerationOutcome:
    full_text = find_text(end.output)
    if not full_text and end.data_removed:
        full_text = None
    if full_text is not None and full_text.startswith(streamed.text):
        made = replace(record, state=State.SUCCEEDED, output=Output(text=full_text))
        return GenerationOutcome(made, unsent_text=full_text[len(streamed.text) :])
    if streamed.is_complete and (not full_text or _alike(full_text, streamed.text)):
        # Upstream ended the stream itself; what it keeps of the output may be spaced otherwise,
        # or be gone.
        return GenerationOutcome(
            replace(record, state=State.SUCCEEDED, output=Output(text=streamed.text))
        )
    if full_text is not None:
        # Where the two differ the record is what is paid for: a stream is early, never a proof.
        made = replace(record, state=State.SUCCEEDED, output=Output(text=full_text))
        return GenerationOutcome(made, is_broken=True)
    if not streamed.text:
        failure = failures.output_lost(record.model, end)
        return GenerationOutcome(replace(record, state=State.FAILED, failure=failure))
    lost = replace(
        record,
        state=State.FAILED,
        failure=failures.text_lost(record.model),
        output=Output(text=streamed.text),
    )
    return GenerationOutcome(lost, is_broken=True)


def _alike(text: str, told: str) -> bool:
    """Whether two texts are the same but for white space, which streams are careless with.

    What was told may be 64 MiB long: it is compared by pieces, and no further than they are alike.
    """
    words, at = "".join(text.split()), 0
    for begin in range(0, len(told), _COMPARED_AT_ONCE):
        piece = "".join(told[begin : begin + _COMPARED_AT_ONCE].split())
        if not words.startswith(piece, at):
            return False
        at += len(piece)
    return at == len(words)
