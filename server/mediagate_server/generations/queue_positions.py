"""Queue positions: the queue for the account's rate, and news of it for callers who wait.

A queue of thousands moves with every create. A caller is notified when its position has changed
by a tenth, at most once a second, and only so many are in that second: notifying costs the server
more than sending does.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from mediagate_server.runtime.clock import Clock, Timer

NOTIFY_SECONDS: Final = 1.0
MAX_NOTIFIED: Final = 200
"""Listeners that are notified at a time."""
_STEP: Final = 10
"""The part of a place by which it has to change; below twice that number each change counts."""


class PositionListener:
    """Listener of one caller. `attempts` gives what it waits for, `on_position_changed` is called
    when that has moved.
    """

    __slots__ = ("attempts", "on_position_changed", "position")

    def __init__(
        self, attempts: Callable[[], Iterable[str]], on_position_changed: Callable[[], None]
    ) -> None:
        self.attempts = attempts
        self.on_position_changed = on_position_changed
        self.position: int | None = None
        """As it was last reported; None: not yet, or it does not wait any more."""


class QueuePositions:
    """Attempts that wait for the account's rate, in the order of their coming.

    The account serves one tenant after the other: of each other tenant no more come before an
    attempt than of its own, itself among those.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tenants: dict[str, str] = {}
        """Of each attempt."""
        self._waiting: dict[str, dict[str, None]] = {}
        """Attempts by tenant, in order."""
        self._watches: dict[PositionListener, None] = {}
        self._timer: Timer | None = None

    def add(self, attempt_id: str, tenant: str, *, first: bool = False) -> None:
        """An attempt waits, behind all of its tenant's that wait already, or before them."""
        self._tenants[attempt_id] = tenant
        if first:
            self._waiting[tenant] = {attempt_id: None, **self._waiting.get(tenant, {})}
        else:
            self._waiting.setdefault(tenant, {})[attempt_id] = None
        self._change()

    def remove(self, attempt_id: str) -> None:
        """It waits no more."""
        tenant = self._tenants.pop(attempt_id, None)
        if tenant is None:
            return
        own = self._waiting[tenant]
        del own[attempt_id]
        if not own:
            del self._waiting[tenant]
        self._change()

    def position(self, attempts: Iterable[str]) -> int | None:
        """From 1, of the first of these that waits; None: none does."""
        return min((self._position(one) for one in attempts if one in self._tenants), default=None)

    def _position(self, attempt_id: str) -> int:
        own = self._waiting[self._tenants[attempt_id]]
        if attempt_id == next(reversed(own)):
            turn = len(own)  # As of all that have just come.
        else:
            turn = next(turn for turn, one in enumerate(own, 1) if one == attempt_id)
        return sum(min(len(waiting), turn) for waiting in self._waiting.values())

    def _all(self) -> dict[str, int]:
        """Of all in one pass: the place of a tenant's n-th is how many the first n turns serve."""
        ends = Counter(len(waiting) for waiting in self._waiting.values())
        served, left = [0], len(self._waiting)
        for turn in range(1, max(ends, default=0) + 1):
            served.append(served[-1] + left)
            left -= ends[turn]
        return {
            attempt: served[turn]
            for waiting in self._waiting.values()
            for turn, attempt in enumerate(waiting, 1)
        }

    def watch(self, watch: PositionListener) -> None:
        """Tell whoever this is from now on, beginning with the next change."""
        watch.position = self.position(watch.attempts())
        self._watches[watch] = None

    def unwatch(self, watch: PositionListener) -> None:
        """Tell no more."""
        self._watches.pop(watch, None)

    def _change(self) -> None:
        if self._watches:
            self._notify_later()

    def _notify_later(self) -> None:
        if self._timer is None:
            self._timer = self._clock.call_later(NOTIFY_SECONDS, self._notify)

    def _notify(self) -> None:
        """Notify those whose position has changed; they go behind those who were not notified."""
        self._timer = None
        positions = self._all()
        moved: list[PositionListener] = []
        for watch in self._watches:
            places = (positions[one] for one in watch.attempts() if one in positions)
            position = min(places, default=None)
            if not _is_news(watch.position, position):
                continue
            if len(moved) == MAX_NOTIFIED:
                self._notify_later()
                break
            watch.position = position
            moved.append(watch)
        for watch in moved:
            del self._watches[watch]
            self._watches[watch] = None
        for watch in moved:
            watch.on_position_changed()


def _is_news(notified: int | None, now: int | None) -> bool:
    """That it does not wait any more is reported by its state."""
    if now is None or notified is None:
        return now is not None
    return abs(notified - now) >= max(1, max(notified, now) // _STEP)
