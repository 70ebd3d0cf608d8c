"""Reservation of the right to send one create: used when it is sent, or given back."""

import asyncio
from collections.abc import Callable
from contextlib import suppress


def _nothing() -> None:
    """What most turns do once their create is over."""


class Turn:
    """One reservation, which ends once: by `use`, by `release`, or with whoever held it.

    While it is held nobody else has what is reserved; what `use` does counts from then on. `over`
    is done after `use`, once the create has ended in whatever way: by `close`, or likewise with
    whoever held it.
    """

    __slots__ = ("_loop", "_over", "_release", "_use")

    def __init__(
        self,
        use: Callable[[], None],
        release: Callable[[], None],
        over: Callable[[], None] = _nothing,
    ) -> None:
        self._use: Callable[[], None] | None = use
        self._release = release
        self._over = over
        self._loop = asyncio.get_running_loop()

    def use(self) -> None:
        """It is sent now. Nothing where the reservation has ended."""
        if self._use is not None:
            use, self._use = self._use, None
            self._release = self._over
            use()

    def release(self) -> None:
        """It is not sent: things are as if it had never been reserved. Nothing after the end."""
        if self._use is not None:
            self.close()

    def close(self) -> None:
        """The create that it was for has ended; one that was not sent is given back."""
        self._use = None
        end, self._release = self._release, _nothing
        end()

    def __del__(self) -> None:
        if self._release is _nothing:
            return
        if asyncio._get_running_loop() is self._loop:  # noqa: SLF001 - there is no other question
            self.close()
            return
        # Garbage is collected in any thread, and events and counts are the loop's alone.
        self._use = None
        with suppress(RuntimeError):  # The loop is closed: nobody waits for it any more.
            self._loop.call_soon_threadsafe(self._release)
