"""Events as asyncio has them, without their weight: a queue of 700 bytes, whether anybody waits.

Each silent stream holds three, and a change of a generation rings one and hangs up the next.
"""

import asyncio
from typing import Protocol


class Waitable(Protocol):
    """What can be waited for: a `ResettableEvent`, or an event of asyncio's."""

    def is_set(self) -> bool:
        """Whether it has happened."""
        ...

    async def wait(self) -> object:
        """Until it happens, or at once where it has."""
        ...


class OneShotEvent:
    """Rung once; whoever waits then or later goes on."""

    __slots__ = ("_rung", "_waiting")

    def __init__(self) -> None:
        self._rung = False
        self._waiting: list[asyncio.Future[None]] = []

    def set(self) -> None:
        """Let all go on who wait."""
        self._rung = True
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting.clear()

    async def wait(self) -> None:
        """Until it rings, or at once where it has."""
        if self._rung:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            raise


class ResettableEvent:
    """Set and cleared, as often as there is reason to. A `Waitable`."""

    __slots__ = ("_bell", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._bell: OneShotEvent | None = None

    def is_set(self) -> bool:
        """Whether it was set since it was last cleared."""
        return self._is_set

    def set(self) -> None:
        """Let all go on who wait."""
        self._is_set = True
        if self._bell is not None:
            self._bell.set()
            self._bell = None

    def clear(self) -> None:
        """Whoever waits from now on waits for it to be set anew."""
        self._is_set = False

    async def wait(self) -> None:
        """Until it is set, or at once where it is."""
        if self._is_set:
            return
        if self._bell is None:
            self._bell = OneShotEvent()
        await self._bell.wait()
