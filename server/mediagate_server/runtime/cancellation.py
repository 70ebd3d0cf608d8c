"""The wish that a generation ends: who asked first, and how it reaches what is going on.

News of a prediction, and how it reaches who reads its stream.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from mediagate_server.runtime.clock import Clock
from mediagate_server.runtime.events import ResettableEvent

WAKE_GRACE_SECONDS: Final = 1.0
"""Seconds that a stream has to tell by itself what there is news of."""


def cancel_scope_now(scope: asyncio.Timeout) -> None:
    """End what is done within a scope, which something else may be ending at this moment."""
    if not scope.expired():
        scope.reschedule(asyncio.get_running_loop().time())


class WakeSignal(ResettableEvent):
    """Set where there is news; it also ends the reading of a stream that does not tell it."""

    __slots__ = ("_clock", "_scope")

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._scope: asyncio.Timeout | None = None

    def set(self) -> None:
        """There is news."""
        super().set()
        if self._scope is not None:
            self._end_soon(self._scope)

    def ends(self, scope: asyncio.Timeout | None) -> None:
        """News soon end what is done within this scope, also news that there are; None: nothing."""
        self._scope = scope
        if scope is not None and self.is_set():
            self._end_soon(scope)

    def _end_soon(self, scope: asyncio.Timeout) -> None:
        def end() -> None:
            if self._scope is scope:
                cancel_scope_now(scope)

        self._clock.call_later(WAKE_GRACE_SECONDS, end)


DEADLINE_REASON: Final = "deadline"
"""The word for an end that the generation's own timeout asked for."""


class CancelToken:
    """Asked for once, for good. `because` is one of our own words, empty until then."""

    def __init__(self, because: str = "") -> None:
        self.reason = because
        self._interrupted: list[asyncio.Timeout] = []
        self._told: list[Callable[[], object]] = []
        self._children: list[CancelToken] = []

    @property
    def is_cancelled(self) -> bool:
        """True once somebody asked for the end."""
        return bool(self.reason)

    def cancel(self, because: str) -> bool:
        """Ask for the end. True for the first who does."""
        if self.reason:
            return False
        self.reason = because
        for scope in self._interrupted:
            cancel_scope_now(scope)
        self._interrupted.clear()
        for tell in self._told:
            tell()
        for child in self._children:
            child.cancel(because)
        return True

    def on_cancel(self, told: Callable[[], None]) -> None:
        """Have `told` called when the end is asked for."""
        self._told.append(told)

    def child(self) -> "CancelToken":
        """One that is asked for with this one, and may be asked for alone."""
        child = CancelToken(self.reason)
        # No callable that holds this one: it would be freed by the collector alone.
        self._children.append(child)
        return child

    async def run_until_cancelled(
        self, doing: Awaitable[object], wake: WakeSignal | None = None
    ) -> bool:
        """Await it unless the end is asked for first, which cancels it. True where it ended.

        News cancel it likewise, a little later, where `wake` tells of them. No task is made for
        it, and there is one scope for both: a thousand open streams wait here.
        """
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._interrupted.append(scope)
                if wake is not None:
                    wake.ends(scope)
                if self.reason:
                    cancel_scope_now(scope)
                await doing
        except TimeoutError:
            if not scope.expired():
                raise
            return False
        finally:
            if wake is not None:
                wake.ends(None)
            if scope in self._interrupted:
                self._interrupted.remove(scope)
        return True
