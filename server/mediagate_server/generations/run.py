"""One generation while it lives in this process: submit, follow, settle.

The run alone changes its record. Everybody else reads `record` and `text`, and waits on `changed`.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Self

from mediagate_server import ledger
from mediagate_server.catalog import price_json
from mediagate_server.catalog.plan import Plan
from mediagate_server.errors import CircuitOpen, Failure, StoreUnavailable
from mediagate_server.generations import endings
from mediagate_server.generations.callers import Callers
from mediagate_server.generations.doors import Surroundings
from mediagate_server.generations.finish import DEADLINE, Streamed, finish, stop_failure
from mediagate_server.generations.follow import Follower
from mediagate_server.generations.submission import SHORTEST_RUN, next_attempt
from mediagate_server.generations.tally import count_end, count_first_text
from mediagate_server.generations.text_buffer import TextBuffer
from mediagate_server.replicate.port import (
    CreateRequest,
    NoAnswer,
    Prediction,
    PredictionStatus,
    Refused,
)
from mediagate_server.store.records import (
    Attempt,
    AttemptState,
    Cost,
    CostState,
    Entry,
    Generation,
    State,
)

_PATIENCE_AFTER_DEADLINE = 30.0
"""Seconds that streams still wait for upstream to confirm an end that we asked for."""

_ENDED = {
    PredictionStatus.SUCCEEDED: AttemptState.SUCCEEDED,
    PredictionStatus.FAILED: AttemptState.FAILED,
    PredictionStatus.CANCELED: AttemptState.CANCELLED,
    PredictionStatus.ABORTED: AttemptState.ABORTED,
}


class Run:
    """One generation's life. `over` once the record is terminal or in doubt.

    `plan` is None for a run found at start-up, which has been sent already.
    """

    def __init__(
        self,
        around: Surroundings,
        record: Generation,
        plan: Plan | None = None,
    ) -> None:
        self._around = around
        self.record = record
        self.text = TextBuffer()
        self.text_is_broken = False
        self.changed = asyncio.Event()
        self.callers = Callers(lambda: self.stop("its last caller left"))
        self.over = False
        self.overdue = False
        self.draining = False
        self._plan = plan
        self._stop = asyncio.Event()
        self._stopped_because = ""
        self._version = record.version
        self._sent = False
        self._saving: asyncio.Future[int] | None = None

    def stop(self, why: str) -> None:
        """Ask for the end. `why` is one of our own words; the first one counts."""
        if not self._stop.is_set():
            self._stopped_because = why
            self._stop.set()

    def announce(self) -> None:
        """Wake everybody who waits for a change."""
        self.changed.set()
        self.changed = asyncio.Event()

    @classmethod
    def remembered(cls, around: Surroundings, record: Generation) -> Self:
        """A run that is over, from its record, for those who come late."""
        run = cls(around, record)
        run.text.append((record.output and record.output.text) or "")
        run.over = True
        return run

    async def live(self) -> None:
        """To its end, from wherever its record stands. Called again after StoreUnavailable."""
        with self._deadline():
            if self.record.attempt.prediction_id:
                taken = Prediction(self.record.attempt.prediction_id, PredictionStatus.UNKNOWN)
                await self._follow_to_the_end(taken, stream=False)
            elif self._plan is None and self.record.state is State.QUEUED:
                # Its input was not kept, so it cannot be sent: the caller is to send it again.
                self.stop("the gate restarted before it was sent")
                await self._end_unsent(
                    stop_failure(self.record, self._stopped_because), release=True
                )
            elif self._plan is None or self._sent:
                await self._doubt()
            elif prediction := await self._submit(self._plan):
                await self._follow_to_the_end(prediction, stream=self._plan.streams)

    async def not_sending(self) -> None:
        """Until no create is on its way whose answer would be lost."""
        while not self.over and self.record.state is State.SUBMITTING:
            await self.changed.wait()

    def broke(self, failure: Failure) -> None:
        """A bug of ours ended the life. The record stays as it is stored, for recovery."""
        self.record = replace(self.record, failure=failure)
        self.over = True
        self.announce()

    # Submitting

    async def _submit(self, plan: Plan) -> Prediction | None:
        """Send until upstream takes it. None: it is over, or in doubt."""
        while True:
            if self.record.state is State.QUEUED and not await self._leave_queue():
                return None
            self._sent = True
            try:
                prediction = await self._around.upstream.create(
                    self._create_request(plan), model=self.record.model
                )
            except Refused as refused:
                if not await self._try_again(plan, refused):
                    return None
            except NoAnswer:
                await self._doubt()
                return None
            else:
                self._taken(prediction)
                return prediction

    async def _doubt(self) -> None:
        """Sent, and no answer: it may run and cost. No new attempt."""
        await self._change(state=State.UNCONFIRMED, attempt=AttemptState.UNCONFIRMED)
        self.over = True
        self.announce()

    async def _leave_queue(self) -> bool:
        """Wait for the account's rate, then hold the right to send, durably. False: it ended."""
        admitted = asyncio.ensure_future(self._around.upstream.admit(self.record.model))
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({admitted, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if self._stop.is_set():
                await self._end_unsent(stop_failure(self.record, self._stopped_because))
                return False
            await admitted
        except CircuitOpen as error:
            await self._end_unsent(error.failure, release=True)
            return False
        finally:
            admitted.cancel()
            stopped.cancel()
            await asyncio.gather(admitted, stopped, return_exceptions=True)
        await self._change(state=State.SUBMITTING, attempt=AttemptState.SUBMITTING)
        return True

    def _create_request(self, plan: Plan) -> CreateRequest:
        return CreateRequest(
            plan.target, plan.input, cancel_after=max(self._seconds_left(), SHORTEST_RUN)
        )

    def _seconds_left(self) -> float:
        return (self.record.deadline_at - self._around.clock.now()).total_seconds()

    def _taken(self, prediction: Prediction) -> None:
        """Upstream took it. The commit goes on its way; nothing waits for it but the next one."""
        state = (
            State.RUNNING if prediction.status is PredictionStatus.PROCESSING else State.STARTING
        )
        attempt = replace(
            self.record.attempt, state=AttemptState.ACCEPTED, prediction_id=prediction.id
        )
        self.record = replace(self.record, state=state, attempts=self._with(attempt))
        if prediction.status.is_terminal:
            return  # The settling commit writes all of it at once.
        self._save_in_passing()
        self.announce()

    async def _try_again(self, plan: Plan, refused: Refused) -> bool:
        """Close the refused attempt and open the next in one commit. False: that was the last."""
        old = self.record.attempt
        delay = self._around.policy.delay_before_retry(refused, old.ordinal)
        closed = self._refused(old, refused.refusal.value)
        too_late = delay is not None and delay >= self._seconds_left()
        if delay is None or too_late or await self._around.clock.wait(self._stop, delay):
            failure = (
                stop_failure(self.record, self._stopped_because)
                if self._stop.is_set()
                else endings.refused_failure(refused, self.record.model)
            )
            await self._end_unsent(failure, closed=closed, release=not self._stop.is_set())
            return False
        self._sent = False
        opened = next_attempt(old, now=self._around.clock.now(), queued=True)
        entries = (ledger.release(old.id, plan.price), ledger.reserve(plan, opened.id))
        self.record = replace(
            self.record, state=State.QUEUED, attempts=(*self._with(closed), opened)
        )
        await self._save(entries)
        return True

    async def _end_unsent(
        self, failure: Failure, *, closed: Attempt | None = None, release: bool = False
    ) -> None:
        """The end of a generation of which upstream took nothing: it costs nothing."""
        now = self._around.clock.now()
        attempt = closed or self._refused(self.record.attempt, "not sent")
        entry = ledger.release(attempt.id, price_json.loads(attempt.price))
        stopped = self._stop.is_set() and self._stopped_because != DEADLINE
        self.record = replace(
            self.record,
            state=State.CANCELLED if stopped else State.FAILED,
            attempts=self._with(attempt),
            cost=attempt.cost or self.record.cost,
            failure=failure,
            completed_at=now,
        )
        await self._save((entry,), release_request_id=release)
        count_end(self.record)

    def _refused(self, attempt: Attempt, reason: str) -> Attempt:
        """The attempt, closed: upstream never took it, so it cost nothing."""
        return replace(
            attempt,
            state=AttemptState.REFUSED,
            reason=reason,
            cost=Cost(0, CostState.SETTLED, self.record.cost.price_date),
            completed_at=self._around.clock.now(),
        )

    # Following

    async def _follow_to_the_end(self, prediction: Prediction, *, stream: bool) -> None:
        follower = Follower(
            upstream=self._around.upstream,
            clock=self._around.clock,
            model=self.record.model,
            stop=self._stop,
            on_text=self._grow,
            on_progress=self._progress,
            patient=self.record.modality == "video",
        )
        end = await follower.to_the_end(prediction, stream=stream)
        await self._settle(end, clean=follower.stream_was_clean)

    def _grow(self, text: str) -> None:
        if not self.text.sequence:
            count_first_text(self.record, self._around.clock.now())
        self.text.append(text)
        if self.record.state is not State.RUNNING:
            self._running(None)
        self.announce()

    def _progress(self, prediction: Prediction) -> None:
        """A poll's answer. Only the change to RUNNING is worth telling."""
        if prediction.status is PredictionStatus.PROCESSING:
            self._running(prediction.started_at)

    def _running(self, started_at: datetime | None) -> None:
        if self.record.state is State.RUNNING:
            return
        self.record = replace(
            self.record, state=State.RUNNING, started_at=started_at or self._around.clock.now()
        )
        self._save_in_passing()
        self.announce()

    # Settling

    async def _settle(self, end: Prediction | None, *, clean: bool) -> None:
        """The terminal record, cost and all, in one commit. `end` None: upstream lost it."""
        now = self._around.clock.now()
        finished = finish(
            self.record,
            end,
            now=now,
            streamed=Streamed(self.text.text, clean),
            stopped_because=self._stopped_because,
        )
        record = finished.record
        self.text.append(finished.rest)
        self.text_is_broken = finished.broken
        attempt = record.attempt
        price = price_json.loads(attempt.price)
        if end is None:
            entry = ledger.lost(attempt.id, price)
        else:
            entry = ledger.settle(
                attempt.id, price, end.status, end.metrics, outputs=_delivered(record)
            )
        cost = Cost(entry.amount_nanos, entry.state, entry.price_as_of)
        attempt = replace(
            attempt,
            state=AttemptState.FAILED if end is None else _ENDED[end.status],
            reason=record.failure.reason.value if record.failure else "",
            cost=cost,
            completed_at=now,
        )
        attempts = self._with(attempt)
        # Attempts before it were refused, so this one's cost is all there is.
        self.record = replace(record, attempts=attempts, cost=cost)
        await self._save((entry,))
        count_end(self.record)

    # The record

    async def _change(self, *, state: State, attempt: AttemptState) -> None:
        changed = replace(self.record.attempt, state=attempt)
        self.record = replace(self.record, state=state, attempts=self._with(changed))
        await self._save()

    def _with(self, attempt: Attempt) -> tuple[Attempt, ...]:
        return (*self.record.attempts[:-1], attempt)

    async def _save(
        self, entries: tuple[Entry, ...] = (), *, release_request_id: bool = False
    ) -> None:
        """Write the record durably, then tell everybody. StoreUnavailable changes nothing."""
        if self._saving is not None:
            await asyncio.wait({self._saving})
            self._look_back()
        self._version += 1
        self.record = replace(self.record, version=self._version)
        try:
            await self._around.store.save(
                self.record, entries, release_request_id=release_request_id
            )
        except StoreUnavailable:
            self._version -= 1
            raise
        self.over = self.over or self.record.state.is_terminal
        self.announce()

    def _save_in_passing(self) -> None:
        """Write the record without waiting: the store keeps the order of saves."""
        self._look_back()
        if self._saving is not None:
            return  # The next save writes this change too.
        self._version += 1
        self.record = replace(self.record, version=self._version)
        self._saving = self._around.store.save(self.record)

    def _look_back(self) -> None:
        """What became of the last save in passing; the next writes all that a failed one held."""
        if self._saving is None or not self._saving.done():
            return
        if self._saving.exception() is not None:
            self._version -= 1
        self._saving = None

    # Ends that we ask for

    @contextmanager
    def _deadline(self) -> Iterator[None]:
        """Asks for the end when the generation's time is over."""
        loop = asyncio.get_running_loop()
        left = max(self._seconds_left(), 0.0)
        alarm = loop.call_later(left, self.stop, DEADLINE)
        overdue = loop.call_later(left + _PATIENCE_AFTER_DEADLINE, self._give_up_waiting)
        try:
            yield
        finally:
            alarm.cancel()
            overdue.cancel()

    def _give_up_waiting(self) -> None:
        """Upstream does not confirm the end; nobody is kept waiting for it any longer."""
        self.overdue = True
        self.announce()


def _delivered(record: Generation) -> int:
    """How many outputs came, for prices by the output."""
    return len(record.output.media) if record.output else 0
