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
from dataclasses import replace

from mediagate_server import telemetry
from mediagate_server.catalog.plan import Plan
from mediagate_server.catalog.prices import PriceSchedule
from mediagate_server.errors import CircuitOpen, Failure
from mediagate_server.generations import attempts, endings
from mediagate_server.generations.attempts import LaneKey
from mediagate_server.generations.doors import MOST_ATTEMPTS, SHORTEST_RUN, Surroundings
from mediagate_server.generations.finish import stop_failure
from mediagate_server.generations.follow import Follower, Poll
from mediagate_server.generations.posting import Answer, Posting
from mediagate_server.generations.whole import Doubt, End, Places, Whole
from mediagate_server.replicate.port import Prediction, PredictionStatus, Refused
from mediagate_server.store.port import AlreadyClaimed
from mediagate_server.store.records import Attempt, AttemptState, Generation

_NEVER_ARRIVED = "never arrived"


class Lane:
    """One (purpose, output) of a generation. `plans` are tried in order; none: not known any more.

    `may_send` names the attempt that was made SUBMITTING for this very process to send.
    """

    def __init__(
        self,
        whole: Whole,
        around: Surroundings,
        places: Places,
        key: LaneKey,
        plans: tuple[Plan, ...],
        *,
        may_send: str = "",
    ) -> None:
        self._whole = whole
        self._around = around
        self._places = places
        self.key = key
        self._plans = plans
        self._posting = Posting(around, may_send)
        self._answer: Answer | None = None
        self._end: End | None = None
        self._not_before = 0.0
        self._found = ""
        self._absent = False
        self._wake = asyncio.Event()
        whole.stop.tell(self._wake.set)
        for attempt in attempts.of_lane(whole.saved.current, key):
            places.opened(attempt.id, self)

    @property
    def attempt(self) -> Attempt:
        """The newest attempt."""
        return attempts.newest(self._whole.saved.current, self.key)

    @property
    def plan(self) -> Plan | None:
        """What the newest attempt sends."""
        return self.plan_of(self.attempt)

    def plan_of(self, attempt: Attempt) -> Plan | None:
        """See HintTaker."""
        return next((plan for plan in self._plans if plan.slug == attempt.model), None)

    async def run(self) -> None:
        """To its end, from wherever it stands. Called again after StoreUnavailable."""
        steps = {
            AttemptState.QUEUED: self._take_turn,
            AttemptState.SUBMITTING: self._send,
            AttemptState.UNCONFIRMED: self._await_proof,
            AttemptState.ACCEPTED: self._follow,
        }
        while step := steps.get(self.attempt.state):
            await step()

    # What others know of it

    @property
    def is_sending(self) -> bool:
        """True while a create is about to be sent, or its answer awaited.

        With the process the answer would be lost.
        """
        return self._posting.under_way or self._posting.may_send == self.attempt.id

    def in_doubt(self) -> Doubt | None:
        """What to look for, while the attempt is in doubt and nothing was found out."""
        if self.attempt.state is not AttemptState.UNCONFIRMED or self._found or self._absent:
            return None
        return Doubt(self.attempt, self.plan)

    @property
    def hinted(self) -> str:
        """The prediction that this lane was told is its own, and has not yet written down."""
        return self._found

    def sending(self) -> Doubt | None:
        """What upstream may already show, though its answer has not come yet."""
        return Doubt(self.attempt, self.plan) if self._posting.under_way else None

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

    def found(self, prediction_id: str) -> None:
        """The attempt in doubt is this prediction."""
        self._found = prediction_id
        self._wake.set()

    def proven_absent(self) -> None:
        """The attempt in doubt never reached upstream."""
        self._absent = True
        self._wake.set()

    # Submitting

    async def _take_turn(self) -> None:
        """Wait for the account's rate, then hold the right to send, durably."""
        plan = self.plan
        if plan is None:
            await self._end_unsent(endings.not_kept())
            return
        try:
            if not await self._whole.stop.interrupts(self._turn(plan)):
                await self._end_unsent(self._stopped())
                return
        except CircuitOpen as error:
            await self._end_unsent(error.failure)
            return
        attempt = replace(
            self.attempt, state=AttemptState.SUBMITTING, sent_at=self._around.clock.now()
        )
        await self._commit("submitting", attempt)
        self._posting.may_send = attempt.id

    async def _turn(self, plan: Plan) -> None:
        if self._not_before:
            await self._around.clock.wait(asyncio.Event(), self._not_before)
            self._not_before = 0.0
        await self._around.upstream.admit(plan.slug)
        if self._whole.draining:
            await asyncio.Event().wait()  # The next process sends it.

    async def _send(self) -> None:
        attempt, plan = self.attempt, self.plan
        if self._posting.may_send == attempt.id and plan is not None:
            await self._posting.hold_the_lease()
            if self._whole.stop.asked:
                await self._end_unsent(self._stopped())
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
            await self._commit("unconfirmed", replace(attempt, state=AttemptState.UNCONFIRMED))

    async def _taken(self, attempt: Attempt, prediction: Prediction) -> None:
        """Upstream took it. The commit goes on its way; nothing waits for it but the next one."""
        taken = replace(attempt, state=AttemptState.ACCEPTED, prediction_id=prediction.id)
        self._answer, self._found = prediction, ""
        if prediction.status.is_terminal:
            # The settling commit writes all of it at once.
            await self._whole.settle(taken, End(prediction, clean=False), self._price)
            return
        self._whole.saved.tell(lambda record: attempts.with_attempt(record, taken), step="accepted")
        self._whole.progress(prediction)

    async def _refused(self, attempt: Attempt, refused: Refused) -> None:
        """A definite no: another attempt where that may help, else the end."""
        reason = refused.refusal.value
        tries = attempts.of_lane(self._whole.saved.current, self.key)
        same_model = sum(other.model == attempt.model for other in tries)
        delay = self._around.policy.delay_before_retry(refused, same_model)
        again = delay is not None and delay < self._whole.seconds_left()
        if again and len(tries) < MOST_ATTEMPTS and not self._whole.stop.asked and self.plan:
            await self._reopen(attempt, AttemptState.REFUSED, reason, self.plan)
            self._not_before = delay or 0.0
            return
        failure = (
            self._stopped()
            if self._whole.stop.asked
            else endings.refused_failure(refused, attempt.model)
        )
        await self._end_unsent(failure, reason=reason)

    # In doubt

    async def _await_proof(self) -> None:
        """Until the prediction was found, or proven never to have been made."""
        self._places.doubted()
        while not self._found and not self._absent:
            self._wake.clear()
            await self._wake.wait()
        attempt = self.attempt
        if self._found:
            await self._adopt(replace(attempt, prediction_id=self._found))
            return
        if self._may_try_again() and self.plan:
            await self._reopen(attempt, AttemptState.ABSENT, _NEVER_ARRIVED, self.plan)
        else:
            failure = self._stopped() if self._whole.stop.asked else endings.never_arrived()
            await self._end_unsent(failure, AttemptState.ABSENT, _NEVER_ARRIVED)

    async def _adopt(self, attempt: Attempt) -> None:
        """The attempt in doubt is this prediction, unless another has it: then look on."""
        self._answer = None
        adopted = replace(attempt, state=AttemptState.ACCEPTED)
        try:
            await self._commit("adopt", adopted, claims=(adopted.prediction_id,))
        except AlreadyClaimed:
            self._found = ""

    def _may_try_again(self) -> bool:
        tries = attempts.of_lane(self._whole.saved.current, self.key)
        return (
            len(tries) < MOST_ATTEMPTS
            and not self._whole.stop.asked
            and self._whole.seconds_left() >= SHORTEST_RUN
        )

    # Following

    async def _follow(self) -> None:
        attempt = self.attempt
        if self._end is None:
            known = self._answer if isinstance(self._answer, Prediction) else None
            prediction = known or Prediction(attempt.prediction_id, PredictionStatus.UNKNOWN)
            reader = self._whole.reader(self.key)
            follower = Follower(
                self._around.upstream,
                self._around.clock,
                self._whole.stop,
                self._wake,
                attempt.model,
                self._whole.progress,
                self._poll(attempt),
            )
            ended = await follower.to_the_end(prediction, reader)
            self._end = End(ended, reader is not None and reader.clean)
        await self._whole.settle(attempt, self._end, self._price)

    @property
    def _price(self) -> PriceSchedule | None:
        return self.plan.price if self.plan else None

    def _poll(self, attempt: Attempt) -> tuple[float, float]:
        if self._whole.saved.current.modality != "video":
            return Poll.SHORT
        return Poll.TOLD if self._around.webhook_url(attempt.id) else Poll.MINUTES

    # The record

    async def _commit(self, step: str, attempt: Attempt, *, claims: tuple[str, ...] = ()) -> None:
        await self._whole.saved.commit(
            step, lambda record: attempts.with_attempt(record, attempt), claims=claims
        )

    async def _reopen(self, old: Attempt, state: AttemptState, reason: str, plan: Plan) -> None:
        """Close the attempt and open the next in one commit."""
        closed, released = attempts.close(old, state, reason, self._around.clock.now())
        opened, reserved = attempts.open_attempt(
            self._around, plan, self.key, ordinal=old.ordinal + 1, queued=True
        )

        def change(record: Generation) -> Generation:
            record = attempts.with_attempt(record, closed, opened)
            return record if record.model == plan.slug else attempts.with_plan(record, plan)

        await self._whole.saved.commit("reopen", change, (released, reserved))
        self._answer, self._end, self._found, self._absent = None, None, "", False
        self._places.opened(opened.id, self)

    async def _end_unsent(
        self,
        failure: Failure,
        state: AttemptState = AttemptState.REFUSED,
        reason: str = "not sent",
    ) -> None:
        closed, released = attempts.close(self.attempt, state, reason, self._around.clock.now())
        await self._whole.unsent(self.key, closed, released, failure)

    def _stopped(self) -> Failure:
        return stop_failure(self._whole.saved.current, self._whole.stop.because)
