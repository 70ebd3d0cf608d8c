"""Which model is sent next where an attempt is over: each rule alone, without a run or a send."""

from pathlib import Path
from typing import Any

import pytest

from mediagate_server.errors import Failure, Reason
from mediagate_server.generations.execution.execution_plan import ExecutionPlan
from mediagate_server.generations.execution.next_attempt import NextAttempt
from mediagate_server.generations.execution.quarantine import MAX_ERRORS, QuarantineLevel
from mediagate_server.generations.transitions import attempts
from mediagate_server.store.records import AttemptState, Purpose, State, StepOutcome
from mediagate_server.structs import replace
from mediagate_server.upstream.port import RefusalReason
from tests.generations.engine_deps import work
from tests.generations.step_without_run import StepWithoutRun, step_without_run

(FIRST,) = work().chain
CHAIN = (FIRST, *(replace(FIRST, slug=f"a/{name}", target=f"a/{name}") for name in "cd"))
REFUSED: dict[str, Any] = {"state": AttemptState.REFUSED, "reason": RefusalReason.OTHER.value}


def rules_of(alone: StepWithoutRun, *, models: int = 3) -> NextAttempt:
    """The rules of its step, by a chain of so many models."""
    return NextAttempt(alone.context, attempts.FIRST_OUTPUT, CHAIN[:models])


async def test_the_next_model_follows_all_tried_ones(tmp_path: Path) -> None:
    """Of two at a time the step may be at the first: the second's model is not sent again."""
    beside = {"model": CHAIN[1].slug, "state": AttemptState.UNCONFIRMED, "beside": "att_1"}
    async with step_without_run(tmp_path, {}, beside) as alone:
        first = alone.context.record.current.attempts[0]
        assert rules_of(alone).fallback(first) == CHAIN[2]
        assert rules_of(alone, models=2).fallback(first) is None


async def test_cases_without_a_next_attempt(tmp_path: Path) -> None:
    """Callers have text, the end was asked for, or the content was refused: each alone."""
    async with step_without_run(tmp_path) as alone:
        context, rules = alone.context, rules_of(alone)
        attempt = context.record.current.attempt
        assert rules.fallback(attempt) == CHAIN[1]
        blocked = StepOutcome(
            Purpose.GENERATE, 1, State.FAILED, failure=Failure(Reason.CONTENT_BLOCKED, "no")
        )
        record = context.record.current
        context.record.current = replace(record, step_outcomes=(blocked,))
        assert rules.fallback(attempt) is None
        context.plan = ExecutionPlan.of(*CHAIN, after_content_refusal=True)
        assert rules.fallback(attempt) == CHAIN[1]
        context.text.buffer.append("said")
        assert rules.fallback(attempt) is None
    async with step_without_run(tmp_path / "other") as alone:
        alone.context.cancel.cancel("asked for")
        assert rules_of(alone).fallback(alone.context.record.current.attempt) is None


async def test_throttling_does_not_count_as_an_attempt(tmp_path: Path) -> None:
    """It says that upstream was busy; anything else does count, up to six."""
    throttled = REFUSED | {"reason": RefusalReason.THROTTLED.value}
    async with step_without_run(tmp_path, *[throttled] * 6, {}) as alone:
        rules = rules_of(alone)
        assert rules.has_attempts_left
        assert rules.is_throttled
        assert rules.attempts_of_model(FIRST.slug) == 1
        alone.context.quarantine.raise_to(QuarantineLevel.WITHOUT_OUTPUT, MAX_ERRORS)
        assert not rules.has_attempts_left
    async with step_without_run(tmp_path / "other", *[REFUSED] * 6) as alone:
        assert not rules_of(alone).has_attempts_left
        assert not rules_of(alone).is_throttled


@pytest.mark.parametrize(("absent", "again"), [(0, True), (1, True), (2, False)])
async def test_a_single_model_is_retried_a_few_times(
    tmp_path: Path, absent: int, *, again: bool
) -> None:
    """Where creates never arrive: three times in all, and another model at once where one is."""
    gone = {"state": AttemptState.ABSENT}
    async with step_without_run(tmp_path, *[gone] * absent, {}) as alone:
        attempt = alone.context.record.current.attempt
        sole = rules_of(alone, models=1).after_absent(attempt, FIRST)
        assert sole == (FIRST if again else None)
        assert rules_of(alone).after_absent(attempt, FIRST) == CHAIN[1]
        assert rules_of(alone, models=1).seconds_for(attempt) is None
