"""One lane of a generation: a screening, or one output; from its turn to its settled end.

A lane holds the right to send: never more than one POST for an attempt, and a new attempt only
where the one before was definitely not taken. What it has come to is in its newest attempt, so a
lane that is run again, by this process or the next, goes on from there:

    QUEUED ------- its turn ------> SUBMITTING --- taken ---> ACCEPTED --- end ---> settled
      ^                                 |  |                      ^
      +---- a new attempt -- REFUSED <--+  +-- no answer -> UNCONFIRMED --- found --+
      +---- a new attempt -- ABSENT <--------------------------+
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Final

from mediagate_server import crash_marks, telemetry
from mediagate_server.catalog import price_json
from mediagate_server.catalog.chains import next_that_fits
from mediagate_server.catalog.deadline_split import time_share
from mediagate_server.catalog.plan import Plan
from mediagate_server.catalog.prices import PriceSchedule
from mediagate_server.errors import BudgetExceeded, CircuitOpen, Failure, PriceUnknown
from mediagate_server.generations import attempts, endings, settling
from mediagate_server.generations.attempt_limit import OUT_OF_TIME, AttemptLimit
from mediagate_server.generations.attempts import LaneKey
from mediagate_server.generations.bell import Bell
from mediagate_server.generations.claims import tell_of_mistake
from mediagate_server.generations.doors import (
    MOST_ATTEMPTS,
    NO_TURNS,
    SHORTEST_RUN,
    Surroundings,
)
from mediagate_server.generations.finish import stop_failure
from mediagate_server.generations.follow import Follower, poll_of
from mediagate_server.generations.lost_predictions import find_listed
from mediagate_server.generations.parts import is_open
from mediagate_server.generations.posting import Answer, Posting
from mediagate_server.generations.stopping import DEADLINE, Stop
from mediagate_server.generations.tally import count_cost
from mediagate_server.generations.waking import Wake
from mediagate_server.generations.whole import Doubt, End, Places, Whole
from mediagate_server.interceptors.outbound.turn import Turn
from mediagate_server.replacing import replace
from mediagate_server.replicate.port import (
    NoAnswer,
    Prediction,
    PredictionStatus,
    Refusal,
    Refused,
)
from mediagate_server.store.port import AlreadyClaimed
from mediagate_server.store.records import Attempt, AttemptState, Entry, Generation, Purpose

_FAILED = (PredictionStatus.FAILED,)
_FAILED_OR_CUT = (*_FAILED, PredictionStatus.CANCELED, PredictionStatus.ABORTED)
_MADE_BY_ANOTHER, _GAVE_WAY = "another attempt made it", "another attempt goes on"
_NEVER_ARRIVED, _NOT_SENT = "never arrived", "not sent"
MOST_ABSENT: Final = 3
"""Creates of a model without a successor that may be proven never to have arrived."""


class NobodyBeside(Exception):
    """The attempt that a lane was to go on with has been closed."""


class Lane:
    """One (purpose, output) of a generation. `plans` are tried in order; none: not known any more.

    `turns` are those of attempts that were made SUBMITTING for this very process to send.
    """

    def __init__(
        self,
        whole: Whole,
        around: Surroundings,
        places: Places,
        key: LaneKey,
        plans: tuple[Plan, ...],
        *,
        turns: Mapping[str, Turn] = NO_TURNS,
    ) -> None:
        self._whole = whole
        self._around = around
        self._places = places
        self.key = key
        self._plans = plans
        newest = attempts.current(whole.saved.current, key).id
        turn = turns.get(newest)
        self._posting = Posting(around, newest if turn else "", turn)
        self._reserved: Turn | None = None
        self._answer: Answer | None = None
        self._is_claiming = False
        """Whose the prediction of a create's answer is, is looked up just now."""
        self._end: End | None = None
        self._not_before = 0.0
        self._found = ""
        self._absent = False
        self._wake = Wake(around.clock)
        self._noted = Bell()
        self.over = whole.stop.child()
        """Asked with the whole, and once this lane has ended: what runs beside it is to end."""
        self._winner = self._takes_over = ""
        self._found_beside: dict[str, str] = {}
        self._looked_for = False
        self._stop = self._new_stop()
        for attempt in attempts.of_lane(whole.saved.current, key):
            places.opened(attempt.id, self)

    @property
    def attempt(self) -> Attempt:
        """The attempt that it is at: as a rule the newest; see attempts.current."""
        if self._winner and (beside := self._by_id(self._winner)):
            return beside
        return attempts.current(self._whole.saved.current, self.key)

    def _by_id(self, attempt_id: str) -> Attempt | None:
        """An open attempt of this lane."""
        tries = attempts.of_lane(self._whole.saved.current, self.key)
        return next((one for one in tries if one.id == attempt_id and is_open(one)), None)

    @property
    def plan(self) -> Plan | None:
        """What that attempt sends."""
        return self.plan_of(self.attempt)

    def plan_of(self, attempt: Attempt) -> Plan | None:
        """See HintTaker."""
        return next((plan for plan in self._plans if plan.slug == attempt.model), None)

    async def run(self) -> None:
        """To its end, from wherever it stands. Called again after StoreUnavailable.

        While the gate drains, what waits to be sent ends as it stands: the next process sends it.
        """
        while not attempts.has_ended(self._whole.saved.current, self.key):
            match self.attempt.state:
                case AttemptState.QUEUED:
                    await self._take_turn()
                    if self._is_left_waiting:
                        return
                case AttemptState.SUBMITTING:
                    await self._send()
                case AttemptState.UNCONFIRMED:
                    await self._await_proof()
                case AttemptState.ACCEPTED:
                    await self._follow()
                case _:
                    return
        self.over.ask(_MADE_BY_ANOTHER)

    # What others know of it

    @property
    def is_sending(self) -> bool:
        """True while a create is about to be sent, its answer awaited, or its prediction claimed.

        With the process the answer would be lost.
        """
        is_sent = self._posting.under_way or self._is_claiming
        return is_sent or self._posting.may_send == self.attempt.id

    def in_doubt(self) -> Doubt | None:
        """What to look for, while the attempt is in doubt and nothing was found out."""
        if self.attempt.state is not AttemptState.UNCONFIRMED or self._found or self._absent:
            return None
        return Doubt(self.attempt, self.plan, self._around.hash_key)

    @property
    def unwritten(self) -> tuple[str, ...]:
        """Predictions that it was told are its attempts', and has perhaps not yet written down."""
        return (self._found, *self._found_beside.values())

    def waits_for(self, attempt_id: str) -> bool:
        """Whether this is an open attempt of this lane, and not the one that it is at."""
        return self.attempt.id != attempt_id and self._by_id(attempt_id) is not None

    def sending(self) -> Doubt | None:
        """What upstream may already show, though what became of it is not written down yet.

        Also what an earlier process was sending, until it is written down as in doubt: others
        with the same input must not take what is its own.
        """
        is_open = self._posting.under_way or self.attempt.state is AttemptState.SUBMITTING
        return Doubt(self.attempt, self.plan, self._around.hash_key) if is_open else None

    def hint(self, attempt_id: str, prediction_id: str) -> bool:
        """See HintTaker. What the hint is worth is asked of upstream."""
        attempt = self.attempt
        if attempt.id != attempt_id or attempt.prediction_id not in {"", prediction_id}:
            return False
        if not attempt.prediction_id and not self._found:
            if attempt.state is AttemptState.UNCONFIRMED:
                telemetry.attempts_adopted.labels("webhook").inc()
            self._found = prediction_id
        self._wake.set()
        return True

    async def noted(self) -> None:
        """See HintTaker."""
        while self._found and self.attempt.state is AttemptState.UNCONFIRMED:
            await self._noted.wait()

    def _tell_noted(self) -> None:
        """Whoever was told a prediction's id may look what became of its attempt."""
        self._noted.ring()
        self._noted = Bell()

    def was_not_taken(self, attempt_id: str) -> bool:
        """See HintTaker."""
        tries = attempts.of_lane(self._whole.saved.current, self.key)
        return any(one.id == attempt_id and one.state in settling.NOT_TAKEN for one in tries)

    def found(self, prediction_id: str) -> None:
        """The attempt in doubt is this prediction."""
        self._found = prediction_id
        self._wake.set()

    def looked_for(self) -> None:
        """Upstream's list did not show the attempt in doubt, or could not be read."""
        self._looked_for = True
        self._wake.set()

    def found_beside(self, attempt_id: str) -> str:
        """The prediction of an attempt in doubt that this lane did not wait for; empty: unknown."""
        return self._found_beside.get(attempt_id, "")

    def follow_beside(self, attempt_id: str, prediction_id: str) -> None:
        """Such an attempt is this prediction; somebody else follows it."""
        self._found_beside[attempt_id] = prediction_id

    def take_over(self, attempt_id: str) -> bool:
        """That attempt has succeeded first. False where it is too late for it."""
        if self._whole.has_told or attempts.has_ended(self._whole.saved.current, self.key):
            return False
        if self.attempt.id == attempt_id:
            return True
        self._takes_over = attempt_id
        self._stop.ask(_MADE_BY_ANOTHER)
        self._wake.set()
        return True

    def proven_absent(self) -> None:
        """The attempt in doubt never reached upstream."""
        self._absent = True
        self._wake.set()

    # Submitting

    async def _take_turn(self) -> None:
        """Wait for the account's rate, then hold the right to send, durably."""
        plan = self.plan
        if plan is None or self._whole.quarantine:
            await self._end_unsent(self._whole.quarantine or endings.not_kept())
            return
        try:
            if not await self._stop.interrupts(self._turn(plan)):
                self._release()
                await self._end_unsent(self._stopped())
                return
        except CircuitOpen as error:
            await self._not_taken(self.attempt, error.failure, "circuit open", self._successor())
            return
        if self.attempt.state is not AttemptState.QUEUED:
            self._release()
            return  # The screening has ended it.
        if self._is_left_waiting:
            return
        now = self._around.clock.now()
        attempt = replace(self.attempt, state=AttemptState.SUBMITTING, sent_at=now)
        turn, self._reserved = self._reserved, None
        with self._posting.given(attempt.id, turn):
            await self._commit("submitting", attempt)

    @property
    def _is_left_waiting(self) -> bool:
        """Whether it waits, without a turn, for the next process to send it."""
        has_no_turn = self._reserved is None and self.attempt.state is AttemptState.QUEUED
        return has_no_turn and self._whole.draining

    def _release(self) -> None:
        """Nothing is sent in the turn that was waited for."""
        turn, self._reserved = self._reserved, None
        if turn is not None:
            turn.release()

    async def _turn(self, plan: Plan) -> None:
        if self._not_before:
            await self._around.clock.wait(asyncio.Event(), self._not_before)
            self._not_before = 0.0
        await self._whole.cleared(self.key)
        if self.attempt.state is not AttemptState.QUEUED:
            return
        callers = self._whole.callers
        while self._reserved is None and not self._whole.draining:
            await callers.wait_for_reconnect()
            await self._reserve(plan)
            if callers.all_disconnected:
                self._release()  # Not held for whoever may come back: others could send in it.

    async def _reserve(self, plan: Plan) -> None:
        waiting, again = self.attempt.id, self._is_throttled
        self._places.queued(waiting, self._whole.saved.current.tenant, again=again)
        try:
            self._reserved = await self._around.upstream.admit(plan.slug, again=again)
        finally:
            self._places.served(waiting)
        if self._whole.draining:
            self._release()  # The next process sends it.

    async def _send(self) -> None:
        attempt, plan = self.attempt, self.plan
        if self._posting.may_send == attempt.id and plan is not None:
            await self._posting.hold_the_lease()
            if self._stop.asked:
                self._posting.release()
                await self._end_unsent(self._stopped())
                return
            if self._whole.callers.all_disconnected:
                await self._requeue(attempt)
                return
            left = self._whole.seconds_left()
            self._answer = await self._posting.send(attempt, plan, left)
        if isinstance(self._answer, Prediction):
            await self._taken(attempt, self._answer)
        elif self._found:
            # Upstream has told of it in another way, whatever its answer was.
            await self._taken(attempt, Prediction(self._found, PredictionStatus.UNKNOWN))
        elif isinstance(self._answer, Refused):
            await self._refused(attempt, self._answer)
        else:
            # Sent, and no answer: it may run and cost. No new attempt.
            failed = isinstance(self._answer, NoAnswer) and self._answer.api_error
            error_at = self._around.clock.now() if failed else None
            state = AttemptState.UNCONFIRMED
            await self._commit("unconfirmed", replace(attempt, state=state, api_error_at=error_at))

    async def _requeue(self, attempt: Attempt) -> None:
        """Its callers left before it was sent: it waits for one to come back, in nobody's turn.

        Until that is durable a drain waits for it, as for a send: the next process would else find
        it in doubt.
        """
        queued = replace(attempt, state=AttemptState.QUEUED, sent_at=None)
        await self._commit("submitting", queued)
        self._posting.may_send = ""
        self._posting.release()

    async def _taken(self, attempt: Attempt, prediction: Prediction) -> None:
        """Upstream took it. The commit goes on its way; nothing waits for it but the next one."""
        self._is_claiming = True
        try:
            anybodys = self._around.playback
            is_ours = anybodys or await self._places.claim(attempt.id, prediction.id)
        finally:
            self._is_claiming = False
        if not is_ours:
            tell_of_mistake(self._whole.saved.current.id, attempt.id, prediction.id)
            self._answer = None
            self._found = "" if self._found == prediction.id else self._found
            await self._commit("unconfirmed", replace(attempt, state=AttemptState.UNCONFIRMED))
            return
        taken = replace(attempt, state=AttemptState.ACCEPTED, prediction_id=prediction.id)
        self._answer, self._found = prediction, ""
        if prediction.status.is_terminal:
            # The settling commit writes all of it at once.
            await self._ended(taken, End(prediction, clean=False))
            return
        self._whole.saved.tell(lambda record: attempts.with_attempt(record, taken), step="accepted")
        self._progress(prediction)

    def _progress(self, prediction: Prediction) -> None:
        self._whole.answered()
        if self.key[0] is Purpose.GENERATE:
            self._whole.progress(self.key, prediction)

    async def _refused(self, attempt: Attempt, refused: Refused) -> None:
        """A definite no: another attempt where that may help, another model, else the end."""
        reason = refused.refusal.value
        failure = endings.refused_failure(refused, attempt.model)
        left = self._whole.seconds_left()
        if refused.refusal is Refusal.THROTTLED:
            # The whole account waits, so no other model would be taken either; see Throttle.
            may_wait = self._around.upstream.seconds_held < left
            await self._not_taken(attempt, failure, reason, self.plan if may_wait else None)
            return
        same_model = sum(other.model == attempt.model for other in self._tries())
        delay = self._around.policy.delay_before_retry(refused, same_model)
        if delay is not None and delay < left and self._has_tries_left():
            await self._not_taken(attempt, failure, reason, self.plan)
            self._not_before = delay
            return
        # Not where the account or upstream itself is the trouble, nor where the input is.
        theirs = refused.refusal in (Refusal.NOT_FOUND, Refusal.OTHER)
        may_go_on = theirs and not self._is_refused_content(failure)
        successor = self._successor() if may_go_on else None
        await self._not_taken(attempt, failure, reason, successor)

    async def _not_taken(
        self,
        attempt: Attempt,
        failure: Failure,
        reason: str,
        plan: Plan | None,
        state: AttemptState = AttemptState.REFUSED,
    ) -> None:
        """Upstream never took it: try `plan`, else end with the failure, or as was asked for."""
        closed, released = attempts.close(attempt, state, reason, self._around.clock.now())
        if plan and not self._stop.asked:
            try:
                await self._reopen(closed, released, plan)
            except (BudgetExceeded, PriceUnknown) as error:
                failure = error.failure
            else:
                return
        if await self._close_beside(closed, released):
            return
        if self._whole.stop.asked and not (
            reason == Refusal.THROTTLED.value and self._whole.stop.because == DEADLINE
        ):
            failure = self._stopped()
        await self._whole.unsent(self.key, closed, released, failure)
        self._tell_noted()

    # Another model

    def _successor(self, hope: float = 1.0) -> Plan | None:
        """Who takes over from the last model that was tried; None where nobody can, or may.

        Of a usual run `1 / hope` has to be over in what is left of the time.
        """
        nobody = self._whole.has_told or self._whole.stop.asked or not self._has_tries_left()
        left = self._whole.seconds_left()
        if nobody or self._is_refused_content() or left < SHORTEST_RUN:
            return None
        return next_that_fits(self._plans, self._last_tried, left * hope, self._usual)

    @property
    def _last_tried(self) -> str:
        """The model furthest down the chain of which there is an attempt.

        Not that of the attempt that it is at: that may be one that another was sent beside, whose
        model would then be tried, and paid, a second time.
        """
        lane_attempts = attempts.of_lane(self._whole.saved.current, self.key)
        tried = {one.model for one in lane_attempts}
        in_order = (plan.slug for plan in reversed(self._plans))
        return next((slug for slug in in_order if slug in tried), self.attempt.model)

    def _usual(self, plan: Plan) -> float:
        """How long its runs take as a rule: by this gate's own, where there were enough."""
        own = self._around.durations.usual(plan.slug)
        return float(plan.usual_run) if own is None else own

    def _has_tries_left(self) -> bool:
        return len(self._tries()) < MOST_ATTEMPTS and not self._whole.quarantine

    def _tries(self) -> list[Attempt]:
        """The attempts that count: a 429 says that upstream was busy, and nothing else."""
        tries = attempts.of_lane(self._whole.saved.current, self.key)
        return [one for one in tries if one.reason != Refusal.THROTTLED.value]

    @property
    def _is_throttled(self) -> bool:
        """Whether the newest attempt waits because the one before it was answered 429."""
        tries = attempts.of_lane(self._whole.saved.current, self.key)[-2:]
        is_unsent = tries[-1].sent_at is None
        return is_unsent and len(tries) > 1 and tries[0].reason == Refusal.THROTTLED.value

    def _is_refused_content(self, *failures: Failure) -> bool:
        """Whether the content must not be sent to another model.

        Also where another output's run was refused: it is the same content.
        """
        if self._whole.after_content_refusal:
            return False
        parts = self._whole.saved.current.parts
        others = (part.failure for part in parts if part.failure is not None)
        return any(map(endings.is_content_failure, (*failures, *others)))

    async def _fall_back(self, attempt: Attempt, ended: End) -> bool:
        """Where the model failed, or its time was over: settle that and let the next one try.

        False: nobody does.
        """
        end, cut = ended.prediction, ended.out_of_time
        if end is None or end.status not in (_FAILED_OR_CUT if cut else _FAILED):
            return False
        if self._whole.may_have_told(end):
            return False
        with crash_marks.marked():
            failure = endings.model_failed(attempt.model, end)
        successor = self._successor()
        if successor is None and cut:
            # It had somebody to follow it when it was cut; to end it took some of the time.
            successor = self._successor(hope=2.0)
        if successor is None or self._is_refused_content(failure):
            return False
        price = self._price or price_json.loads(attempt.price)
        line, basis = settling.reckoned(attempt, end, price, outputs=0)
        is_failed = end.status is PredictionStatus.FAILED
        reason = failure.reason.value if is_failed else OUT_OF_TIME
        now = self._around.clock.now()
        closed = settling.closed(attempt, end, line, reason, now, basis)
        try:
            await self._reopen(closed, line, successor)
        except (BudgetExceeded, PriceUnknown):
            return False  # It does not fit: the failed run is the end.
        count_cost(self._whole.saved.current.modality, closed.model, closed.cost)
        return True

    # In doubt

    async def _await_proof(self) -> None:
        """Until the prediction was found, or proven never to have been made.

        Or, where that was asked for, until another model is sent beside it; or until the one that
        it was sent beside has succeeded.
        """
        self._places.doubted()
        self._looked_for = False
        while self._is_open:
            if self._takes_over and self._beside(self.attempt):
                self._winner = self._takes_over
                self._found = self.found_beside(self._winner)
                return
            if self._looked_for and await self._send_beside():
                return
            self._wake.clear()
            if self._is_open:
                await self._wake.wait()
        if self._found:
            await self._adopt(self._found)
            return
        failure = endings.never_arrived()
        await self._not_taken(
            self.attempt, failure, _NEVER_ARRIVED, self._after_absent(), AttemptState.ABSENT
        )

    @property
    def _is_open(self) -> bool:
        """Whether nothing was found out of the attempt in doubt."""
        return not self._found and not self._absent

    def _after_absent(self) -> Plan | None:
        """Who is sent where a create has never arrived: the next model of the chain.

        What holds one model's creates up may hold up all that are sent for it. Only where there is
        no other model is the same one sent again, a few times.
        """
        if len(self._plans) > 1:
            # Nothing was paid yet: rather one that is only just over in time than none.
            return self._successor() or self._successor(hope=2.0)
        tries = attempts.of_lane(self._whole.saved.current, self.key)
        absent = 1 + sum(other.state is AttemptState.ABSENT for other in tries)
        in_time = self._whole.seconds_left() >= SHORTEST_RUN and self._has_tries_left()
        return self.plan if in_time and absent < MOST_ABSENT else None

    async def _adopt(self, prediction_id: str) -> None:
        """The attempt in doubt is this prediction, unless another has it: then look on."""
        self._answer = None
        state = AttemptState.ACCEPTED
        adopted = replace(self.attempt, state=state, prediction_id=prediction_id)
        try:
            if not await self._places.claim(adopted.id, prediction_id):
                raise AlreadyClaimed(prediction_id)
            await self._whole.saved.commit(
                "adopt",
                lambda record: self._led_by(attempts.with_attempt(record, adopted), adopted),
                claims=(prediction_id,),
            )
        except AlreadyClaimed:
            self._places.unclaim(adopted.id, prediction_id)
            self._found = ""
        self._tell_noted()

    # Following

    async def _follow(self) -> None:
        attempt = self.attempt
        if self._end is None and self._whole.is_unread:
            self._end = End(None, clean=False)
        elif self._end is None:
            self._end = await self._to_the_end(attempt)
        await self._ended(attempt, self._end)

    async def _ended(self, attempt: Attempt, end: End) -> None:
        """A prediction is over: settle it; with it ends the lane, unless somebody goes on."""
        prediction = end.prediction
        has_made = prediction is not None and prediction.status is PredictionStatus.SUCCEEDED
        if not has_made and self._beside(attempt) and not self._must_end(attempt, prediction):
            price = self._price or price_json.loads(attempt.price)
            line, basis = settling.reckoned(attempt, prediction, price, outputs=0)
            now = self._around.clock.now()
            reason = _MADE_BY_ANOTHER if self._takes_over else _GAVE_WAY
            closed = settling.closed(attempt, prediction, line, reason, now, basis)
            if await self._close_beside(closed, line):
                count_cost(self._whole.saved.current.modality, closed.model, closed.cost)
                return
        if not await self._fall_back(attempt, end):
            await self._whole.settle(attempt, end, self._price)

    # Two at a time

    def _must_end(self, attempt: Attempt, prediction: Prediction | None) -> bool:
        """Whether nobody else may make it: something of it was told, or its content is refused."""
        if prediction is None:
            return self._whole.has_told
        with crash_marks.marked():
            failure = endings.model_failed(attempt.model, prediction)
        return self._whole.may_have_told(prediction) or self._is_refused_content(failure)

    def _new_stop(self) -> Stop:
        """Asks for the end of one attempt; the generation's own asks for it as well."""
        stop = self._whole.stop.child()
        stop.tell(self._wake.set)
        return stop

    def _beside(self, attempt: Attempt) -> Attempt | None:
        """The attempt in doubt that this one was sent beside, while it is open."""
        return self._by_id(attempt.beside) if attempt.beside else None

    async def _send_beside(self) -> bool:
        """Open an attempt of the next model, this one being in doubt still: once per output."""
        self._looked_for = False
        tries = attempts.of_lane(self._whole.saved.current, self.key)
        if not self._whole.next_when_unconfirmed or any(one.beside for one in tries):
            return False
        plan = self._successor()
        if plan is None:
            return False
        opened, reserved = attempts.open_attempt(
            self._around, plan, self.key, ordinal=len(tries) + 1, queued=True
        )
        opened = replace(opened, beside=self.attempt.id)

        def change(record: Generation) -> Generation:
            record = attempts.with_attempt(record, opened)
            return attempts.with_plan(record, plan) if self.key == attempts.FIRST_OUTPUT else record

        try:
            await self._whole.saved.commit("reopen", change, (reserved,))
        except (BudgetExceeded, PriceUnknown):
            return False  # Both do not fit: it is waited for.
        telemetry.attempts_beside.inc()
        self._places.opened(opened.id, self)
        # What was found out of the first one meanwhile is not of the second.
        if self._found:
            self.follow_beside(opened.beside, self._found)
        self._found, self._absent = "", False
        self._answer = self._end = None
        self._tell_noted()
        self._places.doubted()
        return True

    async def _close_beside(self, closed: Attempt, line: Entry) -> bool:
        """One of two has ended without an output: go on with the other one. False: there is none.

        That one may be closed as well by a commit that is under way.
        """
        other = self._beside(closed)
        if other is None:
            return False

        def change(record: Generation) -> Generation:
            if all(one.id != other.id or not is_open(one) for one in record.attempts):
                raise NobodyBeside
            return self._led_by(attempts.with_attempt(record, closed), other)

        try:
            await self._whole.saved.commit("reopen", change, (line,))
        except NobodyBeside:
            return False
        self._answer, self._end, self._absent = None, None, False
        self._found, self._takes_over = self.found_beside(other.id), ""
        self._stop = self._new_stop()
        self._tell_noted()
        return True

    async def _to_the_end(self, attempt: Attempt) -> End:
        limit = self._time_limit(attempt)
        reader = self._whole.reader(self.key)
        stop = limit.stop if limit else self._stop
        try:
            ended = await self._follower(attempt, stop).to_the_end(self._known(attempt), reader)
            while ended is None:
                listed = await find_listed(self._around.upstream, attempt, attempt.prediction_id)
                if listed is None:
                    break
                # An end that only the list knows was paid, however late it is seen.
                if not listed.status.is_terminal and self._whole.seconds_left() <= 0:
                    break
                # It is there, and what asks for it by its id does not see it: look on.
                ended = await self._follower(attempt, stop).to_the_end(listed, None)
        finally:
            if limit:
                limit.close()
        is_clean = reader is not None and reader.clean
        return End(ended, is_clean, out_of_time=limit is not None and limit.is_over)

    def _follower(self, attempt: Attempt, stop: Stop) -> Follower:
        return Follower(
            self._around.upstream,
            self._around.clock,
            stop,
            self._wake,
            attempt.model,
            self._progress,
            poll_of(self._whole.saved.current, attempt, self._around.webhook_url),
            is_watched=lambda: self._whole.is_watched,
        )

    def _time_limit(self, attempt: Attempt) -> AttemptLimit | None:
        """What keeps time for the next model of the chain; None where none could take over."""
        if len(self._plans) == 1 or self._whole.has_told or not self._has_tries_left():
            return None
        sent = attempt.sent_at or attempt.created_at
        seconds = (self._whole.saved.current.deadline_at - sent).total_seconds()
        share = time_share(
            self._plans, attempt.model, seconds, shortest=SHORTEST_RUN, usual=self._usual
        )
        if share is None:
            return None
        left = share - (self._around.clock.now() - sent).total_seconds()
        limit = AttemptLimit(self._around.clock, self._stop, left, partial(self._more_time, sent))
        limit.stop.tell(self._wake.set)
        return limit

    def _more_time(self, sent: datetime, last: float) -> tuple[float, float] | None:
        """See AttemptLimit: how long a run goes on whose share is over, and how far it is.

        It is paid, so it is only cut where another model is sent at once.
        """
        left = self._whole.seconds_left()
        if self._beside(self.attempt):
            # Once that is proven absent, the next model may take over.
            return min(SHORTEST_RUN, left), last
        if self._successor() is None:
            return left, last
        progress = self._whole.progress_of(self.key) or 0.0
        if progress <= last:
            return None
        took = (self._around.clock.now() - sent).total_seconds()
        remaining = took * (1 - progress) / progress
        if remaining > left:
            return None
        self._wake.set()  # A look at it, so that the next time it is known how far it came.
        return min(max(1.25 * remaining, SHORTEST_RUN), left), progress

    def _known(self, attempt: Attempt) -> Prediction:
        """What to follow. It is given out: following may take long, and needs little of it."""
        known, self._answer = self._answer, None
        unknown = Prediction(attempt.prediction_id, PredictionStatus.UNKNOWN)
        return known if isinstance(known, Prediction) else unknown

    @property
    def _price(self) -> PriceSchedule | None:
        return self.plan.price if self.plan else None

    # The record

    async def _commit(self, step: str, attempt: Attempt) -> None:
        await self._whole.saved.commit(step, lambda record: attempts.with_attempt(record, attempt))

    def _led_by(self, record: Generation, attempt: Attempt) -> Generation:
        """The record as this attempt's model makes it, where it shows this lane's."""
        plan = self.plan_of(attempt)
        if plan is None or plan.slug == record.model or self.key != attempts.FIRST_OUTPUT:
            return record
        return attempts.with_plan(record, plan)

    async def _reopen(self, closed: Attempt, line: Entry, plan: Plan) -> None:
        """Close the attempt and open the next in one commit.

        Raises BudgetExceeded or PriceUnknown where the next one does not fit; then nothing is done.
        """
        opened, reserved = attempts.open_attempt(
            self._around, plan, self.key, ordinal=closed.ordinal + 1, queued=True
        )
        if self._beside(closed):
            opened = replace(opened, beside=closed.beside)

        def change(record: Generation) -> Generation:
            record = attempts.with_attempt(record, closed, opened)
            leads = self.key == attempts.FIRST_OUTPUT and closed.model != plan.slug
            return attempts.with_plan(record, plan) if leads else record

        await self._whole.saved.commit("reopen", change, (line, reserved))
        self._answer, self._end, self._found, self._absent = None, None, "", False
        self._places.opened(opened.id, self)
        self._tell_noted()

    async def _end_unsent(self, failure: Failure) -> None:
        """The end of a lane whose newest attempt was not sent."""
        await self._not_taken(self.attempt, failure, _NOT_SENT, None)

    def _stopped(self) -> Failure:
        if self._whole.stop.because == DEADLINE and self._is_throttled:
            held = self._around.upstream.seconds_held
            refused = Refused(Refusal.THROTTLED, retry_after=held or None)
            return endings.refused_failure(refused, self.attempt.model)
        return stop_failure(self._whole.saved.current, self._whole.stop.because)
