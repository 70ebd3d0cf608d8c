"""Streams that say far more than upstream's own record: they end in bounded memory, and show."""

import tracemalloc

import pytest

from mediagate_server.catalog.models.model import OutputKind
from mediagate_server.errors import Reason
from mediagate_server.generations.transitions.outcome import StreamedText
from mediagate_server.generations.transitions.settlement import settle_prediction
from mediagate_server.generations.transitions.step_results import add_step_result
from mediagate_server.generations.transitions.step_spec import step_spec
from mediagate_server.store.records import Generation, State
from mediagate_server.upstream.port import Prediction, PredictionStatus
from tests.generations.engine_deps import PRICE
from tests.store.records import NOON, generation_record

MEBIBYTE = 1024 * 1024
TEXT = {"kind": OutputKind.TEXT.value, "field": "", "media_type": "text/plain"}


def settled(streamed: str, status: PredictionStatus, output: object) -> Generation:
    """The record of a text whose stream came to its end, by what upstream then says."""
    record = generation_record("a", shape=TEXT)
    step = settle_prediction(
        step_spec(record, record.attempt, None),
        Prediction("p", status, output=output),
        PRICE,
        now=NOON,
        streamed=StreamedText(streamed, is_complete=True),
        cancel_reason="",
    )
    return add_step_result(record, step)


def test_texts_are_compared_in_bounded_memory() -> None:
    """Four million words were four million objects: 500 MB, and a second for everybody."""
    streamed = "a " * (4 * MEBIBYTE)
    tracemalloc.start()
    try:
        settled(streamed, PredictionStatus.SUCCEEDED, "done")
        assert tracemalloc.get_traced_memory()[1] < 16 * MEBIBYTE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("spaced", ["a b\nc", "abc", " a  b c "])
def test_white_space_differences_are_ignored(spaced: str) -> None:
    """What was told stands, however upstream's own record spaces it."""
    generation = settled("ab c" + " " * 70_000, PredictionStatus.SUCCEEDED, spaced)
    assert generation.output is not None
    assert generation.output.text == "ab c" + " " * 70_000


@pytest.mark.parametrize("upstreams", ["abx", "ab", "abcx", "b"])
def test_different_words_are_a_difference(upstreams: str) -> None:
    """Where they differ upstream's record is what was paid for."""
    generation = settled("a b c", PredictionStatus.SUCCEEDED, upstreams)
    assert generation.output is not None
    assert generation.output.text == upstreams


@pytest.mark.parametrize(
    "status",
    [status for status in PredictionStatus if status.is_terminal],
)
def test_an_oversized_text_is_truncated_in_the_record(status: PredictionStatus) -> None:
    """Whatever its end, it fits into a message; a success that cannot be shown whole is none."""
    generation = settled("x" * (30 * MEBIBYTE), status, None)
    assert generation.output is not None
    assert generation.output.text == "x" * 64 * 1024
    assert generation.state is not State.SUCCEEDED
    assert generation.failure is not None
    if status is PredictionStatus.SUCCEEDED:
        assert generation.failure.reason is Reason.OUTPUT_TOO_LARGE
