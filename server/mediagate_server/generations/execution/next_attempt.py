"""Choice of the next attempt of a step: whether one follows on the last, and by which model.

For attempts that were refused, have failed, never arrived, or are over their time. Reads the record
and the clock and changes nothing, so that each rule can be tested without a run.
"""

from typing import Final

from mediagate_server.catalog.planning.fallback import model_time_share, next_fallback
from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.errors import Failure
from mediagate_server.generations.dependencies import MAX_ATTEMPTS, MIN_RUN_SECONDS
from mediagate_server.generations.execution.run_context import RunContext
from mediagate_server.generations.transitions import attempts, failures
from mediagate_server.generations.transitions.attempts import StepKey
from mediagate_server.store.records import Attempt, AttemptState
from mediagate_server.upstream.port import RefusalReason

MAX_ABSENT_ATTEMPTS: Final = 3
"""Creates of a model without a successor that may be proven never to have arrived."""
_SHORT_OF_TIME: Final = 2.0
"""Of a usual run half has to fit where nobody else is left."""


class NextAttempt:
    """The rules of one step. `plans` are its chain of models, in order."""

    __slots__ = ("_context", "_key", "_plans")

    def __init__(self, context: RunContext, key: StepKey, plans: tuple[Plan, ...]) -> None:
        self._context = context
        self._key = key
        self._plans = plans

    def fallback(self, attempt: Attempt, *, hope: float = 1.0) -> Plan | None:
        """The next model of the chain; None where there is none, or none may follow.

        `attempt` is the one that the step is at. Of a usual run `1 / hope` has to be over in what
        is left of the time.
        """
        context, left = self._context, self._context.seconds_left
        if context.has_streamed or context.cancel.is_cancelled or not self.has_attempts_left:
            return None
        if self.is_refused_content() or left < MIN_RUN_SECONDS:
            return None
        last = self._last_attempted_model(attempt)
        return next_fallback(self._plans, last, left * hope, self._usual_duration)

    def fallback_in_haste(self, attempt: Attempt) -> Plan | None:
        """The same, rather one that is only just over in time than none."""
        return self.fallback(attempt) or self.fallback(attempt, hope=_SHORT_OF_TIME)

    def after_absent(self, attempt: Attempt, plan: Plan | None) -> Plan | None:
        """Who is sent where a create has never arrived: the next model of the chain.

        What holds one model's creates up may hold up all that are sent for it. Only where there is
        no other model is the same one sent again, a few times.
        """
        if len(self._plans) > 1:
            return self.fallback_in_haste(attempt)  # Nothing was paid yet.
        absent = 1 + sum(each.state is AttemptState.ABSENT for each in self._attempts)
        in_time = self._context.seconds_left >= MIN_RUN_SECONDS and self.has_attempts_left
        return plan if in_time and absent < MAX_ABSENT_ATTEMPTS else None

    @property
    def has_attempts_left(self) -> bool:
        """Whether one more create may be sent."""
        return len(self._counted) < MAX_ATTEMPTS and not self._context.quarantine_failure

    def attempts_of_model(self, model: str) -> int:
        """How many creates were sent for this model."""
        return sum(each.model == model for each in self._counted)

    @property
    def is_throttled(self) -> bool:
        """Whether the newest attempt waits because the one before it was answered 429."""
        newest = self._attempts[-2:]
        is_unsent = newest[-1].sent_at is None
        return is_unsent and len(newest) > 1 and newest[0].reason == RefusalReason.THROTTLED.value

    def is_refused_content(self, *own: Failure) -> bool:
        """Whether the content must not be sent to another model.

        Also where another output's run was refused: it is the same content.
        """
        if self._context.plan.after_content_refusal:
            return False
        outcomes = self._context.record.current.step_outcomes
        others = (outcome.failure for outcome in outcomes if outcome.failure is not None)
        return any(map(failures.is_content_failure, (*own, *others)))

    def seconds_for(self, attempt: Attempt) -> float | None:
        """Its share of the timeout, from its send on; None: all, nobody could follow it."""
        if len(self._plans) == 1 or self._context.has_streamed or not self.has_attempts_left:
            return None
        sent = attempt.sent_at or attempt.created_at
        return model_time_share(
            self._plans,
            attempt.model,
            (self._context.record.current.deadline_at - sent).total_seconds(),
            shortest=MIN_RUN_SECONDS,
            duration_of=self._usual_duration,
        )

    @property
    def _attempts(self) -> tuple[Attempt, ...]:
        return attempts.attempts_of_step(self._context.record.current, self._key)

    @property
    def _counted(self) -> list[Attempt]:
        """The attempts that count: a 429 says that upstream was busy, and nothing else."""
        return [each for each in self._attempts if each.reason != RefusalReason.THROTTLED.value]

    def _last_attempted_model(self, attempt: Attempt) -> str:
        """The model furthest down the chain of which there is an attempt.

        Not that of the attempt that the step is at: that may be one that another was sent beside,
        whose model would then be tried, and paid, a second time.
        """
        tried = {each.model for each in self._attempts}
        in_order = (plan.slug for plan in reversed(self._plans))
        return next((slug for slug in in_order if slug in tried), attempt.model)

    def _usual_duration(self, plan: Plan) -> float:
        """How long its runs take as a rule: by this server's own, where there were enough."""
        own = self._context.deps.run_durations.usual(plan.slug)
        return float(plan.usual_run) if own is None else own
