"""What the ends of steps make of a record: by one path, whether there is one step or several."""

from typing import Any

import pytest

from mediagate_server.catalog.pricing import prices
from mediagate_server.generations.transitions.outcome import StreamedText
from mediagate_server.generations.transitions.settlement import settle_prediction
from mediagate_server.generations.transitions.step_results import (
    SettledStep,
    StepAlreadyEnded,
    add_step_result,
    pending_outputs,
    settlement_entries,
)
from mediagate_server.generations.transitions.step_spec import step_spec
from mediagate_server.store.records import Attempt, AttemptState, Generation, Output, Purpose, State
from mediagate_server.structs import replace
from mediagate_server.upstream.port import Prediction, PredictionStatus
from tests.generations.engine_deps import PRICE
from tests.store.records import NOON, generation_record

SHAPE = {"kind": "text", "field": "", "media_type": "text/plain"}


def with_attempts(*changes: dict[str, Any]) -> Generation:
    """A text whose attempts differ from one that runs by these."""
    record = generation_record("a", shape=SHAPE, state=State.RUNNING)
    running = replace(
        record.attempt,
        state=AttemptState.ACCEPTED,
        prediction_id="p",
        price=prices.dump_price(PRICE),
    )
    attempts = [
        replace(running, id=f"att_{number}", ordinal=number, **change)
        for number, change in enumerate(changes, 1)
    ]
    return replace(record, attempts=tuple(attempts))


def settled(record: Generation, attempt: Attempt, output: str) -> SettledStep:
    """The step of an attempt that has made this."""
    return settle_prediction(
        step_spec(record, attempt, None),
        Prediction("p", PredictionStatus.SUCCEEDED, output=output, metrics={"predict_time": 2}),
        PRICE,
        now=NOON,
        streamed=StreamedText("", is_complete=False),
        cancel_reason="",
    )


def test_a_single_step_is_stored_once() -> None:
    """Its outcome is the record's own; a second end of it is refused, and nothing is paid twice."""
    record = with_attempts({})
    step = settled(record, record.attempt, "made")
    ended = add_step_result(record, step)
    assert (ended.state, ended.output, ended.step_outcomes) == (
        State.SUCCEEDED,
        Output(text="made"),
        (),
    )
    assert ended.usage is not None
    with pytest.raises(StepAlreadyEnded):
        add_step_result(ended, step)


def test_a_screening_that_refuses_ends_what_waits_for_it() -> None:
    """In the same commit, with its reservation; the order of the outcomes is that of their ends."""
    record = with_attempts(
        {"purpose": Purpose.SCREEN}, {"state": AttemptState.QUEUED, "prediction_id": ""}
    )
    step = settled(record, record.attempts[0], "no verdict at all")
    ended = add_step_result(record, step)
    assert ended.state is State.FAILED
    assert [attempt.state for attempt in ended.attempts] == [
        AttemptState.SUCCEEDED,
        AttemptState.REFUSED,
    ]
    assert [entry.amount_nanos for entry in settlement_entries(record, step)] == [2_000_000, 0]
    waiting = replace(record.attempts[1], state=AttemptState.REFUSED)
    with pytest.raises(StepAlreadyEnded):
        add_step_result(ended, replace(step, closed=waiting))


def test_an_output_is_read_from_the_attempt_that_made_it() -> None:
    """Of two at a time the newer one may have been closed without an output."""
    record = with_attempts(
        {"state": AttemptState.SUCCEEDED},
        {"state": AttemptState.CANCELLED, "reason": "another attempt made it", "beside": "att_1"},
    )
    record = replace(record, state=State.FINALIZING, output=Output(pending=True))
    assert pending_outputs(record)[0].id == "att_1"
