"""A webhook that comes while its attempt is being written down as absent: paid, and told."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from mediagate_server.generations.engine import GenerationEngine
from mediagate_server.generations.execution.execution_plan import ExecutionPlan
from mediagate_server.generations.submission_request import Submission
from mediagate_server.store.records import AttemptState, Generation
from mediagate_server.upstream.port import Prediction, PredictionStatus
from tests.faults.simulation.simulated_store import DiskStore
from tests.faults.simulation.simulated_upstream import BEGIN
from tests.generations.engine_deps import submit
from tests.generations.engine_in_virtual_time import memory_store, run_in_virtual_time
from tests.generations.test_absence_proof import ANSWERS, CATALOG, CHAINS, LosingUpstream


class Late(LosingUpstream):
    """What it was asked for first it makes, and shows nobody until it tells of it."""

    async def get(self, prediction_id: str, *, model: str) -> Prediction:
        return Prediction(
            prediction_id,
            PredictionStatus.SUCCEEDED,
            output=["https://files.example/a.bin"],
            metrics={"predict_time": 1},
            created_at=BEGIN + timedelta(seconds=1),
        )

    async def cancel(self, prediction_id: str, *, model: str) -> Prediction | None:
        return None


class SlowStore(DiskStore):
    """`proving` has the first attempt once its absence is being written, which takes a while."""

    proving: asyncio.Future[str]

    def save(self, generation: Generation, *args: Any, **more: Any) -> asyncio.Future[int]:
        first = generation.attempts[0]
        if first.state is not AttemptState.ABSENT or self.proving.done():
            return super().save(generation, *args, **more)
        self.proving.set_result(first.id)
        return asyncio.ensure_future(self._later(generation, *args, **more))

    async def _later(self, generation: Generation, *args: Any, **more: Any) -> int:
        await asyncio.sleep(1)
        return await super().save(generation, *args, **more)


async def notified_meanwhile(seconds: float) -> Generation:
    """A picture within this timeout, as it is stored once the hint was taken."""
    async with memory_store(SlowStore, Late(1, ANSWERS["lost"])) as (store, deps):
        store.proving = asyncio.get_running_loop().create_future()
        async with GenerationEngine(deps, max_in_flight=lambda _: 0) as generations:
            plan = ExecutionPlan.of(*CATALOG.plan_with_fallbacks(CHAINS["image"][0]).plans)
            submission = Submission("local", "GenerateImage", "r", "f", seconds)
            async with await submit(generations, submission, plan) as attachment:
                attempt_id = await store.proving
                async with asyncio.timeout(15):
                    assert await generations.on_webhook(attempt_id, "late")
                record = await store.get("local", attachment.record.id)
                assert record is not None
                return record


@pytest.mark.parametrize("seconds", [300.0, 93.0])
def test_a_webhook_during_the_absence_proof_waits_for_settlement(
    seconds: float,
) -> None:
    """Whether the next model takes over, or no time is left for it."""
    record = run_in_virtual_time(notified_meanwhile(seconds))
    assert record.attempts[0].prediction_id == "late"
    assert record.attempts[0].state is AttemptState.SUCCEEDED
    assert record.attempts[0].cost is not None
    assert (len(record.attempts) > 1) == (seconds > 100)
