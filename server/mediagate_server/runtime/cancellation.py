"""Cancellation tokens, and the wake-up signal that interrupts the reading of a stream."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from mediagate_server.runtime.clock import Clock
from mediagate_server.runtime.events import ResettableEvent

WAKE_GRACE_SECONDS: Final = 1.0
"""Seconds in which a stream may deliver by itself what the signal is about."""


def cancel_scope_now(scope: asyncio.Timeout) -> None:
    """Cancel what runs within a timeout scope, unless the scope is ending already."""
    if not scope.expired():
        scope.reschedule(asyncio.get_running_loop().time())


class WakeSignal(ResettableEvent):
    """Event that also cancels the reading of a stream: set where its prediction has news."""

    __slots__ = ("_clock", "_scope")

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._scope: asyncio.Timeout | None = None

    def set(self) -> None:
        """Set the event; the watched scope is cancelled after the grace period."""
        super().set()
        if self._scope is not None:
            self._cancel_later(self._scope)

    def watch_scope(self, scope: asyncio.Timeout | None) -> None:
        """Cancel this scope a little after the event is set, or is set already; None: no scope."""
        self._scope = scope
        if scope is not None and self.is_set():
            self._cancel_later(scope)

    def _cancel_later(self, scope: asyncio.Timeout) -> None:
        def cancel() -> None:
            if self._scope is scope:
                cancel_scope_now(scope)

        self._clock.call_later(WAKE_GRACE_SECONDS, cancel)


DEADLINE_REASON: Final = "deadline"
"""The reason of a cancellation by the generation's own timeout."""


class CancelToken:
    """Cancelled once, for good. `reason` is one of our own words; empty: not cancelled."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        self._scopes: list[asyncio.Timeout] = []
        self._on_cancel: list[Callable[[], object]] = []
        self._children: list[CancelToken] = []

    @property
    def is_cancelled(self) -> bool:
        """Whether it is cancelled."""
        return bool(self.reason)

    def cancel(self, reason: str) -> bool:
        """Cancel. True for the first call."""
        if self.reason:
            return False
        self.reason = reason
        for scope in self._scopes:
            cancel_scope_now(scope)
        self._scopes.clear()
        for function in self._on_cancel:
            function()
        for child in self._children:
            child.cancel(reason)
        return True

    def on_cancel(self, function: Callable[[], None]) -> None:
        """Register a function to call on cancellation."""
        self._on_cancel.append(function)

    def child(self) -> "CancelToken":
        """A token that is cancelled with this one, and can be cancelled alone."""
        child = CancelToken(self.reason)
        # A list and no callback that holds this token: such a cycle only the collector would free.
        self._children.append(child)
        return child

    async def run_until_cancelled(
        self, work: Awaitable[object], wake: WakeSignal | None = None
    ) -> bool:
        """Await `work`, which a cancellation of this token cancels. True where it ended by itself.

        A set `wake` cancels it likewise, after the grace period. There is no extra task, and one
        scope for both: a thousand open streams wait here.
        """
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._scopes.append(scope)
                if wake is not None:
                    wake.watch_scope(scope)
                if self.reason:
                    cancel_scope_now(scope)
                await work
        except TimeoutError:
            if not scope.expired():
                raise
            return False
        finally:
            if wake is not None:
                wake.watch_scope(None)
            if scope in self._scopes:
                self._scopes.remove(scope)
        return True
