"""A coroutine without a task: run at once, and on when what it awaits is done."""

import asyncio

import pytest

from mediagate_server.runtime.tasks import run_eagerly


async def test_an_eager_task_runs_at_once_to_its_end() -> None:
    loop = asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()
    seen: list[object] = []

    async def work() -> None:
        seen.append(await first)
        seen.append(await second)

    run_eagerly(work(), seen.append)
    assert seen == []
    first.set_result(1)
    await asyncio.sleep(0)
    assert seen == [1]
    second.set_result(2)
    await asyncio.sleep(0)
    assert seen == [1, 2, None]


@pytest.mark.parametrize("failure", [ValueError("no"), asyncio.CancelledError()])
async def test_an_eager_tasks_exception_is_reported(failure: BaseException) -> None:
    seen: list[object] = []

    async def work() -> None:
        raise failure

    run_eagerly(work(), seen.append)
    assert seen == [failure]


async def test_a_cancelled_future_is_reported() -> None:
    future = asyncio.get_running_loop().create_future()
    seen: list[object] = []

    async def work() -> None:
        await future

    run_eagerly(work(), seen.append)
    future.cancel()
    await asyncio.sleep(0)
    assert isinstance(seen[0], asyncio.CancelledError)
