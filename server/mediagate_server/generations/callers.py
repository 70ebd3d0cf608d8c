"""Who is attached to a run: the paid rpcs that carry its request_id.

Leaving is an rpc that ends by cancellation, disconnect or deadline. Once any of them has got a
normal answer the run is detached for good: somebody knows of it and may come back for it.
"""

import asyncio
from collections.abc import Callable


class Callers:
    """Counts callers; calls `abandon` when the last one has left and the grace is over."""

    def __init__(self, abandon: Callable[[], None]) -> None:
        self._abandon = abandon
        self._attached = 0
        self._detached = False
        self._timer: asyncio.TimerHandle | None = None

    def arrive(self) -> None:
        """One more is attached; a run that was about to be abandoned is kept."""
        self._attached += 1
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def answered(self) -> None:
        """One got its normal answer."""
        self._attached -= 1
        self._detached = True

    def leave(self, *, cancel: bool, grace: float) -> None:
        """One has left. `cancel` and `grace` (seconds) are what the last one to leave had set."""
        self._attached -= 1
        if self._attached or self._detached or not cancel:
            return
        self._timer = asyncio.get_running_loop().call_later(grace, self._abandon)
