"""One generation while it lives in this process: its record, its lanes, its callers and its text.

The life alone changes its record. Everybody else reads `record` and `text`, and waits on `changed`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Final, Self

import structlog

from mediagate_server.catalog import price_json
from mediagate_server.catalog.prices import PriceSchedule
from mediagate_server.errors import Failure, StoreUnavailable
from mediagate_server.generations import attempts, settling
from mediagate_server.generations.attempts import LaneKey
from mediagate_server.generations.bell import Bell
from mediagate_server.generations.callers import Callers
from mediagate_server.generations.checkpoints import Checkpoints
from mediagate_server.generations.clock import Timer
from mediagate_server.generations.doors import Surroundings
from mediagate_server.generations.finish import TEXTS, Streamed
from mediagate_server.generations.lane import Lane
from mediagate_server.generations.reading import StreamReader
from mediagate_server.generations.saving import SavedRecord
from mediagate_server.generations.stopping import DEADLINE, Stop
from mediagate_server.generations.tally import count_end, count_first_text
from mediagate_server.generations.text_buffer import TextBuffer
from mediagate_server.generations.whole import End, Places
from mediagate_server.generations.work import NOTHING, Work
from mediagate_server.replicate.port import Prediction, PredictionStatus
from mediagate_server.store.port import StaleOwner
from mediagate_server.store.records import (
    Attempt,
    Entry,
    Generation,
    Output,
    State,
    StoredMedia,
)

_log = structlog.get_logger()
_PATIENCE_AFTER_DEADLINE: Final = 30.0
"""Seconds that callers still wait for upstream to confirm an end that we asked for."""
_STORE_PAUSE: Final = 1.0
_STREAMED: Final = frozenset({"StreamText", "StreamModel"})
"""The methods whose callers come back for the middle of a text."""


class Life:
    """One generation's life. `over` once its record is terminal.

    `work` is what it has still to send, as far as that is known. `may_send` names the attempt
    that the accepting commit made for this process to send; empty for a generation found later.
    `recovered`: an earlier process accepted it.
    """

    def __init__(
        self,
        around: Surroundings,
        places: Places,
        record: Generation,
        work: Work = NOTHING,
        *,
        may_send: str = "",
        lives: bool = True,
        recovered: bool = False,
    ) -> None:
        self._around = around
        self.saved = SavedRecord(around.store, around.clock, record, self.announce, places.changed)
        self.stop = Stop(record.stop)
        self.text = TextBuffer()
        self.text_is_broken = False
        self.checkpoints = Checkpoints(around.store, around.clock, record.id, self.text)
        self.changed = Bell()
        self.callers = Callers(
            around.clock, lambda: self.end("its last caller left"), detached=recovered
        )
        self.over = not lives
        self.draining = False
        self._overdue = False
        self._alarm: Timer
        self._kept: tuple[StoredMedia, ...] | None = None
        keys = () if self.over else dict.fromkeys(map(attempts.lane_of, record.attempts))
        self.lanes = tuple(
            Lane(self, around, places, key, work.plans(key), may_send=may_send) for key in keys
        )

    @classmethod
    def remembered(cls, around: Surroundings, places: Places, record: Generation) -> Self:
        """A generation that does not live here, from its record, for those who come late."""
        life = cls(around, places, record, lives=False)
        life.text.append((record.output and record.output.text) or "")
        return life

    @property
    def record(self) -> Generation:
        """The generation as it stands."""
        return self.saved.current

    @property
    def waiting_is_over(self) -> bool:
        """True where nobody is to be kept waiting for the end any longer.

        Its timeout is over, and either upstream does not confirm the end that was asked for, or
        it is in doubt still whether anything runs at all, or what was made is still being kept.
        """
        return self._overdue or (
            self.stop.because == DEADLINE
            and self.record.state in (State.UNCONFIRMED, State.FINALIZING)
        )

    def end(self, why: str) -> None:
        """Ask for the end. `why` is one of our own words; the first one counts.

        It is remembered, so that a later process sends the cancel if this one cannot.
        """
        if self.over or not self.stop.ask(why):
            return
        if why == DEADLINE:
            self.announce()  # Its time is in the record: nothing to be remembered.
        else:
            self.saved.tell(lambda record: replace(record, stop=why), step="cancel")

    def announce(self) -> None:
        """Wake everybody who waits for a change."""
        self.over = self.over or self.saved.durable.state.is_terminal
        self.changed.ring()
        self.changed = Bell()

    async def live(self) -> None:
        """To its end, from wherever its record stands. Raises StaleOwner."""
        left = max(self.seconds_left(), 0.0)
        self._alarm = self._around.clock.call_later(left, self._time_is_over)
        try:
            if len(self.lanes) == 1:
                await self._insist(self.lanes[0].run)
            else:
                async with asyncio.TaskGroup() as running:
                    for lane in self.lanes:
                        running.create_task(self._insist(lane.run))
            if self.record.state is State.FINALIZING:
                await self._insist(self._keep_outputs)
        finally:
            self._alarm.cancel()

    async def _insist(self, step: Callable[[], Awaitable[None]]) -> None:
        """Do it again while the store is away: what upstream has is safe there until then."""
        while True:
            try:
                return await step()
            except StaleOwner:
                raise
            except StoreUnavailable:
                _log.warning("store unavailable, generation waits", id=self.record.id)
            await self._around.clock.wait(self._around.store.lost, _STORE_PAUSE)

    async def not_sending(self) -> None:
        """Until no create is on its way whose answer would be lost."""
        while not self.over and any(lane.is_sending for lane in self.lanes):
            await self.changed.wait()

    def broke(self, failure: Failure) -> None:
        """A bug of ours ended the life. What is stored stays as it is, for recovery."""
        self.saved.current = replace(self.record, failure=failure)
        self.over = True
        self.announce()

    def let_go(self) -> None:
        """Another process goes on with it: all who wait here are to ask there."""
        self.draining = True
        self.announce()

    def never_was(self) -> None:
        """It was not accepted after all: nothing of it is stored."""
        self.over = True
        self.announce()

    # What its lanes ask and tell: see whole.Whole

    def seconds_left(self) -> float:
        """Until its timeout is over; may be negative."""
        return (self.record.deadline_at - self._around.clock.now()).total_seconds()

    def reader(self, lane: LaneKey) -> StreamReader | None:
        """What reads a lane's stream: only texts have one."""
        if self.record.shape["kind"] not in TEXTS:
            return None
        return StreamReader(
            self._around.upstream,
            self._around.clock,
            self.record.model,
            self._grow,
            last_id=self.checkpoints.event_id,
            unnumbered=self.checkpoints.unnumbered,
        )

    def progress(self, prediction: Prediction) -> None:
        """An answer that is no end. Only the change to RUNNING is worth telling."""
        if prediction.status is PredictionStatus.PROCESSING:
            self._running(prediction.started_at)

    async def settle(self, attempt: Attempt, end: End, price: PriceSchedule | None) -> None:
        """The lane's prediction is at its end: the terminal record, cost and all, in one commit."""
        settled = settling.settle(
            self.record,
            attempt,
            end.prediction,
            price or price_json.loads(attempt.price),
            now=self._around.clock.now(),
            streamed=Streamed(self.text.text, end.clean),
            stopped_because=self.stop.because,
        )
        self.text.append(settled.rest)
        self.checkpoints.close()
        self.text_is_broken = settled.broken
        await self._finish("settle", settled.record, (settled.entry,))

    async def unsent(
        self, lane: LaneKey, closed: Attempt, released: Entry, failure: Failure
    ) -> None:
        """The lane ends with an attempt that upstream never took."""
        record = attempts.with_attempt(self.record, closed)
        stopped = self.stop.asked and self.stop.because != DEADLINE
        state = State.CANCELLED if stopped else State.FAILED
        ended = replace(record, state=state, failure=failure, completed_at=self._around.clock.now())
        await self._finish(
            "unsent", ended, (released,), release_request_id=settling.never_taken(ended)
        )

    # The end

    async def _finish(
        self,
        step: str,
        ended: Generation,
        entries: tuple[Entry, ...],
        *,
        release_request_id: bool = False,
    ) -> None:
        """The settled record: the end, but for media, which are kept before anybody is told."""
        if ended.state is State.SUCCEEDED and ended.output and ended.output.media:
            made = replace(ended, state=State.FINALIZING, completed_at=None)
            await self.saved.commit(step, lambda _: made, entries)
            return
        await self.saved.commit(
            step, lambda _: ended, entries, release_request_id=release_request_id
        )
        count_end(self.record)

    async def _keep_outputs(self) -> None:
        """Paid and settled: keep what was made, then say so."""
        record = self.record
        if self._kept is None and record.output:
            self._kept = await self._around.keeper.keep(record.id, record.output.media)
        output = replace(record.output or Output(), media=self._kept or ())
        now = self._around.clock.now()
        await self.saved.commit(
            "keep",
            lambda known: replace(known, state=State.SUCCEEDED, output=output, completed_at=now),
        )
        count_end(self.record)

    # Text

    def _grow(self, text: str, event_id: str) -> None:
        if not self.text.sequence:
            count_first_text(self.record, self._around.clock.now())
        self.text.append(text)
        if self.record.method in _STREAMED:
            self.checkpoints.grown(event_id)
        if self.record.state is not State.RUNNING:
            self._running(None)
        self.announce()

    def _running(self, started_at: datetime | None) -> None:
        if self.record.state is State.RUNNING:
            return
        now = started_at or self._around.clock.now()
        self.saved.tell(lambda record: replace(record, state=State.RUNNING, started_at=now))

    # Time

    def _time_is_over(self) -> None:
        """Asks for the end when the generation's time is over."""
        self.end(DEADLINE)
        self._alarm = self._around.clock.call_later(_PATIENCE_AFTER_DEADLINE, self._give_up_waiting)

    def _give_up_waiting(self) -> None:
        """Upstream does not confirm the end; nobody is kept waiting for it any longer."""
        self._overdue = True
        self.announce()
