"""Step of a generation: a screening, or one output; from its queue slot to its settled end.

A step holds the right to send: never more than one POST for an attempt, and a new attempt only
where the one before was definitely not taken. Its newest attempt says how far it is, so a step that
is run again, by this process or the next, goes on from there: see the README's state machine.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial

from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.catalog.pricing import prices
from mediagate_server.catalog.pricing.prices import PriceSchedule
from mediagate_server.errors import BudgetExceeded, CircuitOpen, Failure, PriceUnknown
from mediagate_server.generations.dependencies import MIN_RUN_SECONDS, NO_RESERVATIONS
from mediagate_server.generations.execution.deadline import OUT_OF_TIME, AttemptDeadline
from mediagate_server.generations.execution.next_attempt import NextAttempt
from mediagate_server.generations.execution.prediction_claims import report_misanswer
from mediagate_server.generations.execution.prediction_create import SubmitResult, Submitter
from mediagate_server.generations.execution.run_context import RunContext
from mediagate_server.generations.execution.step_result import (
    NeverAccepted,
    PredictionEnd,
    PredictionEnded,
    StepResult,
)
from mediagate_server.generations.matching.prediction_list import find_in_list
from mediagate_server.generations.matching.prediction_matcher import UnconfirmedAttempt
from mediagate_server.generations.metrics import record_cost
from mediagate_server.generations.streaming.prediction_follower import (
    PredictionFollower,
    poll_interval,
)
from mediagate_server.generations.streaming.stream_reader import StreamReader, TextListener
from mediagate_server.generations.transitions import attempts, settlement
from mediagate_server.generations.transitions import failures as endings
from mediagate_server.generations.transitions.attempts import StepKey
from mediagate_server.generations.transitions.outcome import TEXTS, cancellation_failure
from mediagate_server.observability import metrics
from mediagate_server.runtime import crash_marks
from mediagate_server.runtime.cancellation import DEADLINE_REASON, CancelToken, PredictionNews
from mediagate_server.runtime.notifier import Notifier
from mediagate_server.store.generations import PredictionAlreadyClaimed
from mediagate_server.store.records import Attempt, AttemptState, Generation, LedgerEntry, Purpose
from mediagate_server.structs import replace
from mediagate_server.upstream.port import (
    CreateReservation,
    NoResponse,
    Prediction,
    PredictionStatus,
    RefusalReason,
    RequestRefused,
)

_FAILED = (PredictionStatus.FAILED,)
_FAILED_OR_CUT = (*_FAILED, PredictionStatus.CANCELED, PredictionStatus.ABORTED)
_MADE_BY_ANOTHER, _GAVE_WAY = "another attempt made it", "another attempt goes on"
_NEVER_ARRIVED, _NOT_SENT = "never arrived", "not sent"
ProgressListener = Callable[[StepKey, Prediction], None]
"""Gets every answer about a step's prediction that is no end."""


class NoParallelAttempt(Exception):
    """The other of two attempts, which a step was to go on with, has been closed."""


class Step:
    """One (purpose, output) of a generation. `plans` are tried in order; none: not known any more.

    `turns` are those of attempts that were made SUBMITTING for this very process to send.
    """

    def __init__(
        self,
        context: RunContext,
        key: StepKey,
        plans: tuple[Plan, ...],
        on_text: TextListener,
        on_progress: ProgressListener,
        *,
        turns: Mapping[str, CreateReservation] = NO_RESERVATIONS,
    ) -> None:
        self._context = context
        self._deps = context.deps
        self._process = context.process
        self._on_text = on_text
        self._on_progress = on_progress
        self.key = key
        self._plans = plans
        self._next = NextAttempt(context, key, plans)
        newest = attempts.current_attempt(self._record, key).id
        turn = turns.get(newest)
        self._submitter = Submitter(context.deps, newest if turn else "", turn)
        self._reserved: CreateReservation | None = None
        self._answer: SubmitResult | None = None
        self._is_claiming = False
        """Whose the prediction of a create's answer is, is looked up just now."""
        self._end: PredictionEnd | None = None
        self._retry_delay = 0.0
        self._confirmed_id = ""
        self._is_absent = False
        self._news = PredictionNews(context.deps.clock)
        self._recorded = Notifier()
        self.ended = context.cancel.child()
        """Cancelled with the generation, and once this step has ended: ends what runs beside it."""
        self._winner_id = self._takeover_id = ""
        self._superseded_predictions: dict[str, str] = {}
        self._was_looked_for = False
        self._cancel = self._new_cancel()
        for attempt in attempts.attempts_of_step(self._record, key):
            self._register(attempt)

    @property
    def _record(self) -> Generation:
        """As it stands: never to be kept over an await."""
        return self._context.record.current

    def _register(self, attempt: Attempt) -> None:
        """Let webhooks find the generation of an attempt."""
        self._process.generation_ids[attempt.id] = self._record.id

    @property
    def attempt(self) -> Attempt:
        """The attempt that it is at: as a rule the newest; see attempts.current."""
        if self._winner_id and (beside := self._by_id(self._winner_id)):
            return beside
        return attempts.current_attempt(self._record, self.key)

    def _by_id(self, attempt_id: str) -> Attempt | None:
        """An open attempt of this step."""
        tries = attempts.attempts_of_step(self._record, self.key)
        return next(
            (each for each in tries if each.id == attempt_id and attempts.is_open(each)), None
        )

    @property
    def plan(self) -> Plan | None:
        """What that attempt sends."""
        return self.plan_of(self.attempt)

    def plan_of(self, attempt: Attempt) -> Plan | None:
        """The plan of an attempt, by its model; None where it is not known any more."""
        return next((plan for plan in self._plans if plan.slug == attempt.model), None)

    async def run(self) -> StepResult | None:
        """From wherever it stands to its end, which the run applies; then this is called again.

        None: it has ended, or what waits to be sent is left for the next process, because this one
        drains. Called again also after StoreUnavailable, from here or from applying: then it comes
        to the same result, or to a better one where that is possible by now.
        """
        while not attempts.has_step_ended(self._record, self.key):
            result: StepResult | None = None
            match self.attempt.state:
                case AttemptState.QUEUED:
                    result = await self._acquire_slot()
                    if result is None and self._waits_for_restart:
                        return None
                case AttemptState.SUBMITTING:
                    result = await self._submit()
                case AttemptState.UNCONFIRMED:
                    result = await self._wait_for_confirmation()
                case AttemptState.ACCEPTED:
                    result = await self._follow()
                case _:
                    return None
            if result is not None:
                return result
        self._notify_recorded()
        self.ended.cancel(_MADE_BY_ANOTHER)
        return None

    # What others know of it

    @property
    def is_submitting(self) -> bool:
        """True while a create is about to be sent, its answer awaited, or its prediction claimed.

        With the process the answer would be lost.
        """
        is_sent = self._submitter.under_way or self._is_claiming
        return is_sent or self._submitter.may_send == self.attempt.id

    def unconfirmed(self) -> UnconfirmedAttempt | None:
        """What to look for, while the attempt is in doubt and nothing was found out."""
        if (
            self.attempt.state is not AttemptState.UNCONFIRMED
            or self._confirmed_id
            or self._is_absent
        ):
            return None
        return UnconfirmedAttempt(self.attempt, self.plan, self._deps.hash_key)

    @property
    def unrecorded_predictions(self) -> tuple[str, ...]:
        """Predictions that are known to be its attempts', and perhaps not recorded yet."""
        return (self._confirmed_id, *self._superseded_predictions.values())

    def is_superseded(self, attempt_id: str) -> bool:
        """Whether this is an open attempt of this step, and not the one that it is at."""
        return self.attempt.id != attempt_id and self._by_id(attempt_id) is not None

    def in_flight_submit(self) -> UnconfirmedAttempt | None:
        """What upstream may already show, though what became of it is not written down yet.

        Also what an earlier process was sending, until it is written down as in doubt: others
        with the same input must not take what is its own.
        """
        is_open = self._submitter.under_way or self.attempt.state is AttemptState.SUBMITTING
        return UnconfirmedAttempt(self.attempt, self.plan, self._deps.hash_key) if is_open else None

    def on_webhook(self, attempt_id: str, prediction_id: str) -> bool:
        """Take a webhook as a hint: upstream is polled for what it is worth."""
        attempt = self.attempt
        if attempt.id != attempt_id or attempt.prediction_id not in {"", prediction_id}:
            return False
        if not attempt.prediction_id and not self._confirmed_id:
            if attempt.state is AttemptState.UNCONFIRMED:
                metrics.attempts_matched.labels("webhook").inc()
            self._confirmed_id = prediction_id
        self._news.notify()
        return True

    async def wait_until_recorded(self) -> None:
        """Wait until the prediction id of an unconfirmed attempt is durable, where it is known."""
        while self._confirmed_id and self.attempt.state is AttemptState.UNCONFIRMED:
            await self._recorded.wait(self._recorded.count)

    def _notify_recorded(self) -> None:
        """Wake whoever waits for a prediction's id to be recorded."""
        self._recorded.notify()

    def was_never_accepted(self, attempt_id: str) -> bool:
        """Whether the attempt was closed as one that upstream never accepted."""
        tries = attempts.attempts_of_step(self._record, self.key)
        return any(
            each.id == attempt_id and each.state in attempts.NEVER_ACCEPTED for each in tries
        )

    def confirm(self, prediction_id: str) -> None:
        """The attempt in doubt is this prediction."""
        self._confirmed_id = prediction_id
        self._news.notify()

    def on_not_listed(self) -> None:
        """Upstream's list did not show the attempt in doubt, or could not be read."""
        self._was_looked_for = True
        self._news.notify()

    def superseded_prediction(self, attempt_id: str) -> str:
        """The prediction of an attempt in doubt that this step did not wait for; empty: unknown."""
        return self._superseded_predictions.get(attempt_id, "")

    def record_superseded_match(self, attempt_id: str, prediction_id: str) -> None:
        """Such an attempt is this prediction; somebody else follows it."""
        self._superseded_predictions[attempt_id] = prediction_id

    def switch_to_attempt(self, attempt_id: str) -> bool:
        """That attempt has succeeded first. False where it is too late for it."""
        if self._context.has_streamed or attempts.has_step_ended(self._record, self.key):
            return False
        if self.attempt.id == attempt_id:
            return True
        self._takeover_id = attempt_id
        self._cancel.cancel(_MADE_BY_ANOTHER)
        self._news.notify()
        return True

    def mark_absent(self) -> None:
        """The attempt in doubt never reached upstream."""
        self._is_absent = True
        self._news.notify()

    # Submitting

    async def _acquire_slot(self) -> StepResult | None:
        """Wait for the account's rate, then acquire the right to send, durably."""
        plan, quarantined = self.plan, self._context.quarantine_failure
        if plan is None or quarantined:
            return await self._fail_unsubmitted(quarantined or endings.input_lost())
        try:
            if not await self._cancel.run_until_cancelled(self._wait_for_slot(plan)):
                self._release()
                return await self._fail_unsubmitted(self._cancellation_failure())
        except CircuitOpen as error:
            fallback = self._next.fallback(self.attempt)
            return await self._close_attempt(self.attempt, error.failure, "circuit open", fallback)
        if self.attempt.state is not AttemptState.QUEUED:
            self._release()
            return None  # The screening has ended it.
        if self._waits_for_restart:
            return None
        now = self._deps.clock.now()
        attempt = replace(self.attempt, state=AttemptState.SUBMITTING, sent_at=now)
        turn, self._reserved = self._reserved, None
        with self._submitter.grant_send_right(attempt.id, turn):
            await self._commit("submitting", attempt)
        return None

    @property
    def _waits_for_restart(self) -> bool:
        """Whether it waits, without a turn, for the next process to send it."""
        has_no_turn = self._reserved is None and self.attempt.state is AttemptState.QUEUED
        return has_no_turn and self._context.draining

    def _release(self) -> None:
        """Nothing is sent in the turn that was waited for."""
        turn, self._reserved = self._reserved, None
        if turn is not None:
            turn.release()

    async def _wait_for_slot(self, plan: Plan) -> None:
        if self._retry_delay:
            await self._deps.clock.wait(Notifier(), self._retry_delay)
            self._retry_delay = 0.0
        if self.key[0] is Purpose.GENERATE and not self._context.screened.happened:
            await self._context.screened.wait()
        if self.attempt.state is not AttemptState.QUEUED:
            return
        callers = self._context.callers
        while self._reserved is None and not self._context.draining:
            await callers.wait_for_reconnect()
            await self._reserve(plan)
            if callers.all_disconnected:
                self._release()  # Not reserved for whoever may come back: others could send in it.

    async def _reserve(self, plan: Plan) -> None:
        waiting, again = self.attempt.id, self._next.is_throttled
        queue = self._process.queue
        queue.add(waiting, self._record.tenant, first=again)
        try:
            self._reserved = await self._deps.admission.admit(plan.slug, again=again)
        finally:
            queue.remove(waiting)
        if self._context.draining:
            self._release()  # The next process sends it.

    async def _submit(self) -> StepResult | None:
        attempt, plan = self.attempt, self.plan
        if self._submitter.may_send == attempt.id and plan is not None:
            await self._submitter.wait_for_lease()
            if self._cancel.is_cancelled:
                self._submitter.release()
                return await self._fail_unsubmitted(self._cancellation_failure())
            if self._context.callers.all_disconnected:
                await self._requeue(attempt)
                return None
            left = self._context.seconds_left
            self._answer = await self._submitter.send(attempt, plan, left)
        if isinstance(self._answer, Prediction):
            return await self._on_accepted(attempt, self._answer)
        if self._confirmed_id:
            # A webhook or the list has confirmed it, whatever the answer was.
            confirmed = Prediction(self._confirmed_id, PredictionStatus.UNKNOWN)
            return await self._on_accepted(attempt, confirmed)
        if isinstance(self._answer, RequestRefused):
            return await self._on_refused(attempt, self._answer)
        # Sent, and no answer: it may run and cost. No new attempt.
        is_api_error = isinstance(self._answer, NoResponse) and self._answer.api_error
        error_at = self._deps.clock.now() if is_api_error else None
        state = AttemptState.UNCONFIRMED
        await self._commit("unconfirmed", replace(attempt, state=state, api_error_at=error_at))
        return None

    async def _requeue(self, attempt: Attempt) -> None:
        """Its callers left before it was sent: it waits for one to come back, in nobody's turn.

        Until that is durable a drain waits for it, as for a send: the next process would else find
        it in doubt.
        """
        queued = replace(attempt, state=AttemptState.QUEUED, sent_at=None)
        await self._commit("submitting", queued)
        self._submitter.may_send = ""
        self._submitter.release()

    async def _on_accepted(self, attempt: Attempt, prediction: Prediction) -> StepResult | None:
        """Upstream took it. The commit goes on its way; nothing waits for it but the next one."""
        self._is_claiming = True
        try:
            may_be_shared = self._deps.is_playback  # One prediction may answer many creates.
            is_ours = may_be_shared or await self._process.claims.claim(attempt.id, prediction.id)
        finally:
            self._is_claiming = False
        if not is_ours:
            report_misanswer(self._record.id, attempt.id, prediction.id)
            self._answer = None
            self._confirmed_id = "" if self._confirmed_id == prediction.id else self._confirmed_id
            await self._commit("unconfirmed", replace(attempt, state=AttemptState.UNCONFIRMED))
            return None
        accepted = replace(attempt, state=AttemptState.ACCEPTED, prediction_id=prediction.id)
        self._answer, self._confirmed_id = prediction, ""
        if prediction.status.is_terminal:
            # The settling commit writes all of it at once.
            end = PredictionEnd(prediction, is_complete=False)
            return await self._on_prediction_end(accepted, end)
        self._context.record.update_async(
            lambda record: attempts.with_attempt(record, accepted), failpoint="accepted"
        )
        self._report_progress(prediction)
        return None

    def _report_progress(self, prediction: Prediction) -> None:
        self._on_progress(self.key, prediction)

    async def _on_refused(self, attempt: Attempt, refused: RequestRefused) -> StepResult | None:
        """A definite no: another attempt where that may help, another model, else the end."""
        reason = refused.refusal.value
        failure = endings.refused_failure(refused, attempt.model)
        left, plan = self._context.seconds_left, self.plan_of(attempt)
        if refused.refusal is RefusalReason.THROTTLED:
            # The account waits, so no other model would be accepted either; see RateLimiter.
            may_wait = self._deps.admission.backoff_seconds < left
            return await self._close_attempt(attempt, failure, reason, plan if may_wait else None)
        same_model = self._next.attempts_of_model(attempt.model)
        delay = self._deps.admission.delay_before_retry(refused, same_model)
        if delay is not None and delay < left and self._next.has_attempts_left:
            result = await self._close_attempt(attempt, failure, reason, plan)
            self._retry_delay = delay
            return result
        # Not where the account or upstream itself is the trouble, nor where the input is.
        is_models = refused.refusal in (RefusalReason.NOT_FOUND, RefusalReason.OTHER)
        may_go_on = is_models and not self._next.is_refused_content(failure)
        fallback = self._next.fallback(attempt) if may_go_on else None
        return await self._close_attempt(attempt, failure, reason, fallback)

    async def _close_attempt(
        self,
        attempt: Attempt,
        failure: Failure,
        reason: str,
        plan: Plan | None,
        state: AttemptState = AttemptState.REFUSED,
    ) -> StepResult | None:
        """Upstream never accepted it: try `plan`, else end with the failure, or as cancelled."""
        closed, released = attempts.close_attempt(attempt, state, reason, self._deps.clock.now())
        if plan and not self._cancel.is_cancelled:
            try:
                await self._open_next_attempt(closed, released, plan)
            except (BudgetExceeded, PriceUnknown) as error:
                failure = error.failure
            else:
                return None
        if await self._close_parallel(closed, released):
            return None
        cancel, is_throttled = self._context.cancel, reason == RefusalReason.THROTTLED.value
        if cancel.is_cancelled and not (is_throttled and cancel.reason == DEADLINE_REASON):
            failure = self._cancellation_failure()
        return NeverAccepted(closed, released, failure)

    # Another model

    async def _fall_back(self, attempt: Attempt, ended: PredictionEnd) -> bool:
        """Where the model failed, or its time was over: settle that and let the next one try.

        False: nobody does.
        """
        end, was_cut = ended.prediction, ended.out_of_time
        if end is None or end.status not in (_FAILED_OR_CUT if was_cut else _FAILED):
            return False
        if self._context.may_have_streamed(end):
            return False
        with crash_marks.crash_marked():
            failure = endings.model_failed(attempt.model, end)
        # One that was cut had somebody to follow it then; to end it took some of the time.
        choose = self._next.fallback_in_haste if was_cut else self._next.fallback
        successor = choose(attempt)
        if successor is None or self._next.is_refused_content(failure):
            return False
        is_failed = end.status is PredictionStatus.FAILED
        reason = failure.reason.value if is_failed else OUT_OF_TIME
        closed, line = self._settle_without_output(attempt, end, reason)
        try:
            await self._open_next_attempt(closed, line, successor)
        except (BudgetExceeded, PriceUnknown):
            return False  # It does not fit: the failed run is the end.
        record_cost(self._record.modality, closed.model, closed.cost)
        return True

    # In doubt

    async def _wait_for_confirmation(self) -> StepResult | None:
        """Until the prediction was found, or proven never to have been made.

        Or, where the caller allows it, until another model is sent beside it; or until the one that
        it was sent beside has succeeded.
        """
        self._process.unconfirmed.notify()
        self._was_looked_for = False
        while self._is_undecided:
            if self._takeover_id and self._superseded_attempt(self.attempt):
                self._winner_id = self._takeover_id
                self._confirmed_id = self.superseded_prediction(self._winner_id)
                return None
            if self._was_looked_for and await self._submit_parallel():
                return None
            self._news.mark_seen()
            if self._is_undecided:
                await self._news.wait(self._news.seen)
        if self._confirmed_id:
            await self._record_match(self._confirmed_id)
            return None
        attempt = self.attempt
        plan = self._next.after_absent(attempt, self.plan_of(attempt))
        failure, absent = endings.never_accepted(), AttemptState.ABSENT
        return await self._close_attempt(attempt, failure, _NEVER_ARRIVED, plan, absent)

    @property
    def _is_undecided(self) -> bool:
        """Whether nothing was found out of the attempt in doubt."""
        return not self._confirmed_id and not self._is_absent

    async def _record_match(self, prediction_id: str) -> None:
        """The attempt in doubt is this prediction, unless another has it: then look on."""
        self._answer = None
        state = AttemptState.ACCEPTED
        adopted = replace(self.attempt, state=state, prediction_id=prediction_id)
        try:
            if not await self._process.claims.claim(adopted.id, prediction_id):
                raise PredictionAlreadyClaimed(prediction_id)
            await self._context.record.commit(
                "adopt",
                lambda record: self._with_model_of(attempts.with_attempt(record, adopted), adopted),
                claims=(prediction_id,),
            )
        except PredictionAlreadyClaimed:
            self._process.claims.release_claim(adopted.id, prediction_id)
            self._confirmed_id = ""
        self._notify_recorded()

    # Following

    async def _follow(self) -> StepResult | None:
        attempt = self.attempt
        if self._end is None and self._context.quarantine.is_unread:
            self._end = PredictionEnd(None, is_complete=False)
        elif self._end is None:
            self._end = await self._follow_to_end(attempt)
        return await self._on_prediction_end(attempt, self._end)

    async def _on_prediction_end(self, attempt: Attempt, end: PredictionEnd) -> StepResult | None:
        """A prediction is over: with it ends the step, unless another attempt goes on."""
        prediction = end.prediction
        has_succeeded = prediction is not None and prediction.status is PredictionStatus.SUCCEEDED
        if (
            not has_succeeded
            and self._superseded_attempt(attempt)
            and not self._is_final(attempt, prediction)
        ):
            reason = _MADE_BY_ANOTHER if self._takeover_id else _GAVE_WAY
            closed, line = self._settle_without_output(attempt, prediction, reason)
            if await self._close_parallel(closed, line):
                record_cost(self._record.modality, closed.model, closed.cost)
                return None
        if await self._fall_back(attempt, end):
            return None
        return PredictionEnded(attempt, end, self._price_of(attempt))

    def _price_of(self, attempt: Attempt) -> PriceSchedule:
        """The schedule that it was reserved by: its plan's, else as the record has it."""
        plan = self.plan_of(attempt)
        return plan.price if plan else prices.load_price(attempt.price)

    def _settle_without_output(
        self, attempt: Attempt, end: Prediction | None, reason: str
    ) -> tuple[Attempt, LedgerEntry]:
        """The attempt at its end, another of this step going on, and its ledger entry."""
        price, now = self._price_of(attempt), self._deps.clock.now()
        line, basis = settlement.settlement_entry(attempt, end, price, outputs=0)
        return settlement.end_attempt(attempt, end, line, reason, now, basis), line

    # Two at a time

    def _is_final(self, attempt: Attempt, prediction: Prediction | None) -> bool:
        """Whether no other model may make it: something was streamed, or its content is refused."""
        if prediction is None:
            return self._context.has_streamed
        with crash_marks.crash_marked():
            failure = endings.model_failed(attempt.model, prediction)
        return self._context.may_have_streamed(prediction) or self._next.is_refused_content(failure)

    def _new_cancel(self) -> CancelToken:
        """Asks for the end of one attempt; the generation's own asks for it as well."""
        return self._context.cancel.child(self._news)

    def _superseded_attempt(self, attempt: Attempt) -> Attempt | None:
        """The attempt in doubt that this one was sent beside, while it is open."""
        return self._by_id(attempt.beside) if attempt.beside else None

    async def _submit_parallel(self) -> bool:
        """Open an attempt of the next model, this one being in doubt still: once per output."""
        self._was_looked_for = False
        tries = attempts.attempts_of_step(self._record, self.key)
        if not self._context.plan.next_when_unconfirmed or any(each.beside for each in tries):
            return False
        plan = self._next.fallback(self.attempt)
        if plan is None:
            return False
        opened, reserved = attempts.open_attempt(
            self._deps, plan, self.key, ordinal=len(tries) + 1, queued=True
        )
        opened = replace(opened, beside=self.attempt.id)

        def change(record: Generation) -> Generation:
            record = attempts.with_attempt(record, opened)
            return attempts.with_plan(record, plan) if self.key == attempts.FIRST_OUTPUT else record

        try:
            await self._context.record.commit("reopen", change, (reserved,))
        except (BudgetExceeded, PriceUnknown):
            return False  # Both do not fit: it is waited for.
        metrics.attempts_next_when_unconfirmed.inc()
        self._register(opened)
        # What was found out of the first one meanwhile is not of the second.
        if self._confirmed_id:
            self.record_superseded_match(opened.beside, self._confirmed_id)
        self._confirmed_id, self._is_absent = "", False
        self._answer = self._end = None
        self._notify_recorded()
        self._process.unconfirmed.notify()
        return True

    async def _close_parallel(self, closed: Attempt, line: LedgerEntry) -> bool:
        """One of two has ended without an output: go on with the other one. False: there is none.

        That one may be closed as well by a commit that is under way.
        """
        other = self._superseded_attempt(closed)
        if other is None:
            return False

        def change(record: Generation) -> Generation:
            if all(each.id != other.id or not attempts.is_open(each) for each in record.attempts):
                raise NoParallelAttempt
            return self._with_model_of(attempts.with_attempt(record, closed), other)

        try:
            await self._context.record.commit("reopen", change, (line,))
        except NoParallelAttempt:
            return False
        self._answer, self._end, self._is_absent = None, None, False
        self._confirmed_id, self._takeover_id = self.superseded_prediction(other.id), ""
        self._cancel = self._new_cancel()
        self._notify_recorded()
        return True

    async def _follow_to_end(self, attempt: Attempt) -> PredictionEnd:
        limit = self._time_limit(attempt)
        reader = self._reader()
        stop = limit.stop if limit else self._cancel
        try:
            ended = await self._follower(attempt, stop).follow(
                self._attempt_to_follow(attempt), reader
            )
            while ended is None:
                listed = await find_in_list(self._deps.upstream, attempt, attempt.prediction_id)
                if listed is None:
                    break
                # An end that only the list knows was paid, however late it is seen.
                if not listed.status.is_terminal and self._context.seconds_left <= 0:
                    break
                # It is there, and what asks for it by its id does not see it: look on.
                ended = await self._follower(attempt, stop).follow(listed, None)
        finally:
            if limit:
                limit.close()
        is_clean = reader is not None and reader.clean
        return PredictionEnd(ended, is_clean, out_of_time=limit is not None and limit.has_expired)

    def _follower(self, attempt: Attempt, stop: CancelToken) -> PredictionFollower:
        context = self._context
        return PredictionFollower(
            self._deps.upstream,
            self._deps.clock,
            stop,
            self._news,
            attempt.model,
            self._report_progress,
            poll_interval(self._record, attempt, self._deps.webhook_url),
            is_watched=lambda: context.watchers > 0,
        )

    def _reader(self) -> StreamReader | None:
        """What reads its stream: only texts have one."""
        context, record = self._context, self._record
        is_text = self.key == attempts.FIRST_OUTPUT and record.shape["kind"] in TEXTS
        if not is_text or context.quarantine_failure:
            return None
        checkpoints = context.text.checkpoints
        return StreamReader(
            self._deps.upstream,
            self._deps.clock,
            record.model,
            self._on_text,
            last_id=checkpoints.event_id,
            unnumbered=checkpoints.has_unnumbered_text,
            on_limit=partial(context.text.set_polled, polled=True),
            on_open=partial(context.text.set_polled, polled=False),
        )

    def _time_limit(self, attempt: Attempt) -> AttemptDeadline | None:
        """What keeps time for the next model of the chain; None where none could take over."""
        share = self._next.seconds_for(attempt)
        if share is None:
            return None
        sent = attempt.sent_at or attempt.created_at
        left = share - (self._deps.clock.now() - sent).total_seconds()
        return AttemptDeadline(
            self._deps.clock,
            self._cancel.child(self._news),
            left,
            partial(self._extra_time, sent),
        )

    def _extra_time(self, sent: datetime, last: float) -> tuple[float, float] | None:
        """Extra time of a run whose share of the timeout is over, and its progress.

        It is paid, so it is only cut where another model is sent at once.
        """
        left = self._context.seconds_left
        if self._superseded_attempt(self.attempt):
            # Once that is proven absent, the next model may take over.
            return min(MIN_RUN_SECONDS, left), last
        if self._next.fallback(self.attempt) is None:
            return left, last
        progress = self._context.progress.progress_of(self.key) or 0.0
        if progress <= last:
            return None
        took = (self._deps.clock.now() - sent).total_seconds()
        remaining = took * (1 - progress) / progress
        if remaining > left:
            return None
        self._news.notify()  # A look at it, so that the next time it is known how far it came.
        return min(max(1.25 * remaining, MIN_RUN_SECONDS), left), progress

    def _attempt_to_follow(self, attempt: Attempt) -> Prediction:
        """What to follow. It is given out: following may take long, and needs little of it."""
        known, self._answer = self._answer, None
        unknown = Prediction(attempt.prediction_id, PredictionStatus.UNKNOWN)
        return known if isinstance(known, Prediction) else unknown

    # The record

    async def _commit(self, failpoint: str, attempt: Attempt) -> None:
        await self._context.record.commit(
            failpoint, lambda record: attempts.with_attempt(record, attempt)
        )

    def _with_model_of(self, record: Generation, attempt: Attempt) -> Generation:
        """The record as this attempt's model makes it, where it shows this step's."""
        plan = self.plan_of(attempt)
        if plan is None or plan.slug == record.model or self.key != attempts.FIRST_OUTPUT:
            return record
        return attempts.with_plan(record, plan)

    async def _open_next_attempt(self, closed: Attempt, line: LedgerEntry, plan: Plan) -> None:
        """Close the attempt and open the next in one commit.

        Raises BudgetExceeded or PriceUnknown where the next one does not fit; then nothing is done.
        """
        opened, reserved = attempts.open_attempt(
            self._deps, plan, self.key, ordinal=closed.ordinal + 1, queued=True
        )
        if self._superseded_attempt(closed):
            opened = replace(opened, beside=closed.beside)

        def change(record: Generation) -> Generation:
            record = attempts.with_attempt(record, closed, opened)
            leads = self.key == attempts.FIRST_OUTPUT and closed.model != plan.slug
            return attempts.with_plan(record, plan) if leads else record

        await self._context.record.commit("reopen", change, (line, reserved))
        self._answer, self._end, self._confirmed_id, self._is_absent = None, None, "", False
        self._register(opened)
        self._notify_recorded()

    async def _fail_unsubmitted(self, failure: Failure) -> StepResult | None:
        """The end of a step whose newest attempt was not sent."""
        return await self._close_attempt(self.attempt, failure, _NOT_SENT, None)

    def _cancellation_failure(self) -> Failure:
        reason = self._context.cancel.reason
        if reason == DEADLINE_REASON and self._next.is_throttled:
            backoff = self._deps.admission.backoff_seconds
            refused = RequestRefused(RefusalReason.THROTTLED, retry_after=backoff or None)
            return endings.refused_failure(refused, self.attempt.model)
        return cancellation_failure(self._record, reason)
