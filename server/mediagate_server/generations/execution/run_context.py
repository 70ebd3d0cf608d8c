"""Context of a run: what it shares with its steps, made by the run and handed down.

Data and pure reads only: nothing in it awaits, commits, or calls a run or a step.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from mediagate_server.errors import Failure
from mediagate_server.generations.dependencies import EngineDeps
from mediagate_server.generations.execution.attached_callers import AttachedCallers
from mediagate_server.generations.execution.execution_plan import ExecutionPlan
from mediagate_server.generations.execution.large_output_reader import is_large
from mediagate_server.generations.execution.log_progress import RunProgress
from mediagate_server.generations.execution.prediction_claims import PredictionClaims
from mediagate_server.generations.execution.quarantine import Quarantine
from mediagate_server.generations.execution.versioned_record import VersionedRecord
from mediagate_server.generations.queue_positions import QueuePositions
from mediagate_server.generations.streaming.checkpoints import STREAMING_METHODS
from mediagate_server.generations.streaming.generated_text import GeneratedText
from mediagate_server.generations.transitions import failures, prediction_usage
from mediagate_server.generations.transitions.step_spec import StepSpec, step_spec
from mediagate_server.runtime.cancellation import CancelToken
from mediagate_server.runtime.notifier import Notifier
from mediagate_server.store.records import Attempt
from mediagate_server.upstream.port import Prediction


@dataclass(slots=True)
class ProcessState:
    """What all runs of this process share.

    `queue` has the attempts that wait for the account's rate. `publish_change` gets the tenant of
    each generation of which a version becomes durable. `unconfirmed` is notified whenever an
    attempt becomes unconfirmed. `generation_ids` has those of the generations that run here, by
    the ids of their attempts.
    """

    claims: PredictionClaims
    queue: QueuePositions
    publish_change: Callable[[str], None]
    unconfirmed: Notifier = field(default_factory=Notifier)
    generation_ids: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class RunContext:
    """One run's. `record` and `plan` are replaced where it begins anew from what is stored, so they
    are to be read here each time.

    `plan` is what it has still to send, as far as that is known. `screened` is notified once the
    screening, if there is one, has ended. `recovered`: an earlier process accepted it. `draining`:
    the next process goes on with it. `watchers` is how many watch each change.
    """

    deps: EngineDeps
    process: ProcessState
    record: VersionedRecord
    plan: ExecutionPlan
    cancel: CancelToken
    callers: AttachedCallers
    text: GeneratedText
    progress: RunProgress
    screened: Notifier
    quarantine: Quarantine
    recovered: bool = False
    draining: bool = False
    watchers: int = 0

    @property
    def seconds_left(self) -> float:
        """Until its timeout is over; may be negative."""
        return (self.record.current.deadline_at - self.deps.clock.now()).total_seconds()

    def step_spec(self, attempt: Attempt) -> StepSpec:
        """What the step of an attempt is to make, and how its output is read."""
        return step_spec(self.record.current, attempt, self.plan.plan_of(attempt))

    @property
    def quarantine_failure(self) -> Failure | None:
        """The failure that a quarantined generation ends with; None: it is in no quarantine."""
        if not self.quarantine.level:
            return None
        return failures.quarantine_failure(self.record.current.model, self.quarantine.cause)

    @property
    def has_streamed(self) -> bool:
        """Whether callers have got something of the output: then there is no fallback."""
        return bool(self.text.buffer.sequence)

    def may_have_streamed(self, end: Prediction) -> bool:
        """The same of a prediction that failed, if need be from an earlier process.

        That may have streamed a little more than its checkpoints have.
        """
        method = self.record.current.method
        if self.has_streamed or not self.recovered or method not in STREAMING_METHODS:
            return self.has_streamed
        has_text = is_large(end) or prediction_usage.output_text(end.output)
        return bool(has_text or prediction_usage.usage_from(end).output_tokens)
