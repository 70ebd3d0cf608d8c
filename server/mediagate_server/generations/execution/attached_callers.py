"""Attached callers of a generation: the paid rpcs that carry its request_id.

An rpc that ends by cancellation, disconnect or deadline has left. Once any of them has got a normal
answer the generation is detached for good: somebody knows of it and may come back for it.
"""

from collections.abc import Callable

from mediagate_server.runtime.clock import Clock, Timer
from mediagate_server.runtime.notifier import Notifier


def _nothing() -> None:
    pass


class AttachedCallers:
    """Counts callers; calls `abandon` when the last one has left and the grace is over.

    `detached` from the beginning is what an earlier process left: it runs to its end.

    Until the grace is over nothing is sent that is not sent yet: a cut is a fault of the network
    far more often than a wish, but nobody may be there to want what would be paid for.
    """

    def __init__(
        self, clock: Clock, abandon: Callable[[], None], *, detached: bool = False
    ) -> None:
        self._clock = clock
        self._abandon = abandon
        self._attached = 0
        self._detached = detached
        self._timer: Timer | None = None
        self._reconnected = Notifier()

    @property
    def all_disconnected(self) -> bool:
        """Whether the last one has left, and may yet come back before the grace is over."""
        return self._timer is not None

    async def wait_for_reconnect(self) -> None:
        """Until one has come back, or at once where nobody is missed."""
        while self._timer is not None:
            await self._reconnected.wait(self._reconnected.count)

    def close(self) -> None:
        """There is nothing left that could be abandoned."""
        self._abandon = _nothing
        self._stop_timer()

    def attach(self) -> None:
        """One more is attached; a generation that was about to be abandoned is not."""
        self._attached += 1
        self._stop_timer()
        self._reconnected.notify()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def detach_answered(self) -> None:
        """One got its normal answer."""
        self._attached -= 1
        self._detached = True

    def detach_draining(self) -> None:
        """One was sent away by this process's end: neither an answer nor leaving."""
        self._attached -= 1

    def disconnect(self, *, cancel: bool, grace: float) -> None:
        """One has left. `cancel` and `grace` (seconds) are what the last one to leave had set."""
        self._attached -= 1
        if self._attached or self._detached or not cancel:
            return
        if grace <= 0:
            self._abandon()
        else:
            self._timer = self._clock.call_later(grace, self._abandon)
