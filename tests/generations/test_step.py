"""A step alone, without a run: it returns its end once, and leaves the settling of it to others."""

import asyncio
from pathlib import Path

import pytest

from mediagate_server.generations.execution.execution_plan import ExecutionPlan
from mediagate_server.generations.execution.step_result import NeverAccepted, PredictionEnded
from mediagate_server.store.records import AttemptState, LedgerEntryKind
from mediagate_server.structs import replace
from mediagate_server.upstream.port import PredictionStatus
from tests.generations.engine_deps import PRICE, work
from tests.generations.step_without_run import WITHIN, step_without_run


async def test_a_step_returns_its_result_once(tmp_path: Path) -> None:
    """It is sent, followed, and over: nothing of that is settled by the step itself."""
    async with step_without_run(tmp_path) as alone:
        alone.upstream.statuses["made"] = PredictionStatus.SUCCEEDED
        result = await alone.result()
        assert isinstance(result, PredictionEnded)
        assert (result.attempt.id, result.attempt.prediction_id) == ("att_1", "made")
        assert result.price == PRICE
        assert not alone.context.record.current.state.is_terminal
        assert not alone.step.ended.is_cancelled
        # As after a store that was away while it was applied: it is not sent a second time.
        assert await alone.result() == result
        await alone.apply(result)
        assert await alone.result() is None
        assert alone.step.ended.is_cancelled
        assert len(alone.upstream.created) == 1


async def test_a_refused_step_returns_its_release(tmp_path: Path) -> None:
    """Its hold goes back with the end of the step, in the run's one commit."""
    async with step_without_run(tmp_path) as alone:
        alone.upstream.refuses = True
        result = await alone.result()
        assert isinstance(result, NeverAccepted)
        assert result.closed.state is AttemptState.REFUSED
        assert result.released.kind is LedgerEntryKind.RELEASE
        await alone.apply(result)
        assert await alone.result() is None
        assert alone.context.record.current.state.value == "failed"


async def test_a_waiting_step_is_left_to_the_next_process(tmp_path: Path) -> None:
    """It has not ended: what is followed beside it goes on."""
    async with step_without_run(tmp_path) as alone:
        alone.context.draining = True
        assert await alone.result() is None
        assert alone.context.record.current.attempt.state is AttemptState.QUEUED
        assert not alone.step.ended.is_cancelled
        assert not alone.upstream.created


@pytest.mark.parametrize("first_wins", [False, True])
async def test_one_of_two_attempts_is_the_result(tmp_path: Path, *, first_wins: bool) -> None:
    """Whichever of both succeeds first: the step returns it, and the other one never."""
    (model,) = work().chain
    second = replace(model, slug="a/c", target="a/c")
    async with step_without_run(
        tmp_path,
        {"state": AttemptState.UNCONFIRMED},
        {
            "state": AttemptState.ACCEPTED,
            "model": second.slug,
            "prediction_id": "second",
            "beside": "att_1",
        },
        plan=ExecutionPlan.of(model, second, next_when_unconfirmed=True),
    ) as alone:
        upstream, step = alone.upstream, alone.step
        if not first_wins:
            upstream.statuses["second"] = PredictionStatus.SUCCEEDED
        running = asyncio.create_task(step.run())
        if first_wins:
            # What late_predictions does once the one in doubt has turned up, and succeeded.
            await asyncio.wait_for(upstream.requested.wait(), WITHIN)
            upstream.statuses["first"] = PredictionStatus.SUCCEEDED
            step.record_superseded_match("att_1", "first")
            assert step.switch_to_attempt("att_1")
        result = await asyncio.wait_for(running, WITHIN)
        assert isinstance(result, PredictionEnded)
        winner = ("att_1", "first") if first_wins else ("att_2", "second")
        assert (result.attempt.id, result.attempt.prediction_id) == winner
        await alone.apply(result)
        assert await alone.result() is None
        ended = alone.context.record.current
        assert [attempt.state for attempt in ended.attempts] == (
            [AttemptState.SUCCEEDED, AttemptState.CANCELLED]
            if first_wins
            else [AttemptState.UNCONFIRMED, AttemptState.SUCCEEDED]
        )
        assert not upstream.created
