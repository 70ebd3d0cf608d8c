"""A Notifier wakes all who wait, those who come late, and nobody who has gone."""

import asyncio

import pytest

from mediagate_server.runtime.clock import SystemClock
from mediagate_server.runtime.notifier import Notifier


async def test_all_waiters_are_woken() -> None:
    notifier = Notifier()
    waiting = [asyncio.ensure_future(notifier.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    notifier.notify()
    await asyncio.gather(*waiting)


async def test_a_late_waiter_does_not_wait() -> None:
    notifier = Notifier()
    assert not notifier.happened
    notifier.notify()
    notifier.notify()
    assert notifier.happened
    await notifier.wait()


async def test_a_cancelled_waiter_does_not_affect_others() -> None:
    notifier = Notifier()
    gone, stays = (asyncio.ensure_future(notifier.wait()) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert notifier._waiters is not None
    assert len(notifier._waiters) == 1
    notifier.notify()
    await stays


async def test_cancellation_wins_over_notification() -> None:
    notifier = Notifier()
    waiting = asyncio.ensure_future(notifier.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    notifier.notify()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_every_change_wakes_up_to_date_waiters() -> None:
    notifier = Notifier()
    for seen in range(2):
        waiting = [asyncio.ensure_future(notifier.wait(seen)) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        notifier.notify()
        await asyncio.gather(*waiting)
        await notifier.wait(seen)


async def test_a_change_between_check_and_wait_is_not_missed() -> None:
    """None takes it from the other, as one who clears a common flag does."""
    notifier = Notifier()

    async def look_and_wait() -> None:
        seen = notifier.count
        await asyncio.sleep(0)
        await notifier.wait(seen)

    waiting = [asyncio.ensure_future(look_and_wait()) for _ in range(2)]
    await asyncio.sleep(0)
    notifier.notify()
    await asyncio.wait_for(asyncio.gather(*waiting), 1)


async def test_the_clock_wakes_on_the_next_change() -> None:
    clock, notifier = SystemClock(), Notifier()
    assert not await clock.wait(notifier, 0)
    notifier.notify()
    assert await clock.wait(notifier, 60)
    assert not await clock.wait(notifier, 0, notifier.count)
