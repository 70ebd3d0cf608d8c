"""Registry of the generations that run in this process, and of their steps by attempt."""

from collections.abc import Callable, Iterator
from datetime import timedelta

from mediagate_server.generations.change_feed import ChangeFeed
from mediagate_server.generations.execution.generation_run import GenerationRun
from mediagate_server.generations.execution.prediction_claims import PredictionClaims
from mediagate_server.generations.execution.run_context import ProcessState
from mediagate_server.generations.execution.step import Step
from mediagate_server.generations.queue_positions import QueuePositions
from mediagate_server.runtime.clock import Clock
from mediagate_server.store.records import Generation, QueuePosition, State
from mediagate_server.structs import replace


class ActiveGenerations:
    """Registry of runs, and what they share.

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
        self.process = ProcessState(claims, QueuePositions(clock), feed.publish)
        self.feed = feed
        self._creates_per_second = creates_per_second
        self._clock = clock
        self._backoff_seconds = backoff_seconds
        self._reduced_rate = reduced_rate
        self._runs: dict[str, GenerationRun] = {}
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
            self.process.generation_ids.pop(attempt.id, None)
        self.process.claims.forget(run.record.attempts)

    def steps(self) -> Iterator[Step]:
        """All steps of all that run here."""
        for run in self:
            yield from run.steps

    def step_of(self, attempt_id: str) -> Step | None:
        """The step that an attempt belongs to."""
        run = self._runs.get(self.process.generation_ids.get(attempt_id, ""))
        return run.step_of(attempt_id) if run else None

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
        position = self.process.queue.position(attempt.id for attempt in record.attempts)
        if position is None:
            return record
        rate, before = self._creates_per_second, position
        if reduced := self._reduced_rate():
            rate, before = reduced, position - 1  # The first goes as soon as the wait is over.
        seconds = self._backoff_seconds() + before / rate
        at = self._clock.now() + timedelta(seconds=seconds)
        return replace(record, queue_position=QueuePosition(position, at, seconds))
