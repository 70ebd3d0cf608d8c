"""Run of one generation in this process: its record, its steps, its callers and its text.

The run alone changes its record. Everybody else reads `record`, waits on `changed`, and listens to
`text`, which grows without a change but for its beginning.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Final, Self

import structlog

from mediagate_server.catalog.pricing import prices
from mediagate_server.catalog.pricing.prices import PriceSchedule
from mediagate_server.errors import Failure, StaleOwner, StoreUnavailable
from mediagate_server.generations.dependencies import NO_RESERVATIONS, EngineDeps
from mediagate_server.generations.execution import quarantine
from mediagate_server.generations.execution.attached_callers import AttachedCallers
from mediagate_server.generations.execution.deadline import DeadlineTimer
from mediagate_server.generations.execution.execution_plan import EMPTY_PLAN, ExecutionPlan
from mediagate_server.generations.execution.large_outputs import count_media, is_large, stored_text
from mediagate_server.generations.execution.output_finalizer import OutputFinalizer
from mediagate_server.generations.execution.quarantine import QuarantineLevel
from mediagate_server.generations.execution.run_progress import RunProgress
from mediagate_server.generations.execution.step import Step
from mediagate_server.generations.execution.step_protocols import PredictionEnd, StepRegistry
from mediagate_server.generations.execution.versioned_record import ApplyChange, VersionedRecord
from mediagate_server.generations.metrics import record_cost, record_end, record_first_token
from mediagate_server.generations.outputs.json_output import JsonReading
from mediagate_server.generations.streaming.checkpoints import STREAMING_METHODS, Checkpoints
from mediagate_server.generations.streaming.stream_reader import StreamReader
from mediagate_server.generations.streaming.text_buffer import TextBuffer, TextChunk
from mediagate_server.generations.transitions import attempts, failures, settlement, step_results
from mediagate_server.generations.transitions.attempts import StepKey
from mediagate_server.generations.transitions.outcome import (
    TEXTS,
    StreamedText,
    answer_candidates,
    clamp_time,
)
from mediagate_server.generations.transitions.settlement import Settlement
from mediagate_server.media.media_store import document_key
from mediagate_server.runtime import crash_marks, failpoints
from mediagate_server.runtime.cancellation import DEADLINE_REASON, CancelToken
from mediagate_server.runtime.clock import Timer
from mediagate_server.runtime.notifier import Notifier
from mediagate_server.store.records import (
    Attempt,
    Generation,
    LedgerEntry,
    Purpose,
    State,
    StepResult,
)
from mediagate_server.structs import replace
from mediagate_server.upstream.port import CreateReservation, Prediction, PredictionStatus

_log = structlog.get_logger()
_STORE_PAUSE: Final = 1.0
_NEWS_PAUSE: Final = 1.0
_HAS_RUN: Final = frozenset({State.FINALIZING, State.SUCCEEDED})
_SHOWS_ACTIVITY: Final = _HAS_RUN | {State.RUNNING, State.FAILED, State.CANCELLED}


class StepAlreadyEnded(Exception):
    """A step that is to be ended has ended already."""


class GenerationRun:
    """One generation from its acceptance to its settled end. `over` once its record is terminal.

    `work` is what it has still to send, as far as that is known. `turns` are the reservations of
    the attempts that the accepting commit made for this process to send, by attempt id; none for a
    generation found later. `recovered`: an earlier process accepted it.
    """

    def __init__(
        self,
        deps: EngineDeps,
        registry: StepRegistry,
        record: Generation,
        work: ExecutionPlan = EMPTY_PLAN,
        *,
        turns: Mapping[str, CreateReservation] = NO_RESERVATIONS,
        is_active: bool = True,
        recovered: bool = False,
    ) -> None:
        self._deps = deps
        self._registry = registry
        self.stop = CancelToken(record.stop)
        self.text = TextBuffer()
        self.text_is_broken = False
        self.text_is_polled = False
        self._text_goes_on = False
        self.checkpoints = Checkpoints(deps.store, deps.clock, record.id, self.text)
        self.changed = Notifier()
        self.callers = AttachedCallers(deps.clock, self._abandon, detached=recovered)
        self._is_rejected = False
        self.is_elsewhere = False
        """Another process has it: it cannot be cancelled or awaited here."""
        self.watchers = 0
        """How many watch each change."""
        self._activity: RunProgress | None = None
        self._news: Timer | None = None
        self.draining = False
        self.has_begun = False
        self._patience = DeadlineTimer(deps.clock, self._time_is_over, self.changed.notify)
        self._recovered = recovered
        self._quarantine = (QuarantineLevel.NONE, "")
        self._breaks = (0, 0)
        self._restore(record, work, turns, is_active=is_active)

    def _restore(
        self,
        record: Generation,
        work: ExecutionPlan,
        turns: Mapping[str, CreateReservation],
        *,
        is_active: bool = True,
    ) -> None:
        """Stand where the record stands."""
        deps, registry = self._deps, self._registry
        self.saved = VersionedRecord(
            deps.store,
            deps.clock,
            record,
            self.changed.notify,
            partial(registry.notify, record.tenant),
        )
        self._finalizer = OutputFinalizer(deps, self.saved, work, recovered=self._recovered)
        self._work = work
        self._screened = Notifier()
        if step_results.is_screened(record):
            self._screened.notify()
        keys = dict.fromkeys(map(attempts.step_key, record.attempts)) if is_active else ()
        self.steps: tuple[Step, ...] = tuple(
            Step(self, deps, registry, key, work.plans(key), turns=turns) for key in keys
        )

    @classmethod
    def load_finished(cls, deps: EngineDeps, registry: StepRegistry, record: Generation) -> Self:
        """A generation that does not run here, from its record, for those who come late.

        One that is not terminal runs elsewhere, or nowhere: nobody can wait for its end here.
        """
        run = cls(deps, registry, record, is_active=False)
        run.is_elsewhere = run.draining = not run.over
        if record.output and not record.output.document:
            run.text.append(record.output.text or "")
        run.close()
        return run

    @property
    def over(self) -> bool:
        """Whether nothing of it will change any more: it is durably terminal, or was rejected."""
        return self._is_rejected or self.saved.durable.state.is_terminal

    @property
    def record(self) -> Generation:
        """The generation as it stands."""
        return self.saved.current

    def attempt_ids(self) -> tuple[str, ...]:
        """Its attempts, as of now."""
        return tuple(attempt.id for attempt in self.record.attempts)

    def with_activity(self, record: Generation) -> Generation:
        """The record, which is this generation's, with what is known of its run beside it."""
        activity = self._activity
        if activity is None or record.erased_at or record.state not in _SHOWS_ACTIVITY:
            return record
        progress = activity.progress
        if record.state is State.RUNNING:
            return replace(record, progress=progress, logs=activity.log)
        if progress is not None and record.state in _HAS_RUN:
            progress = 1.0
        return replace(record, progress=progress)

    @property
    def callers_should_return(self) -> bool:
        """True where nobody is to be kept waiting for the end any longer.

        Its timeout is over, and either upstream does not confirm the cancel, or it is in doubt
        still whether anything runs at all, or outputs are still being archived.
        """
        return self._patience.is_over or (
            self.stop.reason == DEADLINE_REASON
            and self.record.state in (State.UNCONFIRMED, State.FINALIZING)
        )

    def stored_text(self, after: int) -> AsyncIterator[TextChunk] | None:
        """A long text after a byte that is not here, from the archive; None: there is none."""
        output, here = self.record.output, self.text.sequence
        if not self.over or not (output and output.document):
            return None
        if here and (after < here or not self._text_goes_on):
            return None
        key = document_key(self.record.id, "output")
        return stored_text(self._deps.archiver, key, output.document, after)

    def cancel(self, why: str) -> None:
        """Ask for the end. `why` is one of our own words; the first one counts.

        It is remembered, so that a later process sends the cancel if this one cannot.
        """
        if self.over or not self.stop.cancel(why):
            return
        self._remember(why)

    def _abandon(self) -> None:
        self.cancel("its last caller left")

    def _time_is_over(self) -> None:
        self.cancel(DEADLINE_REASON)

    def _remember(self, why: str) -> None:
        if why == DEADLINE_REASON:
            self.changed.notify()  # Its time is in the record: nothing to be remembered.
        elif self.record.stop != why:
            self.saved.update_async(lambda record: replace(record, stop=why), failpoint="cancel")

    def notify_changed_soon(self) -> None:
        """The same in a moment, once for all who ask for it until then."""
        if self._news is None:
            self._news = self._deps.clock.call_later(_NEWS_PAUSE, self._announce_news)

    def _announce_news(self) -> None:
        self._news = None
        self.changed.notify()

    async def run(self) -> None:
        """To its end, from wherever its record stands. Raises StaleOwner."""
        self.has_begun = True
        self._patience.start(self.seconds_left())
        if len(self.steps) == 1:
            await self._retry_while_store_down(self.steps[0].run)
        else:
            await self._run_all()
        if self.record.state is State.FINALIZING:
            await self._retry_while_store_down(self._finalize)
            self._count_end()

    async def _run_all(self) -> None:
        try:
            async with asyncio.TaskGroup() as running:
                for step in self.steps:
                    running.create_task(self._retry_while_store_down(step.run))
        except* StaleOwner:
            raise StaleOwner from None

    async def _retry_while_store_down(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it again while the store is away: what upstream has is safe there until then."""
        while True:
            try:
                return await work()
            except StaleOwner:
                raise
            except StoreUnavailable:
                _log.warning("generation_paused", reason="store_unavailable", id=self.record.id)
            self.changed.notify()  # Nothing is being sent, whatever was.
            await self._deps.clock.wait(self._deps.store.lost, _STORE_PAUSE)

    async def wait_until_no_submit(self) -> None:
        """Until no create is on its way whose answer would be lost."""
        while not self.over and any(step.is_submitting for step in self.steps):
            await self.changed.wait(self.changed.count)

    def restart_from(self, record: Generation, work: ExecutionPlan) -> None:
        """From what is stored, where a bug has ended it: as another process would go on.

        Its callers and its text stay. What may have been sent is in doubt, and not sent again.
        """
        self.saved.close()
        self._recovered = True
        self._restore(record, work, NO_RESERVATIONS)
        if self.stop.is_cancelled:
            self._remember(self.stop.reason)
        self.changed.notify()

    def quarantine_output(self, level: QuarantineLevel, cause: str) -> None:
        """Its output does harm. To be called before it runs, or restarts."""
        if level > self._quarantine[0]:
            self._quarantine = (level, cause)
            quarantine.report_quarantine(self.record.id, level, cause)

    def count_error(self) -> int:
        """An error that nobody expects has ended it: how many there were since its last progress.

        That is a version of its record that became durable, or an answer of upstream's, no end,
        that did no harm: one that runs for half an hour may meet as many errors of other causes.
        """
        version = self.saved.durable.version
        breaks, broken_at = self._breaks
        self._breaks = (breaks + 1 if version == broken_at else 1, version)
        return self._breaks[0]

    def reset_error_count(self) -> None:
        """Count unexpected errors from zero again: there was progress."""
        self._breaks = (0, 0)

    @property
    def quarantine(self) -> Failure | None:
        """The failure that a quarantined generation ends with; None: it is in no quarantine."""
        level, cause = self._quarantine
        return failures.quarantine_failure(self.record.model, cause) if level else None

    @property
    def is_output_skipped(self) -> bool:
        """Whether outputs are not read any more, as reading them has ended processes."""
        return self._quarantine[0] is QuarantineLevel.UNREAD

    def drain(self) -> None:
        """Another process goes on with it: all who wait here are to ask there."""
        self.draining = True
        self.changed.notify()

    def reject(self) -> None:
        """It was not accepted after all: nothing of it is stored."""
        self._is_rejected = True
        self.changed.notify()

    def close(self) -> None:
        """Nothing goes on here any more: what refers back to it is let go of.

        It is then freed with its last caller. Otherwise the collector of cycles would have to find
        it, which took a twentieth of all processor time.
        """
        self._patience.cancel()
        self.steps = ()
        self.saved.close()
        self.callers.close()

    # Implements step_protocols.StepHost

    def seconds_left(self) -> float:
        """Until its timeout is over; may be negative."""
        return (self.record.deadline_at - self._deps.clock.now()).total_seconds()

    def reader(self, key: StepKey) -> StreamReader | None:
        """What reads a step's stream: only texts have one."""
        if (
            self.quarantine
            or key != attempts.FIRST_OUTPUT
            or self.record.shape["kind"] not in TEXTS
        ):
            return None
        return StreamReader(
            self._deps.upstream,
            self._deps.clock,
            self.record.model,
            self._on_text,
            last_id=self.checkpoints.event_id,
            unnumbered=self.checkpoints.has_unnumbered_text,
            on_limit=partial(self._set_polled, polled=True),
            on_open=partial(self._set_polled, polled=False),
        )

    def _set_polled(self, *, polled: bool) -> None:
        """Where too many streams are open callers are told that nothing may come before the end;
        and that it is streamed after all.
        """
        if self.text_is_polled is not polled:
            self.text_is_polled = polled
            self.changed.notify()

    @property
    def is_watched(self) -> bool:
        """Whether a caller watches each change."""
        return self.watchers > 0

    def progress(self, key: StepKey, prediction: Prediction) -> None:
        """An answer that is no end: that it runs, and what its log says."""
        if prediction.status is PredictionStatus.PROCESSING:
            self._mark_running(prediction.started_at)
        if not prediction.logs:
            return
        if self._activity is None:
            keys = {attempts.step_key(one) for one in self.record.attempts}
            outputs = sum(purpose is Purpose.GENERATE for purpose, _ in keys)
            self._activity = RunProgress(outputs)
        with crash_marks.crash_marked():
            has_changed = self._activity.update(key, prediction)
        if has_changed:
            self.changed.notify()

    def progress_of(self, key: StepKey) -> float | None:
        """Progress of a step's run, 0 to 1, as its log says; None where it says nothing."""
        return self._activity.progress_of(key) if self._activity else None

    @property
    def after_content_refusal(self) -> bool:
        """Whether fallback goes on after a refusal of the content."""
        return self._work.after_content_refusal

    def is_superseded(self, attempt: Attempt) -> bool:
        """Whether an open attempt is one that none of its steps is at."""
        key = attempts.step_key(attempt)
        if attempts.has_step_ended(self.record, key):
            return True
        return any(step.key == key and step.is_superseded(attempt.id) for step in self.steps)

    @property
    def next_when_unconfirmed(self) -> bool:
        """Whether the next model is sent while a create is unconfirmed."""
        return self._work.next_when_unconfirmed

    @property
    def has_streamed(self) -> bool:
        """Whether text has been streamed to callers: then there is no fallback."""
        return bool(self.text.sequence)

    def may_have_streamed(self, end: Prediction) -> bool:
        """Whether text may have been streamed, by this process or an earlier one."""
        if self.has_streamed or not self._recovered or self.record.method not in STREAMING_METHODS:
            return self.has_streamed
        made = is_large(end) or failures.output_text(end.output)
        return bool(made or failures.usage_from(end).output_tokens)

    async def wait_for_screening(self, key: StepKey) -> None:
        """Wait until the screening has passed, for a step that generates."""
        if key[0] is Purpose.GENERATE and not self._screened.happened:
            await self._screened.wait()

    async def settle(
        self, attempt: Attempt, end: PredictionEnd, price: PriceSchedule | None
    ) -> None:
        """The step's prediction is at its end: what came of it, cost and all, in one commit."""
        settled = await self._settled(attempt, end, price or prices.load_price(attempt.price))
        streams, several = attempt.purpose is Purpose.GENERATE, len(self.steps) > 1
        output = settled.record.output
        if streams and output is not None and output.pending:
            self._finalizer.keep_answer(attempts.step_key(attempt), end, is_sole=not several)
        if streams:
            self.text.append(settled.unsent_text)
            self.checkpoints.close()
            self.text_is_broken = settled.broken
        if several:
            result = step_results.to_step_result(settled.record, attempt)
            await self._end_step("settle", result, settled.closed, (settled.entry,))
        else:
            change = partial(attempts.merge_other_attempts, settled.record, settled.closed)
            await self._finish("settle", change, (settled.entry,))
        if several and self._activity is not None:
            self._activity.end(attempts.step_key(attempt))
        record_cost(self.record.modality, attempt.model, settled.closed.cost)

    async def _settled(
        self, attempt: Attempt, end: PredictionEnd, price: PriceSchedule
    ) -> Settlement:
        """The end as a record. What was made is handled here: a crash in it is marked."""
        text = self.text.text if attempt.purpose is Purpose.GENERATE else ""
        if failure := self.quarantine:
            return settlement.settle_quarantined(
                self._isolate_step(attempt),
                attempt,
                end.prediction,
                price,
                failure,
                now=self._deps.clock.now(),
                text=text,
            )
        reading = await self._read_answer(self._isolate_step(attempt), end.prediction)
        large_media = await count_media(self._isolate_step(attempt), end.prediction)
        with crash_marks.crash_marked():
            failpoints.hit("while_settling")
            return settlement.settle_prediction(
                self._isolate_step(attempt),
                attempt,
                end.prediction,
                price,
                now=self._deps.clock.now(),
                streamed=StreamedText(text, end.is_complete),
                cancel_reason=self.stop.reason or (DEADLINE_REASON if end.out_of_time else ""),
                reading=reading,
                large_media=large_media,
            )

    def _isolate_step(self, attempt: Attempt) -> Generation:
        """The record; of several steps as if the attempt's were all."""
        if len(self.steps) == 1:
            return self.record
        return step_results.isolate_step(self.record, attempt, self._work.plan_of(attempt))

    async def _read_answer(self, record: Generation, end: Prediction | None) -> JsonReading | None:
        reading: JsonReading | None = None
        for answer in answer_candidates(record, end):
            tried = await self._deps.read_json_answer(answer, record.shape["field"], record.tenant)
            if not tried.problem:
                return tried
            reading = reading or tried
        return reading

    async def fail_unsubmitted(
        self, key: StepKey, closed: Attempt, released: LedgerEntry, failure: Failure
    ) -> None:
        """The step ends with an attempt that upstream never took."""
        stopped = self.stop.is_cancelled and self.stop.reason != DEADLINE_REASON
        state = State.CANCELLED if stopped else State.FAILED
        if len(self.steps) > 1:
            result = StepResult(*key, state, failure=failure)
            await self._end_step("unsent", result, closed, (released,))
            return
        now = self._deps.clock.now()
        change = partial(
            settlement.fail_unsubmitted, closed=closed, state=state, failure=failure, now=now
        )
        await self._finish("unsent", change, (released,))

    # The end

    async def _finish(
        self, failpoint: str, change: ApplyChange, entries: tuple[LedgerEntry, ...]
    ) -> None:
        """The end of the only step.

        Of the record as it is in its turn: an earlier attempt, declared absent, may have turned up
        and been paid meanwhile.
        """
        await self.saved.commit(
            failpoint,
            lambda current: step_results.to_finalizing(change(current)),
            entries,
            release_request_id=settlement.was_never_accepted,
        )
        self._count_end()

    async def _end_step(
        self, failpoint: str, result: StepResult, closed: Attempt, entries: tuple[LedgerEntry, ...]
    ) -> None:
        """The end of one step of several; with a screening that lets nothing pass, of all."""
        now = self._deps.clock.now()
        lets_pass = result.purpose is not Purpose.SCREEN or result.failure is None

        def lines(record: Generation) -> tuple[LedgerEntry, ...]:
            if lets_pass:
                return entries
            return (*entries, *(line for _, line in step_results.close_unsubmitted(record, now)))

        def change(record: Generation) -> Generation:
            key = attempts.step_key(closed)
            if attempts.has_step_ended(record, key) or not step_results.is_open(
                attempts.current_attempt(record, key)
            ):
                raise StepAlreadyEnded
            others = (
                () if lets_pass else (one for one, _ in step_results.close_unsubmitted(record, now))
            )
            record = attempts.with_attempt(record, closed, *others)
            return step_results.to_finalizing(step_results.add_step_result(record, result, now))

        try:
            await self.saved.commit(
                failpoint, change, lines, release_request_id=settlement.was_never_accepted
            )
        except StepAlreadyEnded:
            return  # The screening had ended it before.
        if result.purpose is Purpose.SCREEN:
            self._screened.notify()
        self._count_end()

    def _count_end(self) -> None:
        if self.record.state.is_terminal:
            record_end(self.record)
            if (seconds := self.record.run_seconds) is not None:
                self._deps.run_durations.add(self.record.model, seconds)

    async def _finalize(self) -> None:
        """Paid and settled: read and archive the outputs, and end with them."""
        if failure := self.quarantine:
            await self._finalizer.discard(failure)
            return
        if read := await self._finalizer.read_pending(self.text):
            self.text_is_broken = self.text_is_broken or read.broken
            self._text_goes_on = read.has_unsent_text
        await self._finalizer.finish()

    # Text

    def _on_text(self, text: str, event_id: str) -> None:
        record, begins = self.record, not self.text.sequence
        if begins:
            record_first_token(record, self._deps.clock.now())
        self.text.append(text)
        if record.method in STREAMING_METHODS:
            self.checkpoints.on_text(event_id)
        if record.state is not State.RUNNING:
            self._mark_running(None)
        elif begins:
            self.changed.notify()  # Whoever tells the text listens to it from now on.

    def _mark_running(self, started_at: datetime | None) -> None:
        if self.record.state is State.RUNNING:
            return
        now = self._deps.clock.now()
        now = clamp_time(self.record, started_at, now) or now
        estimate = self._deps.run_durations.estimate(self.record.model, now)
        self.saved.update_async(
            lambda record: replace(
                record, state=State.RUNNING, started_at=now, run_estimate=estimate
            )
        )
