"""Registry of the generations that run in this process, and of their steps by attempt."""

from collections.abc import Callable, Iterator
from datetime import timedelta

from mediagate_server.generations.change_feed import ChangeFeed
from mediagate_server.generations.execution.generation_run import GenerationRun
from mediagate_server.generations.execution.prediction_claims import PredictionClaims
from mediagate_server.generations.execution.step import Step
from mediagate_server.generations.execution.step_protocols import WebhookReceiver
from mediagate_server.generations.queue_positions import QueuePositions
from mediagate_server.runtime.clock import Clock
from mediagate_server.runtime.notifier import Notifier
from mediagate_server.store.records import Generation, QueuePosition, State
from mediagate_server.structs import replace


class ActiveGenerations:
    """Registry of runs. `unconfirmed` is notified whenever an attempt becomes unconfirmed.

    `feed` is notified whenever a version of a generation becomes durable. `backoff_seconds` gives
    how long no create may be sent now, because upstream has asked for it, `reduced_rate` to how
    many a second upstream has reduced the account, if it has.
    """

    def __init__(
        self,
        creates_per_second: float,
        clock: Clock,
        claims: PredictionClaims,
        feed: ChangeFeed,
        backoff_seconds: Callable[[], float] = lambda: 0.0,
        reduced_rate: Callable[[], float | None] = lambda: None,
    ) -> None:
        self.claims = claims
        self.feed = feed
        self._creates_per_second = creates_per_second
        self._clock = clock
        self._backoff_seconds = backoff_seconds
        self._reduced_rate = reduced_rate
        self.queue = QueuePositions(clock)
        """Attempts that wait for the account's rate."""
        self._runs: dict[str, GenerationRun] = {}
        self._steps: dict[str, WebhookReceiver] = {}
        self.unconfirmed = Notifier()
        self.draining = False

    def __iter__(self) -> Iterator[GenerationRun]:
        return iter(tuple(self._runs.values()))

    def get(self, generation_id: str) -> GenerationRun | None:
        """A generation that runs here."""
        return self._runs.get(generation_id)

    def add(self, run: GenerationRun) -> None:
        """It runs here from now on."""
        self._runs[run.record.id] = run

    def remove(self, run: GenerationRun) -> None:
        """It runs here no more."""
        self._runs.pop(run.record.id, None)
        for attempt in run.record.attempts:
            self._steps.pop(attempt.id, None)
        self.claims.forget(run.record.attempts)

    def steps(self) -> Iterator[Step]:
        """All steps of all that run here."""
        for run in self:
            yield from run.steps

    def step_of(self, attempt_id: str) -> WebhookReceiver | None:
        """The step that an attempt belongs to."""
        return self._steps.get(attempt_id)

    def drain(self) -> None:
        """All who wait are to go."""
        self.draining = True
        for run in self:
            run.drain()
        self.feed.drain()

    def with_queue_position(self, record: Generation) -> Generation:
        """The record to be shown: while it waits, with its place in the queue."""
        if record.state is not State.QUEUED:
            return record
        position = self.queue.position(attempt.id for attempt in record.attempts)
        if position is None:
            return record
        rate, before = self._creates_per_second, position
        if reduced := self._reduced_rate():
            rate, before = reduced, position - 1  # The first goes as soon as the wait is over.
        seconds = self._backoff_seconds() + before / rate
        at = self._clock.now() + timedelta(seconds=seconds)
        return replace(record, queue_position=QueuePosition(position, at, seconds))

    # What steps need of it: step_protocols.StepRegistry

    async def claim(self, attempt_id: str, prediction_id: str) -> bool:
        """Claim a prediction for an attempt; False where it is another's."""
        return await self.claims.claim(attempt_id, prediction_id)

    def unclaim(self, attempt_id: str, prediction_id: str) -> None:
        """Release a claim: the prediction is another's after all."""
        self.claims.release_claim(attempt_id, prediction_id)

    def enqueue(self, attempt_id: str, tenant: str, *, again: bool = False) -> None:
        """Add an attempt to the queue of its tenant; `again`: ahead of the others."""
        self.queue.add(attempt_id, tenant, first=again)

    def dequeue(self, attempt_id: str) -> None:
        """Remove an attempt from the queue."""
        self.queue.remove(attempt_id)

    def register(self, attempt_id: str, step: WebhookReceiver) -> None:
        """Register the step that an attempt belongs to."""
        self._steps[attempt_id] = step

    def on_unconfirmed(self) -> None:
        """Wake the sweeper: an attempt is unconfirmed."""
        self.unconfirmed.notify()

    def notify(self, tenant: str) -> None:
        """Publish a new durable version to the tenant's change feed."""
        self.feed.publish(tenant)
