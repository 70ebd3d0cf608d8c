"""What waits to be sent while the gate drains: its task ends by itself, the next process sends it.

It waited for ever instead, and was right only because its task was cancelled later.
"""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mediagate_server.errors import Draining
from mediagate_server.generations.generations import Generations
from mediagate_server.generations.work import LaneWork, Work
from mediagate_server.interceptors.outbound.turn import Turn
from mediagate_server.replicate.port import CreateRequest, Prediction
from mediagate_server.store.records import AttemptState, Purpose, State
from mediagate_server.store.sqlite import SqliteStore
from tests.generations.surroundings import Upstream, around, submission, work
from tests.generations.upstreams import free_turn


class Full(Upstream):
    """There is no room until `room` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.room = asyncio.Event()
        self.asked = asyncio.Event()

    def try_admit(self, model: str) -> Turn | None:
        return None

    async def admit(self, model: str, *, again: bool = False) -> Turn:
        self.asked.set()
        await self.room.wait()
        return free_turn()

    async def create(self, request: CreateRequest, *, model: str, turn: Turn | None) -> Prediction:
        self.created.append(request)
        return await self.get(f"made{len(self.created)}", model=model)


async def several() -> Work:
    """Two outputs."""
    one = (await work()).chain
    return Work(
        tuple(LaneWork(Purpose.GENERATE, index, one) for index in range(2)),
        after_content_refusal=False,
    )


@pytest.mark.parametrize("planned", [work, several])
async def test_a_drained_lane_ends(tmp_path: Path, planned: Any) -> None:
    """No task is left parked; nothing was sent; the next process sends each of them once."""
    upstream = Full()
    async with (
        SqliteStore(tmp_path) as store,
        Generations(around(store, upstream), max_in_flight=lambda _: 0) as generations,
    ):
        async with await generations.start(submission(1), planned) as attached:
            await upstream.asked.wait()
            [life] = generations._roll
            generations.drain()
            with pytest.raises(Draining):
                await attached.until_settled(None)
            upstream.room.set()
            while any(generations._roll):  # noqa: ASYNC110 - its end is told to nobody
                await asyncio.sleep(0)
            assert life.record.state is State.QUEUED
            assert {one.state for one in life.record.attempts} == {AttemptState.QUEUED}
        assert not upstream.created
    later = Full()
    later.room.set()
    async with (
        SqliteStore(tmp_path) as store,
        Generations(around(store, later), max_in_flight=lambda _: 0) as generations,
    ):
        async with await generations.start(submission(1), planned) as attached:
            record = await attached.until_settled(None)
        assert record.state.is_terminal
        assert len(later.created) == len((await planned()).lanes)
