"""The tasks of this process: lives, and all else that goes on until it ends."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import structlog

from mediagate_server import caller, crash_marks, telemetry
from mediagate_server.caller import Caller
from mediagate_server.crash_marks import Handling
from mediagate_server.generations import quarantine, work
from mediagate_server.generations.doors import Surroundings
from mediagate_server.generations.life import Life
from mediagate_server.generations.persisting import until_done
from mediagate_server.generations.roll import Roll
from mediagate_server.generations.work import Work
from mediagate_server.store.port import StaleOwner
from mediagate_server.store.records import Generation, Resumption
from mediagate_server.system_errors import is_system_error

_READ_AT_ONCE: Final = 100
"""Unfinished generations of which what is kept is read together."""
_BEGUN_AT_ONCE: Final = 50
_BEGIN_PAUSE: Final = 0.5
"""Recovered generations that go on at once, and the seconds until as many more do."""

_log = structlog.get_logger()


class Living:
    """An async context manager; on leaving it every task is let go where it stands."""

    def __init__(self, around: Surroundings, roll: Roll) -> None:
        self._around = around
        self._roll = roll
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(None, None, None)

    def begin(self, doing: Coroutine[Any, Any, None]) -> None:
        """Do it in a task of its own. What it raises would end everything: it is not to."""
        task = self._group.create_task(doing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def keep(self, what: str, act: Callable[[], Awaitable[None]]) -> None:
        """The same for what is begun anew where a bug ends it. `what` is of a closed set."""
        self.begin(until_done(what, act, self._around.clock, self._around.store.lost))

    async def recover(self) -> None:
        """Take up what an earlier process left, from wherever each generation stands."""
        store, marks = self._around.store, self._around.crash_marks
        unfinished = await store.unfinished()
        if marks:
            marks.keep_only([record.id for record in unfinished])
        lives: list[Life] = []
        for first in range(0, len(unfinished), _READ_AT_ONCE):
            page = unfinished[first : first + _READ_AT_ONCE]
            kept = await store.resumptions([record.id for record in page])
            lives += (self._recovered(record, kept[record.id]) for record in page)
        # All are known before the first caller may ask for one. They do not all go on at once: each
        # asks upstream how it stands, and new calls would wait behind thousands of such questions.
        for life in lives[:_BEGUN_AT_ONCE]:
            self.begin(self.live(life))
        if rest := lives[_BEGUN_AT_ONCE:]:
            self.begin(self._begin_later(rest))

    def _recovered(self, record: Generation, kept: Resumption) -> Life:
        work_left = _work_of(record.id, kept.pending)
        life = Life(self._around, self._roll, record, work_left, recovered=True)
        marks = self._around.crash_marks
        if marks and (level := quarantine.after_blames(marks.blames(record.id))):
            life.put_into_quarantine(level, quarantine.CRASHES)
        life.checkpoints.restore(kept.checkpoints)
        self._roll.add(life)
        return life

    async def _begin_later(self, lives: Sequence[Life]) -> None:
        """The oldest first."""
        for first in range(0, len(lives), _BEGUN_AT_ONCE):
            await self._around.clock.sleep(_BEGIN_PAUSE)
            for life in lives[first : first + _BEGUN_AT_ONCE]:
                self.begin(self.live(life))

    async def live(self, life: Life) -> None:
        """A life, told to the metrics. After a bug it goes on from what is stored."""
        caller.bind(Caller(life.record.tenant))
        gauge = telemetry.generations_in_flight.labels(life.record.modality)
        gauge.inc()
        marks = self._around.crash_marks
        handling = marks.handling(life.record.id) if marks else Handling(None, life.record.id)
        crash_marks.CURRENT.set(handling)
        lost, go_on = self._around.store.lost, partial(self._go_on, life, handling)
        try:
            await until_done("generation", go_on, self._around.clock, lost, life.record.id)
            if not life.over:
                life.let_go()
            elif marks:
                marks.forget(life.record.id)
        finally:
            gauge.dec()
            self._roll.remove(life)
            life.part_with_all()

    async def _go_on(self, life: Life, handling: Handling) -> None:
        """As it was made, at first: it may hold the right to send, which is not stored.

        Later as another process would: what may have been sent is in doubt, never sent again.
        """
        try:
            if life.has_begun and not await self._begin_anew(life):
                return
            handling.passes_over_output = life.quarantine is not None
            await life.live()
        except StaleOwner:
            raise
        except Exception as error:
            if is_system_error(error):
                raise  # As after any other: the same again later, whose fault it is not.
            life.put_into_quarantine(quarantine.after_breaks(life.count_break()), quarantine.ERRORS)
            raise

    async def _begin_anew(self, life: Life) -> bool:
        """From what is stored. False: nothing is."""
        known = life.record
        record = await self._around.store.get(known.tenant, known.id)
        if record is None:
            life.never_was()
            return False
        life.begin_anew(record, await self._waiting(known.id))
        return True

    async def _waiting(self, generation_id: str) -> Work:
        """What an earlier process had still to send, as far as that can be read."""
        return _work_of(generation_id, await self._around.store.pending(generation_id))


def _work_of(generation_id: str, pending: bytes | None) -> Work:
    try:
        return work.loads(pending) if pending else work.NOTHING
    except ValueError as error:
        _log.error("what was to be sent cannot be read", id=generation_id, error=str(error))
        return work.NOTHING
