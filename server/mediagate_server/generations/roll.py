"""Who lives in this process: generations by their id, lanes by their attempts."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from mediagate_server.generations.change_feed import ChangeFeed
from mediagate_server.generations.claims import Claims
from mediagate_server.generations.lane import Lane
from mediagate_server.generations.life import Life
from mediagate_server.generations.whole import HintTaker
from mediagate_server.replacing import replace
from mediagate_server.store.records import Generation, Place, State


class Roll:
    """Implements whole.Places. `doubt` is set whenever an attempt comes into doubt.

    `feed` is told whenever a version of a generation becomes durable. `seconds_held` tells how
    long no create may be sent now, because upstream has asked for it.
    """

    def __init__(
        self,
        creates_per_second: float,
        now: Callable[[], datetime],
        claims: Claims,
        feed: ChangeFeed,
        seconds_held: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.claims = claims
        self.feed = feed
        self._creates_per_second = creates_per_second
        self._now = now
        self._seconds_held = seconds_held
        self._lives: dict[str, Life] = {}
        self._lanes: dict[str, HintTaker] = {}
        self._queue: dict[str, str] = {}
        """Attempts that wait for the account's rate, with their tenants."""
        self.doubt = asyncio.Event()
        self.draining = False

    def __iter__(self) -> Iterator[Life]:
        return iter(tuple(self._lives.values()))

    def get(self, generation_id: str) -> Life | None:
        """A generation that lives here."""
        return self._lives.get(generation_id)

    def add(self, life: Life) -> None:
        """It lives here from now on."""
        self._lives[life.record.id] = life

    def remove(self, life: Life) -> None:
        """It lives here no more."""
        self._lives.pop(life.record.id, None)
        for attempt in life.record.attempts:
            self._lanes.pop(attempt.id, None)
        self.claims.release(life.record.attempts)

    def lanes(self) -> Iterator[Lane]:
        """All lanes of all that live here."""
        for life in self:
            yield from life.lanes

    def lane_of(self, attempt_id: str) -> HintTaker | None:
        """The lane that an attempt belongs to."""
        return self._lanes.get(attempt_id)

    def drain(self) -> None:
        """All who wait are to go."""
        self.draining = True
        for life in self:
            life.let_go()
        self.feed.drain()

    def placed(self, record: Generation) -> Generation:
        """The record to be shown: while it waits, with its place in the queue."""
        if record.state is not State.QUEUED:
            return record
        position = self._position({attempt.id for attempt in record.attempts})
        if position is None:
            return record
        seconds = self._seconds_held() + position / self._creates_per_second
        at = self._now() + timedelta(seconds=seconds)
        return replace(record, place=Place(position, at, seconds))

    def _position(self, attempts: set[str]) -> int | None:
        """From 1, of the first of these that waits. The account serves one tenant after the other:
        of each other tenant no more come before it than of its own, itself among those.
        """
        seen: Counter[str] = Counter()
        own = ""
        for attempt, tenant in self._queue.items():
            seen[tenant] += 1
            if attempt in attempts:
                own = tenant
                break
        else:
            return None
        turn = seen[own]
        waiting = Counter(self._queue.values())
        return turn + sum(min(n, turn) for other, n in waiting.items() if other != own)

    # What lanes tell

    async def claim(self, attempt_id: str, prediction_id: str) -> bool:
        """See whole.Places."""
        return await self.claims.claim(attempt_id, prediction_id)

    def unclaim(self, attempt_id: str, prediction_id: str) -> None:
        """See whole.Places."""
        self.claims.give_up(attempt_id, prediction_id)

    def queued(self, attempt_id: str, tenant: str, *, again: bool = False) -> None:
        """See whole.Places."""
        if again:
            self._queue = {attempt_id: tenant, **self._queue}
        else:
            self._queue[attempt_id] = tenant

    def served(self, attempt_id: str) -> None:
        """See whole.Places."""
        self._queue.pop(attempt_id, None)

    def opened(self, attempt_id: str, lane: HintTaker) -> None:
        """See whole.Places."""
        self._lanes[attempt_id] = lane

    def doubted(self) -> None:
        """See whole.Places."""
        self.doubt.set()

    def changed(self, tenant: str) -> None:
        """See whole.Places."""
        self.feed.publish(tenant)
