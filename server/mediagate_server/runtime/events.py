"""Lightweight events: like asyncio.Event, without its 700-byte queue of waiters.

Each idle stream holds three, and each change of a generation creates and sets one.
"""

import asyncio
from typing import Protocol


class Waitable(Protocol):
    """An event that can be waited for: a `ResettableEvent` or an `asyncio.Event`."""

    def is_set(self) -> bool:
        """Whether the event is set."""
        ...

    async def wait(self) -> object:
        """Wait until the event is set."""
        ...


class OneShotEvent:
    """An event that is set once and stays set."""

    __slots__ = ("_is_set", "_waiters")

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: list[asyncio.Future[None]] = []

    def set(self) -> None:
        """Set the event and wake all waiters."""
        self._is_set = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def wait(self) -> None:
        """Wait until it is set."""
        if self._is_set:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            raise


class ResettableEvent:
    """An event that can be cleared and set again. A `Waitable`."""

    __slots__ = ("_is_set", "_next_set")

    def __init__(self) -> None:
        self._is_set = False
        self._next_set: OneShotEvent | None = None

    def is_set(self) -> bool:
        """Whether it was set since it was last cleared."""
        return self._is_set

    def set(self) -> None:
        """Set the event and wake all waiters."""
        self._is_set = True
        if self._next_set is not None:
            self._next_set.set()
            self._next_set = None

    def clear(self) -> None:
        """Clear the event: later waits need another set."""
        self._is_set = False

    async def wait(self) -> None:
        """Wait until it is set."""
        if self._is_set:
            return
        if self._next_set is None:
            self._next_set = OneShotEvent()
        await self._next_set.wait()
