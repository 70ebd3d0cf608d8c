"""A create that is answered, and over, while the sweep asks the store whose a prediction is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime, timedelta
from random import Random

from mediagate_server import telemetry
from mediagate_server.generations.doors import Surroundings
from mediagate_server.generations.generations import Generations
from mediagate_server.interceptors.outbound.create_policy import CreatePolicy
from mediagate_server.interceptors.outbound.turn import Turn
from mediagate_server.replicate.port import (
    CreateRequest,
    NoAnswer,
    Prediction,
    PredictionPage,
    PredictionStatus,
)
from mediagate_server.store.records import AttemptState
from tests.faults.simulation.chance import Chance
from tests.faults.simulation.disk import DiskStore, new_disk
from tests.faults.simulation.process import Clock
from tests.faults.simulation.upstream import BEGIN
from tests.faults.simulation.virtual_time import VirtualLoop
from tests.generations.surroundings import Upstream, submission, work


class SlowToAnswer(Upstream):
    """Fails once and takes the rest; of the third its list tells before its answer does."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()

    async def admit(self, model: str, *, again: bool = False) -> Turn:
        turn = self.try_admit(model)
        assert turn is not None
        return turn

    async def create(self, request: CreateRequest, *, model: str, turn: Turn | None) -> Prediction:
        self.created.append(request)
        if len(self.created) == 1:
            raise NoAnswer("no", api_error=True)
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
    """While it looks for the third prediction, that one's create is answered and settled."""

    upstream: SlowToAnswer

    async def claimed(self, predictions: Iterable[str]) -> frozenset[str]:
        names = tuple(predictions)
        found = await super().claimed(names)
        if "p3" in names and not self.upstream.answers.is_set():
            self.upstream.answers.set()
            await asyncio.sleep(5)
        return found


async def states_of_first() -> list[AttemptState]:
    """Of the attempts of a generation whose first create was proven absent."""

    def is_alive() -> bool:
        return True

    with closing(new_disk()) as disk:
        store = SlowToRead(disk, Chance(0), is_alive)
        await store.__aenter__()
        store._chance.quiet = True
        store.upstream = upstream = SlowToAnswer()
        around = Surroundings(store, upstream, CreatePolicy(Random(1)), clock=Clock(is_alive))
        async with Generations(around, max_in_flight=lambda _: 0) as generations:
            async with await generations.start(submission(1), work) as attached:
                await attached.until_settled(None)
            await asyncio.sleep(40 - asyncio.get_running_loop().time())
            async with await generations.start(submission(2), work) as same:
                assert (await same.until_settled(None)).attempt.prediction_id == "p3"
            assert upstream.answers.is_set()
            await asyncio.sleep(60)
            record = await generations.get("local", attached.record.id)
            return [attempt.state for attempt in record.attempts]


def test_what_is_settled_meanwhile_is_not_taken_for_an_overrun() -> None:
    overruns = telemetry.attempts_overrun._value.get()
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        states = runner.run(states_of_first())
    assert states == [AttemptState.ABSENT, AttemptState.SUCCEEDED]
    assert telemetry.attempts_overrun._value.get() == overruns
