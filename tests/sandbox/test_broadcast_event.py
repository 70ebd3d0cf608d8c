"""The bell that streams and waiters hang on."""

from __future__ import annotations

import asyncio

from mediagate_sandbox.broadcast_event import BroadcastEvent


async def test_an_event_between_the_call_and_the_wait_is_not_lost() -> None:
    """A wait that is handed to a task begins now, not when the task gets its turn."""
    pulse = BroadcastEvent()
    task = asyncio.create_task(pulse.wait())
    pulse.notify()
    await task


async def test_a_wait_ignores_earlier_events() -> None:
    """Whoever comes later waits for the next one."""
    pulse = BroadcastEvent()
    pulse.notify()
    task = asyncio.create_task(pulse.wait())
    await asyncio.sleep(0)
    assert not task.done()
    pulse.notify()
    await task
