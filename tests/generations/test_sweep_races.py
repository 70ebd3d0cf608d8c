"""A create that is answered, and over, while the sweep asks the store whose a prediction is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta

import pytest

from mediagate_server.generations.engine import GenerationEngine
from mediagate_server.observability import metrics
from mediagate_server.store.records import AttemptState
from mediagate_server.upstream.port import (
    CreateRequest,
    CreateReservation,
    NoResponse,
    Prediction,
    PredictionPage,
    PredictionStatus,
)
from tests.faults.simulation.simulated_store import DiskStore
from tests.faults.simulation.simulated_upstream import BEGIN
from tests.generations.engine_deps import AcceptingUpstream, submission, submit, work
from tests.generations.engine_in_virtual_time import memory_store, run_in_virtual_time
from tests.generations.fake_upstream import free_turn


class SlowToAnswer(AcceptingUpstream):
    """Fails once and takes the rest; of the third its list tells before its answer does."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()

    async def admit(self, model: str = "", *, again: bool = False) -> CreateReservation:
        return free_turn()

    async def create(
        self, request: CreateRequest, *, model: str, turn: CreateReservation | None
    ) -> Prediction:
        self.created.append(request)
        if len(self.created) == 1:
            raise NoResponse("no", api_error=True)
        if len(self.created) > 2:
            await self.answers.wait()
        return await self.get(f"p{len(self.created)}", model=model)

    async def list_predictions(
        self,
        *,
        cursor: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> PredictionPage:
        third = Prediction(
            "p3",
            PredictionStatus.SUCCEEDED,
            model="a/b",
            input={"prompt": "p"},
            created_at=BEGIN + timedelta(seconds=40),
        )
        return PredictionPage((third,) if len(self.created) > 2 else (), None)


class SlowToRead(DiskStore):
    """While it looks for the third prediction, that one's create is answered and settled.

    Or is looked up as well, for `claim_seconds`: longer than the sweep's own look takes.
    """

    upstream: SlowToAnswer
    claim_seconds = 0.0

    async def claimed_predictions(self, predictions: Iterable[str]) -> frozenset[str]:
        names = tuple(predictions)
        claimed = await super().claimed_predictions(names)
        if "p3" in names and not self.upstream.answers.is_set():
            self.upstream.answers.set()
            await asyncio.sleep(5)
        elif "p3" in names:
            await asyncio.sleep(self.claim_seconds)
        return claimed


class SlowerToClaim(SlowToRead):
    claim_seconds = 15.0


async def states_of_first(kind: type[SlowToRead]) -> list[AttemptState]:
    """Of the attempts of a generation whose first create was proven absent."""
    upstream = SlowToAnswer()
    async with memory_store(kind, upstream) as (store, deps):
        store.upstream = upstream
        async with GenerationEngine(deps, max_in_flight=lambda _: 0) as generations:
            async with await submit(generations, submission(1), work()) as attached:
                await attached.wait(None)
            await asyncio.sleep(40 - asyncio.get_running_loop().time())
            async with await submit(generations, submission(2), work()) as same:
                assert (await same.wait(None)).attempt.prediction_id == "p3"
            assert upstream.answers.is_set()
            await asyncio.sleep(60)
            record = await generations.get("local", attached.record.id)
            return [attempt.state for attempt in record.attempts]


@pytest.mark.parametrize("kind", [SlowToRead, SlowerToClaim])
def test_a_concurrent_settlement_is_not_an_overrun(kind: type[SlowToRead]) -> None:
    overruns = metrics.attempts_late._value.get()
    states = run_in_virtual_time(states_of_first(kind))
    assert states == [AttemptState.ABSENT, AttemptState.SUCCEEDED]
    assert metrics.attempts_late._value.get() == overruns
