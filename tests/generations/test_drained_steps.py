"""What waits to be sent while the server drains: its task ends by itself, the next process sends
it.

It waited for ever instead, and was right only because its task was cancelled later.
"""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mediagate_server.errors import ServerDraining
from mediagate_server.generations.engine import GenerationEngine
from mediagate_server.generations.execution.execution_plan import ExecutionPlan, StepPlan
from mediagate_server.store.records import AttemptState, Purpose, State
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.upstream.port import CreateRequest, CreateReservation, Prediction
from tests.generations.engine_deps import AcceptingUpstream, engine_deps, submission, submit, work
from tests.generations.fake_upstream import free_turn


class Full(AcceptingUpstream):
    """There is no room until `room` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.room = asyncio.Event()
        self.requested = asyncio.Event()

    def try_admit(self, model: str = "") -> CreateReservation | None:
        return None

    async def admit(self, model: str = "", *, again: bool = False) -> CreateReservation:
        self.requested.set()
        await self.room.wait()
        return free_turn()

    async def create(
        self, request: CreateRequest, *, model: str, turn: CreateReservation | None
    ) -> Prediction:
        self.created.append(request)
        return await self.get(f"made{len(self.created)}", model=model)


def several() -> ExecutionPlan:
    """Two outputs."""
    plan = work().chain
    return ExecutionPlan(
        tuple(StepPlan(Purpose.GENERATE, index, plan) for index in range(2)),
        after_content_refusal=False,
    )


@pytest.mark.parametrize("planned", [work, several])
async def test_a_drained_step_ends(tmp_path: Path, planned: Any) -> None:
    """No task is left parked; nothing was sent; the next process sends each of them once."""
    upstream = Full()
    async with (
        SqliteStore(tmp_path) as store,
        GenerationEngine(engine_deps(store, upstream), max_in_flight=lambda _: 0) as generations,
    ):
        async with await submit(generations, submission(1), planned()) as attached:
            await upstream.requested.wait()
            [run] = generations._registry
            generations.drain()
            with pytest.raises(ServerDraining):
                await attached.wait(None)
            upstream.room.set()
            while any(generations._registry):  # noqa: ASYNC110 - its end is told to nobody
                await asyncio.sleep(0)
            assert run.record.state is State.QUEUED
            assert {attempt.state for attempt in run.record.attempts} == {AttemptState.QUEUED}
        assert not upstream.created
    later = Full()
    later.room.set()
    async with (
        SqliteStore(tmp_path) as store,
        GenerationEngine(engine_deps(store, later), max_in_flight=lambda _: 0) as generations,
    ):
        async with await submit(generations, submission(1), planned()) as attached:
            record = await attached.wait(None)
        assert record.state.is_terminal
        assert len(later.created) == len(planned().steps)
