"""A bell wakes all who wait, those who come late, and nobody who has gone."""

import asyncio

import pytest

from mediagate_server.runtime.events import OneShotEvent, ResettableEvent


async def test_all_who_wait_go_on() -> None:
    bell = OneShotEvent()
    waiting = [asyncio.ensure_future(bell.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    bell.set()
    await asyncio.gather(*waiting)


async def test_who_comes_late_does_not_wait() -> None:
    bell = OneShotEvent()
    bell.set()
    bell.set()
    await bell.wait()


async def test_who_has_gone_is_forgotten_and_the_others_are_not() -> None:
    bell = OneShotEvent()
    gone, stays = (asyncio.ensure_future(bell.wait()) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert len(bell._waiters) == 1
    bell.set()
    await stays


async def test_one_that_is_cancelled_as_it_rings_is_still_cancelled() -> None:
    bell = OneShotEvent()
    waiting = asyncio.ensure_future(bell.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    bell.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_signal_lets_all_go_on_and_may_be_set_again() -> None:
    signal = ResettableEvent()
    for _ in range(2):
        waiting = [asyncio.ensure_future(signal.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        signal.set()
        await asyncio.gather(*waiting)
        await signal.wait()
        assert signal.is_set()
        signal.clear()
        assert not signal.is_set()


async def test_a_signal_that_is_cleared_at_once_was_still_heard() -> None:
    signal = ResettableEvent()
    waiting = asyncio.ensure_future(signal.wait())
    await asyncio.sleep(0)
    signal.set()
    signal.clear()
    await waiting
