"""Jobs are gathered while the event loop is at work, and committed once it is not."""

import asyncio
from pathlib import Path

from mediagate_server.store.records import State
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.store.sqlite.group_commit import (
    BATCH_SIZE,
    MAX_BATCH_SECONDS,
    MAX_COMMIT_JOBS,
    CommitBatcher,
)
from tests.store.records import advance, generation_record, reservation, settlement

WORK, NOTHING = 0.001, 0.000_01


class Loop:
    """Turns of an event loop, each as long as is said, and the commits that were begun in them."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.begun: list[list[int]] = []
        self.gathering = CommitBatcher(
            asyncio.get_running_loop(), self.begun.append, lambda: self.seconds
        )

    async def idle(self) -> None:
        """A turn in which there is nothing but one job: from it the shortest turn is known."""
        await self.turn(NOTHING, 0)
        self.gathering.on_commit_end()
        self.begun.clear()

    async def turn(self, seconds: float, *jobs: int) -> None:
        """One turn, in which these jobs come."""
        for job in jobs:
            self.gathering.add(job)
        self.seconds += seconds
        await asyncio.sleep(0)


async def test_an_idle_loop_commits_a_job_at_once() -> None:
    loop = Loop()
    await loop.turn(NOTHING, 1)
    assert loop.begun == [[1]]


async def test_idleness_is_judged_by_the_shortest_loop_turns() -> None:
    loop = Loop()
    slow = 20 * NOTHING
    for job in range(3):
        await loop.turn(slow, job)
        assert loop.begun[-1] == [job]
        loop.gathering.on_commit_end()
    await loop.turn(5 * slow, 3)
    assert len(loop.begun) == 3
    await loop.turn(slow)
    assert loop.begun[-1] == [3]


async def test_jobs_submitted_while_the_loop_is_busy_share_a_commit() -> None:
    loop = Loop()
    await loop.idle()
    for job in range(5):
        await loop.turn(WORK, job)
    assert loop.begun == []
    await loop.turn(NOTHING)
    assert loop.begun == [[0, 1, 2, 3, 4]]


async def test_a_full_batch_is_committed_at_once() -> None:
    loop = Loop()
    await loop.idle()
    await loop.turn(WORK, *range(BATCH_SIZE - 1))
    assert loop.begun == []
    await loop.turn(WORK, BATCH_SIZE - 1)
    assert loop.begun == [list(range(BATCH_SIZE))]


async def test_a_busy_loop_does_not_delay_a_commit_for_ever() -> None:
    loop = Loop()
    await loop.idle()
    await loop.turn(WORK, 1)
    while loop.seconds < MAX_BATCH_SECONDS - WORK:
        await loop.turn(WORK)
    assert loop.begun == []
    await loop.turn(2 * WORK)
    assert loop.begun == [[1]]


async def test_only_one_commit_runs_at_a_time() -> None:
    """What comes during a commit waits for its end, and then for the loop."""
    loop = Loop()
    await loop.idle()
    await loop.turn(NOTHING, 1)
    await loop.turn(NOTHING, 2)
    await loop.turn(NOTHING, 3)
    assert loop.begun == [[1]]
    loop.gathering.on_commit_end()
    await loop.turn(WORK, 4)
    await loop.turn(NOTHING)
    assert loop.begun == [[1], [2, 3, 4]]
    loop.gathering.on_commit_end()
    await loop.turn(NOTHING)
    assert len(loop.begun) == 2


async def test_jobs_beyond_one_commit_keep_their_order() -> None:
    loop = Loop()
    await loop.idle()
    await loop.turn(NOTHING, *range(MAX_COMMIT_JOBS + 3))
    assert loop.begun == [list(range(MAX_COMMIT_JOBS))]
    loop.gathering.on_commit_end()
    await loop.turn(NOTHING)
    assert loop.begun[1] == list(range(MAX_COMMIT_JOBS, MAX_COMMIT_JOBS + 3))


async def test_concurrent_writes_are_durable_once_acknowledged(tmp_path: Path) -> None:
    """A crowd through the real writer: each reads back what it was told is written."""
    async with SqliteStore(tmp_path) as store:

        async def run_generation(name: str) -> None:
            generation = generation_record(name)
            assert isinstance(await store.accept(generation, reservation(generation), 0), int)
            ended = advance(generation, State.SUCCEEDED)
            await store.save(ended, settlement(generation))
            assert await store.get("local", generation.id) == ended

        await asyncio.gather(*(run_generation(str(number)) for number in range(300)))


async def test_closing_commits_all_pending_jobs(tmp_path: Path) -> None:
    """Closing commits all that waits."""
    async with SqliteStore(tmp_path) as store:
        given = [asyncio.ensure_future(store.secret_key(str(number))) for number in range(200)]
        await asyncio.sleep(0)
    results = [future.result() for future in given]
    async with SqliteStore(tmp_path) as store:
        assert [await store.secret_key(str(number)) for number in range(200)] == results
