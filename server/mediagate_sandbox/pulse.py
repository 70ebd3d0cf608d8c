"""A bell that many can wait on and that can be rung again and again.

It carries no news: whoever is woken looks for itself.
"""

from __future__ import annotations

import asyncio


class Pulse:
    """Wakes everyone who waits, once per beat."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        """A pulse that has not beaten yet."""
        self._event = asyncio.Event()

    def beat(self) -> None:
        """Wake all who wait now; who comes later waits for the next beat."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self) -> None:
        """Return at the next beat."""
        await self._event.wait()
