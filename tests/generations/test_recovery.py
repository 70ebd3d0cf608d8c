"""What an earlier process left: read together, known before anybody asks, followed in turn."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mediagate_server.catalog.pricing import prices
from mediagate_server.errors import ServerDraining
from mediagate_server.generations.engine import GenerationEngine
from mediagate_server.store.records import AttemptState, Checkpoint, Generation, State
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.structs import replace
from mediagate_server.upstream.port import Prediction, PredictionStatus
from tests.generations.engine_deps import (
    PRICE,
    AcceptingUpstream,
    engine_deps,
    submission,
    submit,
    work,
)
from tests.rpc.fake_clocks import SteppedClock
from tests.store.records import generation_record, reservation

COUNT = 230


class CountingReads(SqliteStore):
    """A store that notes for which generations it was asked together, or alone."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.together: list[int] = []
        self.alone = 0

    async def resumptions(self, generation_ids: Sequence[str]) -> Any:
        self.together.append(len(generation_ids))
        return await super().resumptions(generation_ids)

    async def pending_input(self, generation_id: str) -> bytes | None:
        self.alone += 1
        return await super().pending_input(generation_id)


class Running(AcceptingUpstream):
    """Nothing ends before the test says so; `asked` are those that were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.requested: set[str] = set()
        self.news = asyncio.Event()
        self.over = False

    async def get(self, prediction_id: str, *, model: str) -> Prediction:
        self.requested.add(prediction_id)
        self.news.set()
        if self.over:
            return await super().get(prediction_id, model=model)
        return Prediction(prediction_id, PredictionStatus.PROCESSING)


def running(number: int) -> Generation:
    """A generation that upstream works on."""
    now = datetime.now(UTC) + timedelta(microseconds=number)
    record = generation_record(
        f"{number:03}", created_at=now, deadline_at=now + timedelta(minutes=10)
    )
    attempt = replace(
        record.attempt,
        state=AttemptState.ACCEPTED,
        prediction_id=f"p{number:03}",
        price=prices.dump_price(PRICE),
    )
    return replace(record, state=State.RUNNING, attempts=(attempt,))


async def test_unfinished_generations_are_read_in_batches_and_resumed(tmp_path: Path) -> None:
    """A few reads for all; all known at once; upstream is asked about some, the oldest first."""
    records = [running(number) for number in range(COUNT)]
    async with SqliteStore(tmp_path) as store:
        for record in records:
            await store.accept(record, reservation(record), 0, pending=b"{}")
        await store.save_checkpoint(records[-1].id, Checkpoint(0, 3, "1:0", "one"))
    upstream, clock = Running(), SteppedClock()
    async with (
        CountingReads(tmp_path) as store,
        asyncio.timeout(60),
        GenerationEngine(
            replace(engine_deps(store, upstream), clock=clock), max_in_flight=lambda _: 0
        ) as generations,
    ):
        assert store.together == [100, 100, 30]
        assert not store.alone
        last = await generations.get("local", records[-1].id)
        assert last.state is State.RUNNING
        began = 50
        while began < COUNT:
            while len(upstream.requested) < began:
                upstream.news.clear()
                await upstream.news.wait()
            assert upstream.requested == {f"p{number:03}" for number in range(began)}
            await clock.step(0.5)
            began = min(began + 50, COUNT)
        # A cancel of one reaches it, though it has only just begun.
        await generations.cancel("local", records[-1].id)
        upstream.over = True
        ended = [await generations.wait("local", record.id, 30) for record in records]
    assert all(generation.state.is_terminal for generation in ended)


async def test_generations_of_another_owner_are_not_waited_for(tmp_path: Path) -> None:
    """Its record is shown as it stands; whoever waits, watches, cancels or repeats asks again."""
    upstream = Running()
    async with (
        SqliteStore(tmp_path) as store,
        GenerationEngine(engine_deps(store, upstream), max_in_flight=lambda _: 0) as generations,
    ):
        request = submission(1)
        record = replace(running(1), request_id=request.request_id, fingerprint=request.fingerprint)
        await store.accept(record, reservation(record), 0)
        assert (await generations.get("local", record.id)).state is State.RUNNING
        with pytest.raises(ServerDraining):
            await generations.wait("local", record.id, 60)
        with pytest.raises(ServerDraining):
            await generations.cancel("local", record.id)
        watch = generations.watch("local", record.id, 0, logs=False)
        _, generation = await anext(watch)
        assert generation.state is State.RUNNING
        with pytest.raises(ServerDraining):
            await anext(watch)
        attached = await submit(generations, request, work())
        with pytest.raises(ServerDraining):
            await attached.wait(None)
        stored = await store.get("local", record.id)
        assert stored is not None
        assert (stored.version, stored.stop) == (1, "")
        assert not upstream.requested
