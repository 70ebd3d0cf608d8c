"""Which prediction is which attempt's: never one for two, and as many as there can be."""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.catalog.request import Modality, ModelRequest
from mediagate_server.generations.dependencies import EngineTimeouts
from mediagate_server.generations.matching.prediction_matcher import (
    UnconfirmedAttempt,
    match_predictions,
    matches,
    matches_value,
    without_media,
)
from mediagate_server.generations.submission_request import input_hash
from mediagate_server.store.records import Attempt, AttemptState, Purpose
from mediagate_server.structs import replace
from mediagate_server.upstream.port import Prediction, PredictionStatus
from tests.catalog.builders import shipped_catalog

KEY = b"a key"
BEGIN = datetime(2026, 11, 24, tzinfo=UTC)
TIMING = EngineTimeouts(post_timeout=30, absent_margin=60)
CATALOG = shipped_catalog()
PLANS = {
    prompt: CATALOG.plan(ModelRequest(Modality.TEXT, "llama-70b", {"prompt": prompt}))
    for prompt in ("a", "b")
}


def unconfirmed(
    number: int, plan: Plan, sent: float, *, is_known: bool = True
) -> UnconfirmedAttempt:
    """An attempt that was sent so many seconds after the beginning."""
    attempt = Attempt(
        id=f"att_{number}",
        ordinal=1,
        purpose=Purpose.GENERATE,
        output_index=0,
        model=plan.slug,
        account="default",
        state=AttemptState.UNCONFIRMED,
        created_at=BEGIN,
        price="",
        input_hash=input_hash(KEY, plan.input),
        sent_at=BEGIN + timedelta(seconds=sent),
    )
    return UnconfirmedAttempt(attempt, plan if is_known else None, KEY)


def prediction(number: int, plan: Plan, created: float, **fields: Any) -> Prediction:
    """A prediction of this plan in upstream's list."""
    prediction = Prediction(
        id=f"p{number}",
        status=PredictionStatus.STARTING,
        model=plan.target.partition(":")[0],
        input=dict(plan.input),
        created_at=BEGIN + timedelta(seconds=created),
    )
    return replace(prediction, **fields)


SECONDS = st.integers(0, 400)
SENT = st.lists(st.tuples(st.sampled_from("ab"), SECONDS), max_size=5)


def most(attempts: Sequence[UnconfirmedAttempt], predictions: Sequence[Prediction]) -> int:
    """How many can be served at most, by trying everything."""
    if not attempts:
        return 0
    first, rest = attempts[0], attempts[1:]
    best = most(rest, predictions)
    for n, candidate in enumerate(predictions):
        if matches(first, candidate, TIMING):
            best = max(best, 1 + most(rest, [*predictions[:n], *predictions[n + 1 :]]))
    return best


@given(SENT, SENT)
def test_matching_is_injective_and_maximal(
    sent: list[tuple[str, int]], created: list[tuple[str, int]]
) -> None:
    """All pairs fit, no prediction is shared, and there are as many pairs as there can be."""
    attempts = [unconfirmed(n, PLANS[prompt], at) for n, (prompt, at) in enumerate(sent)]
    listed = [prediction(n, PLANS[prompt], at) for n, (prompt, at) in enumerate(created)]
    given_out = match_predictions(attempts, listed, TIMING)
    ids = [prediction.id for prediction in given_out.values()]
    assert len(ids) == len(set(ids))
    by_id = {attempt.attempt.id: attempt for attempt in attempts}
    assert all(matches(by_id[name], prediction, TIMING) for name, prediction in given_out.items())
    assert len(given_out) == most(attempts, listed)


@pytest.mark.parametrize(
    ("created_at", "expected"), [(-6, False), (-4, True), (0, True), (89, True), (91, False)]
)
def test_only_predictions_created_near_the_send_match(created_at: float, *, expected: bool) -> None:
    """From 5 s before it to the end of the time in which its answer could have come."""
    assert (
        matches(unconfirmed(1, PLANS["a"], 0), prediction(1, PLANS["a"], created_at), TIMING)
        is expected
    )


def test_another_model_or_input_does_not_match() -> None:
    """However well the rest agrees. An internal name of an official model is that model."""
    plan = PLANS["a"]
    own = unconfirmed(1, plan, 0)
    assert not matches(own, prediction(1, plan, 0, model="meta/other"), TIMING)
    assert not matches(own, prediction(1, PLANS["b"], 0), TIMING)
    assert matches(own, prediction(1, plan, 0, model="replicate-internal/llama-3"), TIMING)


def test_defaults_filled_in_by_upstream_are_ignored() -> None:
    """Only what was sent is compared; without what was sent, only the very same input fits."""
    plan = PLANS["a"]
    filled = prediction(1, plan, 0, input={**plan.input, "a_default": 0.9})
    assert matches(unconfirmed(1, plan, 0), filled, TIMING)
    assert not matches(unconfirmed(1, plan, 0, is_known=False), filled, TIMING)
    assert matches(unconfirmed(1, plan, 0, is_known=False), prediction(1, plan, 0), TIMING)


def test_predictions_with_input_match_before_those_without() -> None:
    """Removed data can be anybody's of that model: it is the last to be given out."""
    gone = prediction(1, PLANS["a"], 0, input={}, data_removed=True)
    attempts = [unconfirmed(1, PLANS["a"], 0), unconfirmed(2, PLANS["b"], 1)]
    matches_found = match_predictions(attempts, [gone, prediction(2, PLANS["a"], 2)], TIMING)
    assert {name: prediction.id for name, prediction in matches_found.items()} == {
        "att_1": "p2",
        "att_2": "p1",
    }


@pytest.mark.parametrize(
    ("sent", "listed", "same"),
    [
        ("data:image/png;base64,AAAA", "https://replicate.delivery/x/in.png", True),
        (["data:image/png;base64,AAAA"], ["https://replicate.delivery/x/in.png"], True),
        ("https://example.com/a.png", "https://example.com/b.png", False),
        (1, 1.0, True),
        (1, True, False),
        (True, 1, False),
        (0.1, 0.1, True),
        ({"a": 1}, {"a": 1, "b": 2}, True),
        (["a", "b"], ["a"], False),
        (("a",), ["a"], True),
        (None, None, True),
        ("a", None, False),
    ],
)
def test_values_in_upstreams_representation(sent: Any, listed: Any, *, same: bool) -> None:
    """Bytes become links to files of its own; numbers may change their kind, flags may not."""
    assert matches_value(sent, listed) is same


def test_remembered_inputs_hold_no_files() -> None:
    """Inputs may be megabytes, and are looked for long after their generation is over."""
    file = "data:image/png;base64,AAAA"
    sent = {"prompt": "a", "image": file, "more": [file, {"b": file}], "count": 2}
    link = "https://replicate.delivery/x/in.png"
    plan = without_media(replace(PLANS["a"], input=sent))
    assert "AAAA" not in repr(plan)
    shown_input = {"prompt": "a", "image": link, "more": [link, {"b": link}], "count": 2}
    assert matches(unconfirmed(1, plan, 0), prediction(1, plan, 1, input=shown_input), TIMING)
    assert not matches(
        unconfirmed(1, plan, 0), prediction(1, plan, 1, input={**shown_input, "count": 3}), TIMING
    )


def test_the_order_of_the_list_does_not_matter() -> None:
    """The same attempts are served however upstream sorts."""
    attempts = [unconfirmed(n, PLANS["a"], 40 * n) for n in range(3)]
    listed = [prediction(n, PLANS["a"], 40 * n + 1) for n in range(3)]
    for order in itertools.permutations(listed):
        assert len(match_predictions(attempts, order, TIMING)) == 3


def test_predictions_listed_later_find_their_attempt() -> None:
    """The later of two equal ones is listed first: it must not be given to the earlier one.

    Nobody else could take what the earlier one made: it would be paid and nobody's.
    """
    early, late = unconfirmed(1, PLANS["a"], 0), unconfirmed(2, PLANS["a"], 20)
    first, second = prediction(1, PLANS["a"], 1), prediction(2, PLANS["a"], 21)
    assert match_predictions([early, late], [second], TIMING) == {"att_2": second}
    assert match_predictions([early], [first], TIMING) == {"att_1": first}
