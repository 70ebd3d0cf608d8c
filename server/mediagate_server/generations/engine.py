"""Engine of generations: find or submit, watch, cancel, erase; for services.

A service first asks `find_existing`, which attaches to what the request is bound to; only a new
request is planned, and then submitted.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Final, Self

import structlog

from mediagate_server import rpc_context
from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.errors import (
    CircuitOpen,
    GenerationNotFound,
    InternalError,
    MediagateError,
    RequestIdReused,
    StoreUnavailable,
)
from mediagate_server.generations.active_generations import ActiveGenerations
from mediagate_server.generations.change_feed import ChangeFeed, SharedChange
from mediagate_server.generations.dependencies import EngineDeps
from mediagate_server.generations.execution import execution_plan
from mediagate_server.generations.execution.attachment import (
    Attachment,
    draining_error,
    wait_for_end,
)
from mediagate_server.generations.execution.execution_plan import ExecutionPlan
from mediagate_server.generations.execution.generation_run import GenerationRun
from mediagate_server.generations.execution.prediction_claims import PredictionClaims
from mediagate_server.generations.recovery.late_predictions import LatePredictions
from mediagate_server.generations.recovery.ledger_reconciler import Reconciler
from mediagate_server.generations.recovery.retention import Retention, RetentionJob, has_all_outputs
from mediagate_server.generations.recovery.task_supervisor import Supervisor
from mediagate_server.generations.recovery.unconfirmed_sweeper import UnconfirmedSweeper
from mediagate_server.generations.run_durations import MAX_RUNS
from mediagate_server.generations.submission_request import Submission
from mediagate_server.generations.transitions import attempts
from mediagate_server.generations.watch import (
    NotificationLimit,
    start_sequence,
    watch_all,
    watch_one,
)
from mediagate_server.observability.bug_report import BackgroundJob, report_bug
from mediagate_server.runtime import failpoints
from mediagate_server.store.records import (
    Attempt,
    AttemptState,
    Generation,
    GenerationFilter,
    LedgerEntry,
    ListPosition,
    Purpose,
    RequestBinding,
    Verdict,
)
from mediagate_server.structs import replace
from mediagate_server.upstream.port import CreateReservation

_log = structlog.get_logger()
_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)


class GenerationEngine:
    """Accepts, finds, cancels and recovers generations. Use it as an async context manager.

    `max_in_flight` gives how many generations a tenant, by its id, may run now (0: no limit).
    `retention` gives how long things are kept that callers did not erase.
    """

    def __init__(
        self,
        deps: EngineDeps,
        *,
        max_in_flight: Callable[[str], int],
        retention: Callable[[], Retention] = Retention,
    ) -> None:
        self._deps = deps
        self._max_in_flight = max_in_flight
        self._registry = ActiveGenerations(
            deps.creates_per_second,
            deps.clock,
            PredictionClaims(deps.store),
            ChangeFeed(deps.store),
            lambda: deps.admission.backoff_seconds,
            lambda: deps.admission.creates_per_second,
        )
        self._supervisor = Supervisor(deps, self._registry)
        self._late_predictions = LatePredictions(deps, self._registry, self._supervisor.supervise)
        self._sweeper = UnconfirmedSweeper(deps, self._registry, self._late_predictions)
        self._retention = RetentionJob(
            deps, retention, self._registry.feed.publish, self._sweeper.forget
        )
        self._notification_limit = NotificationLimit(deps.clock.now)
        self.hash_key = deps.hash_key
        """What fingerprints are keyed with: nobody else can make them."""

    async def __aenter__(self) -> Self:
        await self._supervisor.__aenter__()
        await self._supervisor.recover()
        self._supervisor.start_task(self._remember_durations())
        self._supervisor.supervise(BackgroundJob.SWEEP, self._sweeper.run_forever)
        self._supervisor.supervise(BackgroundJob.RETENTION, self._retention.run_forever)
        if self._deps.timeouts.reconcile:
            reconciler = Reconciler(self._deps, self._registry, self._late_predictions)
            self._supervisor.supervise(BackgroundJob.RECONCILIATION, reconciler.run_forever)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go: nothing is cancelled upstream, the next process follows on."""
        self.drain()
        await self._wait_for_submits()
        for run in self._registry:
            run.text.checkpoints.flush()
        await self._supervisor.__aexit__(kind, error, trace)

    async def _remember_durations(self) -> None:
        """How long runs took in earlier processes. Without it there is no expected end at first."""
        past, sandbox = self._deps.store.history, self._deps.is_sandbox
        try:
            self._deps.run_durations.load(await past.recent_runs(MAX_RUNS, sandbox=sandbox))
        except StoreUnavailable:
            _log.warning("run_durations_load_failed")
        except Exception as error:  # noqa: BLE001 - an estimate is not worth ending for
            report_bug(BackgroundJob.RUN_DURATIONS_LOAD, error)

    async def _wait_for_submits(self) -> None:
        """Until no create's answer would be lost; no longer than such an answer may take.

        One that is being read for longer is in doubt then, and looked for by the next process.
        """
        with suppress(TimeoutError):
            async with (
                asyncio.timeout(self._deps.timeouts.post_timeout),
                asyncio.TaskGroup() as group,
            ):
                for run in self._registry:
                    group.create_task(run.wait_until_no_submit())

    def drain(self) -> None:
        """Accept nothing more, and let all who wait go with DRAINING."""
        self._registry.drain()

    async def find_existing(self, submission: Submission) -> Attachment | None:
        """Attach to what its request_id is bound to, or to an earlier generation to be reused.

        None: it is new, so it may be planned and submitted. A twin may yet be bound before that:
        `submit` attaches to it then. Raises RequestIdReused, ServerDraining, StoreUnavailable.
        """
        if self._registry.draining:
            raise draining_error()
        binding = await self._find_binding(submission)
        if binding is None and submission.reuse_within:
            binding = await self._find_reusable(submission)
        return await self._attach(submission, binding) if binding else None

    async def submit(self, submission: Submission, plan: ExecutionPlan) -> Attachment:
        """Bind the request and run it; attach to its twin where that was bound meanwhile.

        Raises any MediagateError with nothing bound.
        """
        if self._registry.draining:  # Planning may have read about the model, or uploaded media.
            raise draining_error()
        turns: dict[str, CreateReservation] = {}
        try:
            run, reserved = self._create_run(submission, plan, turns)
        except BaseException:
            _release(turns)
            raise
        # Registered before it is bound, so that a twin which sees the binding finds it.
        self._registry.add(run)
        attachment = self._new_attachment(run, submission, replayed=False)
        accepted: asyncio.Future[RequestBinding | MediagateError | None]
        accepted = asyncio.get_running_loop().create_future()
        self._supervisor.start_task(
            self._accept_and_run(run, submission, reserved, plan, turns, accepted)
        )
        rpc_context.record_binding(submission.request_id)
        try:
            # A caller that leaves now leaves the future alone: the commit and the send go on.
            outcome = await accepted
        except asyncio.CancelledError:
            attachment.disconnect()
            raise
        if isinstance(outcome, MediagateError):
            raise outcome
        if outcome:
            return await self._attach(submission, outcome)
        rpc_context.record_binding(submission.request_id, run.record.id)
        return attachment

    async def check_submission(self, submission: Submission, plan: ExecutionPlan) -> None:
        """Raise what `submit` would for this request and its maximum cost. Nothing is bound.

        What passes by itself, such as too many in flight, is not looked at.
        """
        if binding := await self._find_binding(submission):
            _check_fingerprint(submission, binding)
            return  # A repeat: it costs nothing more.
        if submission.reuse_within and await self._find_reusable(
            # As one whose id the server has made: nothing is bound to what is found.
            replace(submission, is_server_generated_id=True)
        ):
            return
        store, now = self._deps.store, self._deps.clock.now()
        await store.check_budgets(submission.tenant, submission.labels, plan.reservation, now)

    async def get(self, tenant: str, generation_id: str) -> Generation:
        """The generation as it stands. GenerationNotFound also for another tenant's."""
        return self._with_live_state(await self._find(tenant, generation_id))

    async def request(self, record: Generation) -> bytes | None:
        """What was stored of the request that made it, if anything."""
        return await self._deps.store.history.stored_request(record.id)

    def is_erasing(self, generation_id: str) -> bool:
        """Whether its inputs and outputs are being erased: its record still tells of them."""
        return self._retention.is_erasing(generation_id)

    async def erase(self, tenant: str, generation_id: str) -> None:
        """Erase inputs and outputs; what it cost stays. NotTerminal before its end."""
        await self._retention.erase(tenant, generation_id)
        if run := self._registry.get(generation_id):
            self._registry.remove(run)  # Over, and about to go by itself.

    async def list_generations(
        self,
        tenant: str,
        generation_filter: GenerationFilter,
        limit: int,
        after: ListPosition | None,
    ) -> tuple[Generation, ...]:
        """A page of a tenant's generations, newest first."""
        return await self._deps.store.list_generations(tenant, generation_filter, limit, after)

    async def wait(self, tenant: str, generation_id: str, seconds: float | None) -> Generation:
        """The generation once it is over, or as it stands after `seconds`."""
        run = await self._find(tenant, generation_id)
        await wait_for_end(run, self._deps.clock, seconds)
        return self._with_live_state(run)

    async def watch(
        self, tenant: str, generation_id: str, after: int, *, logs: bool
    ) -> AsyncIterator[tuple[int, Generation]]:
        """The generation at every change, with sequences above `after`, up to its end.

        `logs`: also when its log has grown.
        """
        run = await self._find(tenant, generation_id)
        shown = partial(self._with_live_state, run)
        changes = watch_one(
            run, self._registry.process.queue, self._notification_limit, shown, after, logs=logs
        )
        async for change in changes:
            yield change

    async def watch_all(
        self, tenant: str, generation_filter: GenerationFilter, after: int
    ) -> AsyncIterator[SharedChange]:
        """Every change above `after` of those that match; 0: from now on, the moment it returns.

        Never ends by itself. StreamExpired where `after` is none that can be gone on from.
        """
        start = await start_sequence(self._deps.store, after)
        return watch_all(self._registry.feed, tenant, generation_filter, start)

    async def cancel(self, tenant: str, generation_id: str) -> Generation:
        """Request cancellation; the generation as it stands now. The request is durable."""
        run = await self._find(tenant, generation_id)
        if run.is_elsewhere:
            # Whoever has it hears the wish; a version of ours would be refused.
            raise draining_error(run.record)
        run.cancel("asked for")
        await run.saved.flush()
        return run.record

    async def on_webhook(self, attempt_id: str, prediction_id: str) -> bool:
        """Upstream says that an attempt is this prediction, and that there is news of it.

        A hint only: upstream is polled. False where the attempt is unknown. Of one that was in
        doubt, or declared absent, it is durable what it is when this returns.
        """
        step = self._registry.step_of(attempt_id)
        if step is not None and step.on_webhook(attempt_id, prediction_id):
            await step.wait_until_recorded()
            if not step.was_never_accepted(attempt_id):
                return True
        record = await self._deps.store.find_by_attempt(attempt_id)
        if record is None:
            return False
        attempt = next(one for one in record.attempts if one.id == attempt_id)
        if attempt.state in attempts.NEVER_ACCEPTED:
            self._late_predictions.stop_and_settle(attempt, record, prediction_id)
            await self._late_predictions.settled(attempt_id)
        elif attempt.state is AttemptState.UNCONFIRMED and self._is_superseded(record, attempt):
            self._late_predictions.follow(attempt, record, prediction_id)
        return True

    def _is_superseded(self, record: Generation, attempt: Attempt) -> bool:
        """Whether another attempt makes, or has made, what this one in doubt was for."""
        run = self._registry.get(record.id)
        return run.is_superseded(attempt) if run else record.state.is_terminal

    def _create_run(
        self, submission: Submission, plan: ExecutionPlan, turns: dict[str, CreateReservation]
    ) -> tuple[GenerationRun, tuple[LedgerEntry, ...]]:
        """The first record of a generation, with the right to send where there is one now.

        What it reserves is put into `turns`, by the attempt that it is for.
        """
        screens = plan.steps[0].purpose is Purpose.SCREEN
        opened: list[Attempt] = []
        reserved: list[LedgerEntry] = []
        for step in plan.steps:
            model_plan, turn = step.plans[0], None
            if not screens or step.purpose is Purpose.SCREEN:
                model_plan, turn = self._try_acquire_slot(step.plans)
            attempt, reservation = attempts.open_attempt(
                self._deps,
                model_plan,
                (step.purpose, step.output_index),
                ordinal=len(opened) + 1,
                queued=turn is None,
            )
            if turn is not None:
                turns[attempt.id] = turn
            opened.append(attempt)
            reserved.append(reservation)
        shown = opened[1 if screens else 0].model
        first = next(each for each in plan.chain if each.slug == shown)
        record = attempts.new_generation(self._deps, submission, first, tuple(opened))
        if plan.not_screened:
            verdict = Verdict(safe=False, model="", not_checked=plan.not_screened)
            record = replace(record, verdict=verdict)
        run = GenerationRun(self._deps, self._registry.process, record, plan, turns=turns)
        return run, tuple(reserved)

    def _try_acquire_slot(self, plans: tuple[Plan, ...]) -> tuple[Plan, CreateReservation | None]:
        """The first plan whose model may be sent to, and a turn if there is one now.

        CircuitOpen: none may.
        """
        for plan in plans[:-1]:
            with suppress(CircuitOpen):
                return plan, self._deps.admission.try_admit(plan.slug)
        return plans[-1], self._deps.admission.try_admit(plans[-1].slug)

    async def _find_binding(self, submission: Submission) -> RequestBinding | None:
        """What its request_id is bound to; nothing can be to one that the server has just made."""
        if submission.is_server_generated_id:
            return None
        store = self._deps.store
        return await store.find_binding(submission.tenant, submission.request_id)

    async def _find_reusable(self, submission: Submission) -> RequestBinding | None:
        """A generation of an equal request that has all its outputs, bound to this request."""
        store, now = self._deps.store, self._deps.clock.now()
        # What is longer ago than a date can tell is as good as ever.
        since = now - min(timedelta(seconds=submission.reuse_within), now - _BEGINNING)
        for record in await store.history.find_reusable(
            submission.tenant, submission.reuse_key, since
        ):
            if record.sandbox != self._deps.is_sandbox or not has_all_outputs(record, now):
                continue
            if submission.is_server_generated_id:
                return RequestBinding(record.id, submission.fingerprint)
            return await store.history.bind(record, submission.request_id, submission.fingerprint)
        return None

    def _with_live_state(self, run: GenerationRun, record: Generation | None = None) -> Generation:
        """A generation as it stands, or as it stood, with all that is known of it beside."""
        return self._registry.with_queue_position(run.with_activity(record or run.record))

    async def _find(self, tenant: str, generation_id: str) -> GenerationRun:
        run = self._registry.get(generation_id)
        if run and run.record.tenant == tenant:
            return run
        record = await self._deps.store.get(tenant, generation_id)
        if record is None:
            raise GenerationNotFound(generation_id)
        return GenerationRun.load_finished(self._deps, self._registry.process, record)

    async def _attach(self, submission: Submission, binding: RequestBinding) -> Attachment:
        _check_fingerprint(submission, binding)
        run = await self._find(submission.tenant, binding.generation_id)
        # An id that the server has just made is bound to nothing: this was found by its reuse key.
        rpc_context.record_binding(
            "" if submission.is_server_generated_id else submission.request_id, run.record.id
        )
        return self._new_attachment(run, submission, replayed=True)

    def _new_attachment(
        self, run: GenerationRun, submission: Submission, *, replayed: bool
    ) -> Attachment:
        """One more caller of the run, from now on."""
        run.callers.attach()
        return Attachment(
            run,
            self._deps.clock,
            self._registry.with_queue_position,
            self._registry.process.queue,
            submission,
            replayed=replayed,
        )

    async def _accept_and_run(
        self,
        run: GenerationRun,
        submission: Submission,
        reserved: tuple[LedgerEntry, ...],
        plan: ExecutionPlan,
        turns: dict[str, CreateReservation],
        accepted: "asyncio.Future[RequestBinding | MediagateError | None]",
    ) -> None:
        """The commit that binds, then the run; one task, so that no caller can come between."""
        outcome = await self._accept(run, submission, reserved, plan)
        del submission, reserved, plan  # Not to be held for as long as the generation runs.
        if outcome is not None:
            _release(turns)
            self._registry.remove(run)
            run.reject()
            run.close()
        if not accepted.done():
            accepted.set_result(outcome)
        del accepted, turns
        if outcome is None:
            self._registry.feed.publish(run.record.tenant)
            await self._supervisor.run_generation(run)

    async def _accept(
        self,
        run: GenerationRun,
        submission: Submission,
        reserved: tuple[LedgerEntry, ...],
        plan: ExecutionPlan,
    ) -> RequestBinding | MediagateError | None:
        """Commit it. Else what its request_id was bound to already, or why it is not accepted."""
        try:
            failpoints.hit("before_accept")
            binding = await self._deps.store.accept(
                run.record,
                reserved,
                self._max_in_flight(run.record.tenant),
                pending=execution_plan.dump_plan(plan),
                webhook_url=submission.webhook_url,
                request=submission.request,
                reuse_key=submission.reuse_key,
            )
            failpoints.hit("after_accept")
        except MediagateError as error:
            return error
        except Exception as error:  # noqa: BLE001 - kept from ending all that runs here
            report_bug(BackgroundJob.ACCEPT, error, id=run.record.id)
            return InternalError()
        return binding if isinstance(binding, RequestBinding) else None


def _check_fingerprint(submission: Submission, binding: RequestBinding) -> None:
    if binding.fingerprint != submission.fingerprint:
        raise RequestIdReused(submission.request_id)


def _release(turns: dict[str, CreateReservation]) -> None:
    """Nothing is sent: as if these had never been reserved."""
    for turn in turns.values():
        turn.release()
    turns.clear()
