"""Condition variable without a lock (an eventcount): wakes all who wait for a change.

An asyncio.Event has a queue of 700 bytes from the start, and one flag for all who wait: a change
between a look and the wait for the next is lost where another has cleared it. Here each waiter
remembers the count as of which it has looked:

    seen = changed.count
    ...                         # Look, and perhaps await something.
    await changed.wait(seen)    # At once where it has changed since.
"""

import asyncio


class Notifier:
    """`count`: how often it was notified. What happens once has `happened`, and `wait()` alone.

    For one event loop, from its own thread.
    """

    __slots__ = ("_waiters", "count")

    def __init__(self) -> None:
        self.count = 0
        self._waiters: list[asyncio.Future[None]] | None = None

    @property
    def happened(self) -> bool:
        """Whether it was ever notified."""
        return self.count > 0

    def notify(self) -> None:
        """Wake all who wait."""
        self.count += 1
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, after: int = 0) -> None:
        """Wait until `count` is above `after`; return at once where it is."""
        while self.count <= after:
            waiter = asyncio.get_running_loop().create_future()
            if self._waiters is None:
                self._waiters = []
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if self._waiters and waiter in self._waiters:
                    self._waiters.remove(waiter)
                raise
