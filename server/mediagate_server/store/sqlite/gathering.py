"""When a commit begins: as soon as the event loop has nothing else to do.

Each commit has a price of its own: pages written whole, an fsync, threads that change places. While
the loop is at work, what it does brings further jobs, and nobody could be told of a commit's end
anyway; they are gathered until it is idle, and share one commit (docs/decisions/0017). A job that
comes to an idle loop is committed at once. There is no timer: a loop that is never idle hands over
what it has once it is enough, or has been waiting long.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

ENOUGH: Final = 64
"""Jobs that wait for no others: more of them in one commit would hardly be cheaper."""
LONGEST: Final = 0.03
"""Seconds after which a loop that is never idle commits."""
MOST_IN_ONE_COMMIT: Final = 512
_IDLE: Final = 0.000_02
"""Seconds: a turn of the loop that is shorter than this had nothing to do."""
_MUCH: Final = 4
"""So many times the shortest turn there was is one that had something to do, if not before."""

Job = TypeVar("Job")


class Gathering(Generic[Job]):
    """Jobs, until a commit takes them. For the event loop's thread alone.

    `begin` is handed those of one commit, and no others before `ended` is called. `clock` gives
    seconds.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        begin: Callable[[list[Job]], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._loop = loop
        self._begin = begin
        self._clock = clock
        self._waiting: list[Job] = []
        self._is_idle = True
        self._since = self._looked = 0.0
        self._shortest = float("inf")

    def add(self, job: Job) -> None:
        """One more, for the next commit."""
        self._waiting.append(job)
        if self._is_idle:
            self._gather()

    def ended(self) -> None:
        """The commit that was begun has ended."""
        self._is_idle = True
        if self._waiting:
            self._gather()

    def _gather(self) -> None:
        self._is_idle = False
        self._since = self._looked = self._clock()
        self._loop.call_soon(self._look)

    def _look(self) -> None:
        """Once in each turn of the loop: begin, unless the loop is at work."""
        now = self._clock()
        turn = now - self._looked
        self._shortest = min(self._shortest, turn)
        is_at_work = turn > max(_IDLE, _MUCH * self._shortest)
        if is_at_work and len(self._waiting) < ENOUGH and now - self._since < LONGEST:
            self._looked = now
            self._loop.call_soon(self._look)
            return
        batch = self._waiting[:MOST_IN_ONE_COMMIT]
        del self._waiting[:MOST_IN_ONE_COMMIT]
        self._begin(batch)
