"""Who lives in this process: generations by their id, lanes by their attempts."""

import asyncio
from collections.abc import Iterator

from mediagate_server.generations.lane import Lane
from mediagate_server.generations.life import Life
from mediagate_server.generations.whole import HintTaker


class Roll:
    """Implements whole.Places. `doubt` is set whenever an attempt comes into doubt.

    `change` is set, and put in place anew, whenever a version of a generation becomes durable.
    """

    def __init__(self) -> None:
        self._lives: dict[str, Life] = {}
        self._lanes: dict[str, HintTaker] = {}
        self.doubt = asyncio.Event()
        self.change = asyncio.Event()
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
        self.changed()

    # What lanes tell

    def opened(self, attempt_id: str, lane: HintTaker) -> None:
        """See whole.Places."""
        self._lanes[attempt_id] = lane

    def doubted(self) -> None:
        """See whole.Places."""
        self.doubt.set()

    def changed(self) -> None:
        """See whole.Places."""
        self.change.set()
        self.change = asyncio.Event()
