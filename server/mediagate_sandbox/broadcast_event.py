"""Broadcast event: wakes all waiters, any number of times.

It carries no value: waiters check the state themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class BroadcastEvent:
    """Event that wakes all current waiters at each `notify`."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        """Create an event that was not notified yet."""
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Wake all current waiters; later ones wait for the next call."""
        self._event.set()
        self._event = asyncio.Event()

    def wait(self) -> Coroutine[Any, Any, None]:
        """Wait for the next `notify` after this call, even if it is awaited only later."""
        return _beaten(self._event)


async def _beaten(event: asyncio.Event) -> None:
    await event.wait()
