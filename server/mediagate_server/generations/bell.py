"""Something that many may wait for and that happens once: an event of asyncio without its weight.

Each change of a generation rings one and hangs up the next, for every token of a stream, and each
silent stream holds one: asyncio's own has a queue of 700 bytes, and asks for its loop at each wait.
"""

import asyncio


class Bell:
    """Rung once; whoever waits then or later goes on."""

    __slots__ = ("_rung", "_waiting")

    def __init__(self) -> None:
        self._rung = False
        self._waiting: list[asyncio.Future[None]] = []

    def ring(self) -> None:
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
