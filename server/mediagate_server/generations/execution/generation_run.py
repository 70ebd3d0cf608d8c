"""Run of one generation in this process: its record, its steps, its callers and its text.

The run alone changes its record. Everybody else reads `record`, waits on `changed`, and listens to
`text`, which grows without a change but for its beginning.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final, Self

import structlog

from mediagate_server.catalog.pricing.prices import PriceSchedule
from mediagate_server.errors import StaleOwner, StoreUnavailable
from mediagate_server.generations.dependencies import NO_RESERVATIONS, EngineDeps
from mediagate_server.generations.execution.attached_callers import AttachedCallers
from mediagate_server.generations.execution.deadline import DeadlineTimer
from mediagate_server.generations.execution.execution_plan import EMPTY_PLAN, ExecutionPlan
from mediagate_server.generations.execution.large_output_reader import count_media, stored_text
from mediagate_server.generations.execution.log_progress import RunProgress
from mediagate_server.generations.execution.output_finalizer import OutputFinalizer
from mediagate_server.generations.execution.quarantine import Quarantine
from mediagate_server.generations.execution.run_context import ProcessState, RunContext
from mediagate_server.generations.execution.step import Step
from mediagate_server.generations.execution.step_result import (
    NeverAccepted,
    PredictionEnd,
    StepResult,
)
from mediagate_server.generations.execution.versioned_record import VersionedRecord
from mediagate_server.generations.metrics import record_cost, record_end, record_first_token
from mediagate_server.generations.outputs.json_output import JsonReading
from mediagate_server.generations.streaming.checkpoints import STREAMING_METHODS
from mediagate_server.generations.streaming.generated_text import GeneratedText
from mediagate_server.generations.streaming.text_buffer import TextChunk
from mediagate_server.generations.transitions import attempts, settlement, step_results
from mediagate_server.generations.transitions.attempts import StepKey
from mediagate_server.generations.transitions.outcome import (
    StreamedText,
    answer_candidates,
    clamp_time,
)
from mediagate_server.generations.transitions.step_results import SettledStep, StepAlreadyEnded
from mediagate_server.generations.transitions.step_spec import StepSpec
from mediagate_server.media.media_store import document_key
from mediagate_server.runtime import crash_marks, failpoints
from mediagate_server.runtime.cancellation import DEADLINE_REASON, CancelToken
from mediagate_server.runtime.clock import Timer
from mediagate_server.runtime.notifier import Notifier
from mediagate_server.store.records import Attempt, Generation, Purpose, State
from mediagate_server.structs import replace
from mediagate_server.upstream.port import CreateReservation, Prediction, PredictionStatus

_log = structlog.get_logger()
_STORE_PAUSE: Final = 1.0
_NEWS_PAUSE: Final = 1.0
_HAS_RUN: Final = frozenset({State.FINALIZING, State.SUCCEEDED})
_SHOWS_ACTIVITY: Final = _HAS_RUN | {State.RUNNING, State.FAILED, State.CANCELLED}


class GenerationRun:
    """One generation from its acceptance to its settled end. `is_over` once its record is terminal.

    `plan` is what it has still to send, as far as that is known. `turns` are the reservations of
    the attempts that the accepting commit made for this process to send, by attempt id; none for a
    generation found later. `recovered`: an earlier process accepted it.
    """

    def __init__(
        self,
        deps: EngineDeps,
        process: ProcessState,
        record: Generation,
        plan: ExecutionPlan = EMPTY_PLAN,
        *,
        turns: Mapping[str, CreateReservation] = NO_RESERVATIONS,
        is_active: bool = True,
        recovered: bool = False,
    ) -> None:
        self._deps = deps
        self.changed = Notifier()
        self.text = GeneratedText(deps.store, deps.clock, record.id, self.changed)
        self.callers = AttachedCallers(deps.clock, self._abandon, detached=recovered)
        self.quarantine = Quarantine(record.id)
        """To be raised before it runs, or restarts."""
        self._is_rejected = False
        self.is_elsewhere = False
        """Another process has it: it cannot be cancelled or awaited here."""
        self.has_begun = False
        self._news: Timer | None = None
        self._breaks = (0, 0)
        self._deadline = DeadlineTimer(deps.clock, self._on_deadline, self.changed.notify)
        self._context = RunContext(
            deps,
            process,
            self._versioned(process, record),
            plan,
            CancelToken(record.stop),
            self.callers,
            self.text,
            RunProgress(),
            Notifier(),
            self.quarantine,
            recovered=recovered,
        )
        self._restore(record, turns, is_active=is_active)

    def _versioned(self, process: ProcessState, record: Generation) -> VersionedRecord:
        publish = partial(process.publish_change, record.tenant)
        return VersionedRecord(
            self._deps.store, self._deps.clock, record, self.changed.notify, publish
        )

    def _restore(
        self, record: Generation, turns: Mapping[str, CreateReservation], *, is_active: bool
    ) -> None:
        """Stand where the record stands."""
        context = self._context
        context.screened = Notifier()
        if step_results.is_screened(record):
            context.screened.notify()
        self._finalizer = OutputFinalizer(context)
        keys = dict.fromkeys(map(attempts.step_key, record.attempts)) if is_active else ()
        context.progress.outputs = sum(purpose is Purpose.GENERATE for purpose, _ in keys) or 1
        self.steps: tuple[Step, ...] = tuple(
            Step(
                context,
                key,
                context.plan.plans(key),
                self._on_text,
                self._on_progress,
                turns=turns,
            )
            for key in keys
        )

    @classmethod
    def load_finished(cls, deps: EngineDeps, process: ProcessState, record: Generation) -> Self:
        """A generation that does not run here, from its record, for those who come late.

        One that is not terminal runs elsewhere, or nowhere: nobody can wait for its end here.
        """
        run = cls(deps, process, record, is_active=False)
        run.is_elsewhere = run._context.draining = not run.is_over
        if record.output and not record.output.document:
            run.text.buffer.append(record.output.text or "")
        run.close()
        return run

    @property
    def is_over(self) -> bool:
        """Whether nothing of it will change any more: it is durably terminal, or was rejected."""
        return self._is_rejected or self.saved.durable.state.is_terminal

    @property
    def is_draining(self) -> bool:
        """Whether all who wait here are to ask the next process."""
        return self._context.draining

    @property
    def saved(self) -> VersionedRecord:
        """Its record and its way to the store."""
        return self._context.record

    @property
    def record(self) -> Generation:
        """The generation as it stands."""
        return self._context.record.current

    def attempt_ids(self) -> tuple[str, ...]:
        """Its attempts, as of now."""
        return tuple(attempt.id for attempt in self.record.attempts)

    def step_of(self, attempt_id: str) -> Step | None:
        """The step that an attempt belongs to."""
        keys = (attempts.step_key(each) for each in self.record.attempts if each.id == attempt_id)
        key = next(keys, None)
        return next((step for step in self.steps if step.key == key), None)

    def is_superseded(self, attempt: Attempt) -> bool:
        """Whether an open attempt is one that none of its steps is at."""
        key = attempts.step_key(attempt)
        if attempts.has_step_ended(self.record, key):
            return True
        return any(step.key == key and step.is_superseded(attempt.id) for step in self.steps)

    def with_activity(self, record: Generation) -> Generation:
        """The record, which is this generation's, with what is known of its run beside it."""
        running = self._context.progress
        if not running or record.erased_at or record.state not in _SHOWS_ACTIVITY:
            return record
        progress = running.progress
        if record.state is State.RUNNING:
            return replace(record, progress=progress, logs=running.log)
        if progress is not None and record.state in _HAS_RUN:
            progress = 1.0
        return replace(record, progress=progress)

    @property
    def callers_should_return(self) -> bool:
        """True where nobody is to be kept waiting for the end any longer.

        Its timeout is over, and either upstream does not confirm the cancel, or it is in doubt
        still whether anything runs at all, or outputs are still being archived.
        """
        return self._deadline.is_over or (
            self._context.cancel.reason == DEADLINE_REASON
            and self.record.state in (State.UNCONFIRMED, State.FINALIZING)
        )

    def stored_text(self, after: int) -> AsyncIterator[TextChunk] | None:
        """A long text after a byte that is not here, from the archive; None: there is none."""
        output, here = self.record.output, self.text.sequence
        if not self.is_over or not (output and output.document):
            return None
        if here and (after < here or not self.text.has_unsent_text):
            return None
        key = document_key(self.record.id, "output")
        return stored_text(self._deps.archiver, key, output.document, after)

    def watch(self) -> None:
        """One more is told of each change."""
        self._context.watchers += 1

    def unwatch(self) -> None:
        """One fewer is."""
        self._context.watchers -= 1

    def notify_changed_soon(self) -> None:
        """Notify of a change in a moment, once for all who ask for it until then."""
        if self._news is None:
            self._news = self._deps.clock.call_later(_NEWS_PAUSE, self._notify_late)

    def _notify_late(self) -> None:
        self._news = None
        self.changed.notify()

    def cancel(self, reason: str) -> None:
        """Ask for the end. `reason` is one of our own words; the first one counts.

        It is stored, so that a later process sends the cancel if this one cannot.
        """
        if not self.is_over and self._context.cancel.cancel(reason):
            self._store_reason(reason)

    def _abandon(self) -> None:
        self.cancel("its last caller left")

    def _on_deadline(self) -> None:
        self.cancel(DEADLINE_REASON)

    def _store_reason(self, reason: str) -> None:
        if reason == DEADLINE_REASON:
            self.changed.notify()  # Its time is in the record: nothing to be stored.
        elif self.record.stop != reason:
            self.saved.update_async(lambda record: replace(record, stop=reason), failpoint="cancel")

    async def run(self) -> None:
        """To its end, from wherever its record stands. Raises StaleOwner."""
        self.has_begun = True
        self._deadline.start(self._context.seconds_left)
        await self._run_steps()
        while self.record.state is State.FINALIZING:
            try:
                await self._finalizer.run()
                self._count_end()
            except StoreUnavailable as error:
                await self._wait_for_store(error)

    def _run_steps(self) -> Awaitable[None]:
        """All at once. A single one is what is awaited: a task or a frame more for each idle
        stream would be up to 1 KiB.
        """
        steps = [self._run_step(step) for step in self.steps]
        return steps[0] if len(steps) == 1 else _run_together(steps)

    async def _run_step(self, step: Step) -> None:
        """Apply what it returns; that and all else again while the store is away."""
        while True:
            try:
                while (result := await step.run()) is not None:
                    await self._apply(result)
                return
            except StoreUnavailable as error:
                await self._wait_for_store(error)

    async def _wait_for_store(self, error: StoreUnavailable) -> None:
        """What upstream has is safe there until then. Raises StaleOwner as it is."""
        if isinstance(error, StaleOwner):
            raise error
        _log.warning("generation_paused", reason="store_unavailable", id=self.record.id)
        self.changed.notify()  # Nothing is being sent, whatever was.
        await self._deps.clock.wait(self._deps.store.lost, _STORE_PAUSE)

    async def wait_until_no_submit(self) -> None:
        """Until no create is on its way whose answer would be lost."""
        while not self.is_over and any(step.is_submitting for step in self.steps):
            await self.changed.wait(self.changed.count)

    def restart_from(self, record: Generation, plan: ExecutionPlan) -> None:
        """From what is stored, where a bug has ended it: as another process would go on.

        Its callers and its text stay. What may have been sent is in doubt, and not sent again.
        """
        context = self._context
        context.record.close()
        context.recovered = True
        context.record = self._versioned(context.process, record)
        context.plan = plan
        self._restore(record, NO_RESERVATIONS, is_active=True)
        if context.cancel.is_cancelled:
            self._store_reason(context.cancel.reason)
        self.changed.notify()

    def count_error(self) -> int:
        """An error that nobody expects has ended it: how many there were since its last progress.

        That is a version of its record that became durable, or an answer of upstream's, no end,
        that did no harm: one that runs for half an hour may meet as many errors of other causes.
        """
        version = self.saved.durable.version
        breaks, broken_at = self._breaks
        self._breaks = (breaks + 1 if version == broken_at else 1, version)
        return self._breaks[0]

    def drain(self) -> None:
        """Another process goes on with it: all who wait here are to ask there."""
        self._context.draining = True
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
        self._deadline.cancel()
        self.steps = ()
        self.saved.close()
        self.callers.close()

    # The end of a step

    async def _apply(self, result: StepResult) -> None:
        """Settle the step, and with its last step the generation: in one commit."""
        if isinstance(result, NeverAccepted):
            await self._commit_end("unsent", self._as_settled(result))
            return
        settled = await self._settle(result.attempt, result.end, result.price)
        self._take_text(result.end, settled)
        if await self._commit_end("settle", settled):
            if not self._has_ended:
                self._context.progress.end(settled.key)  # The others may still go on.
            record_cost(self.record.modality, settled.closed.model, settled.closed.cost)

    def _as_settled(self, result: NeverAccepted) -> SettledStep:
        cancel, now = self._context.cancel, self._deps.clock.now()
        cancelled = cancel.is_cancelled and cancel.reason != DEADLINE_REASON
        return step_results.never_accepted(
            result.closed, result.released, result.failure, cancelled=cancelled, now=now
        )

    async def _settle(
        self, attempt: Attempt, end: PredictionEnd, price: PriceSchedule
    ) -> SettledStep:
        """The step's end. Its output is handled here: a crash in it is marked."""
        text = self.text.buffer.text if attempt.purpose is Purpose.GENERATE else ""
        spec = self._context.step_spec(attempt)
        if failure := self._context.quarantine_failure:
            return settlement.settle_quarantined(
                spec, end.prediction, price, failure, now=self._deps.clock.now(), text=text
            )
        reading = await self._read_answer(spec, end.prediction)
        large_media = await count_media(spec, end.prediction)
        with crash_marks.crash_marked():
            failpoints.hit("while_settling")
            return settlement.settle_prediction(
                spec,
                end.prediction,
                price,
                now=self._deps.clock.now(),
                streamed=StreamedText(text, end.is_complete),
                cancel_reason=self._context.cancel.reason
                or (DEADLINE_REASON if end.out_of_time else ""),
                reading=reading,
                large_media=large_media,
            )

    async def _read_answer(self, spec: StepSpec, end: Prediction | None) -> JsonReading | None:
        """The answer that must be JSON: the first that is, else why the first is not."""
        reading: JsonReading | None = None
        for answer in answer_candidates(spec, end):
            tried = await self._deps.read_json_answer(answer, spec.shape["field"], spec.tenant)
            if not tried.problem:
                return tried
            reading = reading or tried
        return reading

    def _take_text(self, end: PredictionEnd, settled: SettledStep) -> None:
        """What callers still get, before the end is durable: it was paid for."""
        if settled.outcome.purpose is not Purpose.GENERATE:
            return
        output = settled.outcome.output
        if output is not None and output.pending:
            self._finalizer.keep_answer(settled.key, end, is_sole=len(self.steps) == 1)
        self.text.end(settled.unsent_text, broken=settled.is_broken)

    async def _commit_end(self, failpoint: str, settled: SettledStep) -> bool:
        """The end of a step, and of the generation where it is the last. False: it had ended.

        Of the record as it is in its turn: an earlier attempt, declared absent, may have turned up
        and been paid meanwhile.
        """
        try:
            await self.saved.commit(
                failpoint,
                lambda record: step_results.add_step_result(record, settled),
                lambda record: step_results.settlement_entries(record, settled),
                release_request_id=attempts.was_never_accepted,
            )
        except StepAlreadyEnded:
            return False  # The screening had ended it before.
        if settled.outcome.purpose is Purpose.SCREEN:
            self._context.screened.notify()
        self._count_end()
        return True

    @property
    def _has_ended(self) -> bool:
        return self.record.state.is_terminal or self.record.state is State.FINALIZING

    def _count_end(self) -> None:
        if self.record.state.is_terminal:
            record_end(self.record)
            if (seconds := self.record.run_seconds) is not None:
                self._deps.run_durations.add(self.record.model, seconds)

    # What its steps tell while they run

    def _on_text(self, text: str, event_id: str) -> None:
        """A piece of the output, up to upstream's event of this id: for each socket read."""
        record, buffer = self._context.record.current, self.text.buffer
        begins = not buffer.sequence
        if begins:
            record_first_token(record, self._deps.clock.now())
        buffer.append(text)
        if record.method in STREAMING_METHODS:
            self.text.checkpoints.on_text(event_id)
        if record.state is not State.RUNNING:
            self._mark_running(None)
        elif begins:
            self.changed.notify()  # Whoever publishes the text listens to it from now on.

    def _on_progress(self, key: StepKey, prediction: Prediction) -> None:
        """An answer that is no end, and did no harm: that it runs, and what its log says."""
        self._breaks = (0, 0)
        if key[0] is not Purpose.GENERATE:
            return
        if prediction.status is PredictionStatus.PROCESSING:
            self._mark_running(prediction.started_at)
        if not prediction.logs:
            return
        with crash_marks.crash_marked():
            has_changed = self._context.progress.update(key, prediction)
        if has_changed:
            self.changed.notify()

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


async def _run_together(steps: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Each in a task of its own. Raises StaleOwner alone where several do."""
    try:
        async with asyncio.TaskGroup() as running:
            for step in steps:
                running.create_task(step)
    except* StaleOwner:
        raise StaleOwner from None
