"""A bell that many can wait on and that can be rung again and again.

It carries no news: whoever is woken looks for itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class BroadcastEvent:
    """Wakes everyone who waits, once per beat."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        """A pulse that has not beaten yet."""
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Wake all who wait now; who comes later waits for the next beat."""
        self._event.set()
        self._event = asyncio.Event()

    def wait(self) -> Coroutine[Any, Any, None]:
        """Return at the next beat after this call, even if it is awaited, in a task, only later."""
        return _beaten(self._event)


async def _beaten(event: asyncio.Event) -> None:
    await event.wait()
