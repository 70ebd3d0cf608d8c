"""A commit waits for others only where the loop is late and waiting brings many together."""

import asyncio
from itertools import pairwise
from pathlib import Path

from mediagate_server.store.records import State
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.store.sqlite.crowd import PAUSE, Crowd
from tests.store.samples import made, moved, reservation, settlement

LATE, PROMPT = 0.001, 0.000_03


def waits(crowd: Crowd, commits: int, lag: float, *, alone: int, together: int) -> list[bool]:
    """Whether each of so many commits waited, where waiting brings `together` jobs."""
    waited = []
    for _ in range(commits):
        waited.append(crowd.pause > 0)
        crowd.heard(lag, together if crowd.pause else alone)
    return waited


def test_where_the_loop_is_prompt_nobody_waits() -> None:
    assert not any(waits(Crowd(), 200, PROMPT, alone=1, together=20))


def test_a_crowd_is_found_and_kept() -> None:
    waited = waits(Crowd(), 200, LATE, alone=1, together=14)
    assert waited.index(True) <= 32
    assert all(waited[waited.index(True) :])


def test_a_few_callers_in_step_hardly_ever_wait() -> None:
    """Waiting is tried, brings too little, and is left off again."""
    waited = waits(Crowd(), 320, LATE, alone=1, together=4)
    assert sum(waited) <= 20
    assert not any(one and other for one, other in pairwise(waited))


def test_a_crowd_that_thins_out_is_kept_until_it_is_none() -> None:
    crowd = Crowd()
    waits(crowd, 64, LATE, alone=1, together=14)
    assert all(waits(crowd, 10, LATE, alone=1, together=4))
    waits(crowd, 1, LATE, alone=1, together=3)
    assert crowd.pause == 0


def test_one_long_turn_is_no_crowd() -> None:
    crowd = Crowd()
    for number in range(200):
        crowd.heard(0.05 if number % 5 == 0 else PROMPT, 1)
        assert crowd.pause == 0


def test_when_the_crowd_has_gone_nobody_waits() -> None:
    crowd = Crowd()
    waits(crowd, 64, LATE, alone=2, together=14)
    assert crowd.pause == PAUSE
    crowd.heard(LATE, 1)
    assert crowd.pause == 0


async def test_many_at_once_are_durable_when_told_so(tmp_path: Path) -> None:
    """A crowd through the real writer: each reads back what it was told is written."""
    async with SqliteStore(tmp_path) as store:

        async def one(name: str) -> None:
            generation = made(name)
            assert isinstance(await store.accept(generation, reservation(generation), 0), int)
            ended = moved(generation, State.SUCCEEDED)
            await store.save(ended, settlement(generation))
            assert await store.get("local", generation.id) == ended

        await asyncio.gather(*(one(str(number)) for number in range(300)))
