"""Cancellation tokens, and the news that interrupt the reading of a stream.

Nothing is called back: a token ends scopes, notifies Notifiers and cancels its children.
"""

import asyncio
from collections.abc import Awaitable
from typing import Final

from mediagate_server.runtime.clock import Clock
from mediagate_server.runtime.notifier import Notifier

NEWS_GRACE_SECONDS: Final = 1.0
"""Seconds in which a stream may deliver by itself what the news are about."""


def cancel_scope_now(scope: asyncio.Timeout) -> None:
    """Cancel what runs within a timeout scope, unless the scope is ending already."""
    if not scope.expired():
        scope.reschedule(asyncio.get_running_loop().time())


class PredictionNews(Notifier):
    """Notifier of news of a prediction, which also cancel the reading of its stream after a while.

    It has one reader, which has looked at all of it up to `seen`: what comes while that one does
    something else, such as a commit or a request, is not lost.
    """

    __slots__ = ("_clock", "_scope", "seen")

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.seen = 0
        self._clock = clock
        self._scope: asyncio.Timeout | None = None

    def mark_seen(self) -> None:
        """What there is by now is about to be looked at."""
        self.seen = self.count

    def notify(self) -> None:
        """There is news."""
        super().notify()
        if self._scope is not None:
            self._cancel_later(self._scope)

    def interrupt(self, scope: asyncio.Timeout | None) -> None:
        """Cancel this scope a little after news, also after unseen ones; None: no scope."""
        self._scope = scope
        if scope is not None and self.count > self.seen:
            self._cancel_later(scope)

    def _cancel_later(self, scope: asyncio.Timeout) -> None:
        def cancel() -> None:
            if self._scope is scope:
                cancel_scope_now(scope)

        self._clock.call_later(NEWS_GRACE_SECONDS, cancel)


DEADLINE_REASON: Final = "deadline"
"""The reason of a cancellation by the generation's own timeout."""


class CancelToken:
    """Cancelled once, for good. `reason` is one of our own words; empty: not cancelled."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        self._scopes: list[asyncio.Timeout] = []
        self._notifiers: list[Notifier] = []
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
        for notifier in self._notifiers:
            notifier.notify()
        for child in self._children:
            child.cancel(reason)
        return True

    def child(self, notifier: Notifier | None = None) -> "CancelToken":
        """A token that is cancelled with this one, and can be cancelled alone.

        `notifier` is notified when it is cancelled.
        """
        child = CancelToken(self.reason)
        if notifier is not None:
            child._notifiers.append(notifier)
        # A list and no callback that holds this token: such a cycle only the collector would free.
        self._children.append(child)
        return child

    async def run_until_cancelled(
        self, work: Awaitable[object], news: PredictionNews | None = None
    ) -> bool:
        """Await `work`, which a cancellation of this token cancels. True where it ended by itself.

        `news` cancel it likewise, after the grace period. There is no extra task, and one scope
        for both: a thousand open streams wait here.
        """
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._scopes.append(scope)
                if news is not None:
                    news.interrupt(scope)
                if self.reason:
                    cancel_scope_now(scope)
                await work
        except TimeoutError:
            if not scope.expired():
                raise
            return False
        finally:
            if news is not None:
                news.interrupt(None)
            if scope in self._scopes:
                self._scopes.remove(scope)
        return True
