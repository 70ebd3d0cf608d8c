"""Who lives in this process: generations by their id, lanes by their attempts."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta

from mediagate_server.generations.change_feed import ChangeFeed
from mediagate_server.generations.claims import Claims
from mediagate_server.generations.clock import Clock
from mediagate_server.generations.lane import Lane
from mediagate_server.generations.life import Life
from mediagate_server.generations.queue_positions import QueuePositions
from mediagate_server.generations.whole import HintTaker
from mediagate_server.replacing import replace
from mediagate_server.store.records import Generation, Place, State


class Roll:
    """Implements whole.Places. `doubt` is set whenever an attempt comes into doubt.

    `feed` is told whenever a version of a generation becomes durable. `seconds_held` tells how
    long no create may be sent now, because upstream has asked for it, `reduced_rate` to how many a
    second upstream has reduced the account, if it has.
    """

    def __init__(
        self,
        creates_per_second: float,
        clock: Clock,
        claims: Claims,
        feed: ChangeFeed,
        seconds_held: Callable[[], float] = lambda: 0.0,
        reduced_rate: Callable[[], float | None] = lambda: None,
    ) -> None:
        self.claims = claims
        self.feed = feed
        self._creates_per_second = creates_per_second
        self._clock = clock
        self._seconds_held = seconds_held
        self._reduced_rate = reduced_rate
        self.queue = QueuePositions(clock)
        """Attempts that wait for the account's rate."""
        self._lives: dict[str, Life] = {}
        self._lanes: dict[str, HintTaker] = {}
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
        position = self.queue.position(attempt.id for attempt in record.attempts)
        if position is None:
            return record
        rate, before = self._creates_per_second, position
        if reduced := self._reduced_rate():
            rate, before = reduced, position - 1  # The first goes as soon as the wait is over.
        seconds = self._seconds_held() + before / rate
        at = self._clock.now() + timedelta(seconds=seconds)
        return replace(record, place=Place(position, at, seconds))

    # What lanes tell

    async def claim(self, attempt_id: str, prediction_id: str) -> bool:
        """See whole.Places."""
        return await self.claims.claim(attempt_id, prediction_id)

    def unclaim(self, attempt_id: str, prediction_id: str) -> None:
        """See whole.Places."""
        self.claims.give_up(attempt_id, prediction_id)

    def queued(self, attempt_id: str, tenant: str, *, again: bool = False) -> None:
        """See whole.Places."""
        self.queue.add(attempt_id, tenant, first=again)

    def served(self, attempt_id: str) -> None:
        """See whole.Places."""
        self.queue.remove(attempt_id)

    def opened(self, attempt_id: str, lane: HintTaker) -> None:
        """See whole.Places."""
        self._lanes[attempt_id] = lane

    def doubted(self) -> None:
        """See whole.Places."""
        self.doubt.set()

    def changed(self, tenant: str) -> None:
        """See whole.Places."""
        self.feed.publish(tenant)
