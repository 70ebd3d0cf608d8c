"""Reservation of the right to send one create: used when it is sent, or given back."""

import asyncio
from collections.abc import Callable
from contextlib import suppress


class Turn:
    """One reservation, which ends once: by `use`, by `release`, or with whoever held it.

    While it is held nobody else has what is reserved; what `use` does counts from then on.
    """

    __slots__ = ("_loop", "_release", "_use")

    def __init__(self, use: Callable[[], None], release: Callable[[], None]) -> None:
        self._use: Callable[[], None] | None = use
        self._release = release
        self._loop = asyncio.get_running_loop()

    def use(self) -> None:
        """It is sent now. Nothing where the reservation has ended."""
        if self._use is not None:
            use, self._use = self._use, None
            use()

    def release(self) -> None:
        """It is not sent: things are as if it had never been reserved. Nothing after the end."""
        if self._use is not None:
            self._use = None
            self._release()

    def __del__(self) -> None:
        if self._use is None:
            return
        if asyncio._get_running_loop() is self._loop:  # noqa: SLF001 - there is no other question
            self.release()
            return
        # Garbage is collected in any thread, and events and counts are the loop's alone.
        self._use = None
        with suppress(RuntimeError):  # The loop is closed: nobody waits for it any more.
            self._loop.call_soon_threadsafe(self._release)
