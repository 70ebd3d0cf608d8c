"""Late predictions: they turned up after their attempt was declared absent, and were paid unwanted.

By the rules this needs an upstream that hides a prediction from its own list for minutes. Still it
is real money: it is cancelled, settled on its terminal record, and an alarm is raised.

Likewise those whose output another attempt makes, because the caller would rather pay twice than
wait: followed while that one has not succeeded, then cancelled and settled. That is no alarm.
"""

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Final

import structlog

from mediagate_server.catalog.pricing import prices
from mediagate_server.errors import StaleOwner, StoreUnavailable
from mediagate_server.generations import metrics as tally
from mediagate_server.generations.active_generations import ActiveGenerations
from mediagate_server.generations.dependencies import EngineDeps
from mediagate_server.generations.execution.step import Step
from mediagate_server.generations.execution.versioned_record import VersionedRecord
from mediagate_server.generations.matching.prediction_list import find_in_list
from mediagate_server.generations.streaming.prediction_follower import (
    PollInterval,
    PredictionFollower,
)
from mediagate_server.generations.transitions import attempts, settlement
from mediagate_server.observability import metrics
from mediagate_server.observability.bug_report import BackgroundJob
from mediagate_server.runtime import crash_marks
from mediagate_server.runtime.cancellation import CancelToken, PredictionNews
from mediagate_server.runtime.notifier import Notifier
from mediagate_server.store.generations import PredictionAlreadyClaimed, StaleWrite
from mediagate_server.store.records import Attempt, AttemptState, Generation, LedgerEntry
from mediagate_server.structs import replace
from mediagate_server.upstream.port import Prediction, PredictionStatus

_log = structlog.get_logger()
_PAUSE: Final = 1.0
_UNWANTED: Final = "it was declared absent"
_MADE_BY_ANOTHER: Final = "another attempt made it"
_FAILED: Final = "failed"
_NEVER_ARRIVED: Final = "never arrived"
_UNSETTLED: Final = attempts.NEVER_ACCEPTED | {AttemptState.UNCONFIRMED}


class _StepIsCurrent(Exception):
    """Its step is at this attempt by now, and settles it."""


class LatePredictions:
    """Those that are being settled now. `supervise` does what it is given until that is done."""

    def __init__(
        self,
        deps: EngineDeps,
        registry: ActiveGenerations,
        supervise: Callable[[BackgroundJob, Callable[[], Awaitable[None]]], None],
    ) -> None:
        self._deps = deps
        self._registry = registry
        self._supervise = supervise
        self._attempts: dict[str, Notifier] = {}
        self._predictions: dict[str, str] = {}

    def has(self, attempt_id: str) -> bool:
        """Whether this attempt has turned up already."""
        return attempt_id in self._attempts

    async def claimed(self, predictions: Iterable[str]) -> set[str]:
        """Predictions that some attempt has, written down or not: of these, and others that are
        known here. Whoever is sending meanwhile may come to hold one more of them.
        """
        # Known here before the store is asked: whoever leaves meanwhile is written down there. And
        # after it: whoever is told meanwhile which one is its own has not written it down yet.
        before = self._known_predictions()
        return (
            before
            | await self._deps.store.claimed_predictions(predictions)
            | self._known_predictions()
        )

    def _known_predictions(self) -> set[str]:
        found = {name for step in self._registry.steps() for name in step.unrecorded_predictions}
        found.update(self._predictions.values())
        found.update(
            self._registry.process.claims.pending
        )  # Answered, and looked up in the store right now.
        for run in self._registry:
            found.update(attempt.prediction_id for attempt in run.record.attempts)
        return found

    async def settled(self, attempt_id: str) -> None:
        """Until one that has turned up is settled, durably."""
        if settled := self._attempts.get(attempt_id):
            await settled.wait()

    def stop_and_settle(self, attempt: Attempt, record: Generation, prediction_id: str) -> None:
        """An absent attempt has turned up: stop it, settle it, tell of it."""
        if self.has(attempt.id):
            return
        self._start(attempt, prediction_id)
        metrics.attempts_late.inc()
        _log.error(
            "late_prediction_found",
            id=record.id,
            attempt=attempt.id,
            prediction=prediction_id,
        )
        stop = CancelToken(_UNWANTED)
        self._supervise(
            BackgroundJob.LATE_PREDICTION,
            partial(self._settle, attempt, record, prediction_id, stop),
        )

    def follow(self, attempt: Attempt, record: Generation, prediction_id: str) -> None:
        """An attempt in doubt, whose output another one makes, is this prediction."""
        if self.has(attempt.id):
            return
        step = self._current_step(record, attempt)
        self._start(attempt, prediction_id)
        metrics.attempts_matched.labels("list").inc()
        stop = CancelToken(_MADE_BY_ANOTHER) if step is None else step.ended.child()
        if step is not None:
            step.record_superseded_match(attempt.id, prediction_id)
        self._supervise(
            BackgroundJob.LATE_PREDICTION,
            partial(self._settle, attempt, record, prediction_id, stop),
        )

    def release(self, attempt: Attempt, record: Generation) -> None:
        """An attempt in doubt, whose output another one makes, has never reached upstream."""
        if self.has(attempt.id):
            return
        self._start(attempt, "")
        self._supervise(BackgroundJob.LATE_PREDICTION, partial(self._release, attempt, record))

    def _start(self, attempt: Attempt, prediction_id: str) -> None:
        self._attempts[attempt.id] = Notifier()
        if prediction_id:
            self._predictions[attempt.id] = prediction_id

    def _finish(self, attempt: Attempt) -> None:
        self._predictions.pop(attempt.id, None)
        self._attempts.pop(attempt.id).notify()

    def _current_step(self, record: Generation, attempt: Attempt) -> Step | None:
        """The step of an attempt, while it has not ended."""
        run, key = self._registry.get(record.id), attempts.step_key(attempt)
        if run is None or attempts.has_step_ended(run.record, key):
            return None
        return next((step for step in run.steps if step.key == key), None)

    async def _release(self, attempt: Attempt, record: Generation) -> None:
        now = self._deps.clock.now()
        closed, line = attempts.close_attempt(attempt, AttemptState.ABSENT, _NEVER_ARRIVED, now)
        while not await self._write(record, closed, line):
            await self._deps.clock.wait(Notifier(), _PAUSE)
        self._finish(attempt)

    async def _settle(
        self, attempt: Attempt, record: Generation, prediction_id: str, stop: CancelToken
    ) -> None:
        if marks := self._deps.crash_marks:
            handling = marks.mark(record.id)
            handling.skips_output = True  # Nobody gets it.
            crash_marks.CURRENT_MARK.set(handling)
        follower = PredictionFollower(
            self._deps.upstream,
            self._deps.clock,
            stop,
            PredictionNews(self._deps.clock),
            attempt.model,
            lambda _: None,
            PollInterval.SHORT,
        )
        end = await follower.follow(Prediction(prediction_id, PredictionStatus.UNKNOWN), None)
        if end is None:
            listed = await find_in_list(self._deps.upstream, attempt, prediction_id)
            end = listed if listed and listed.status.is_terminal else None
        step = self._current_step(record, attempt)
        succeeded = end is not None and end.status is PredictionStatus.SUCCEEDED
        if stop.reason != _UNWANTED and step and succeeded and step.switch_to_attempt(attempt.id):
            self._finish(attempt)
            return
        price = prices.load_price(attempt.price)
        entry, basis = settlement.settlement_entry(attempt, end, price, outputs=0)
        now = self._deps.clock.now()
        closed = replace(
            settlement.end_attempt(attempt, end, entry, stop.reason or _FAILED, now, basis),
            prediction_id=prediction_id,
        )
        while not await self._write(record, closed, entry):
            await self._deps.clock.wait(Notifier(), _PAUSE)
        self._finish(attempt)

    async def _write(self, record: Generation, closed: Attempt, entry: LedgerEntry) -> bool:
        """Into the generation as it stands, whether it runs here or is over. False: try again."""
        try:
            saved = await self._saved(record, closed.id)
            if saved is None:
                return True
            await saved.commit(
                "overrun",
                partial(_with_closed, closed),
                (entry,),
                claims=(closed.prediction_id,) if closed.prediction_id else (),
            )
        except _StepIsCurrent:
            return True
        except StaleOwner:
            raise  # It is its new owner's to settle.
        except (StoreUnavailable, StaleWrite):
            return False
        except PredictionAlreadyClaimed:
            return True  # It was another attempt's after all.
        tally.record_cost(record.modality, closed.model, closed.cost)
        return True

    async def _saved(self, record: Generation, attempt_id: str) -> VersionedRecord | None:
        """Where it is written; None: it was erased, or is settled already.

        A sweep that began before an overrun was settled may find the same one again after it.
        """
        run = self._registry.get(record.id)
        now = run.record if run else await self._deps.store.get(record.tenant, record.id)
        if now is None or all(
            one.id != attempt_id or one.state not in _UNSETTLED for one in now.attempts
        ):
            return None
        if run:
            return run.saved
        return VersionedRecord(
            self._deps.store,
            self._deps.clock,
            now,
            lambda: None,
            partial(self._registry.feed.publish, now.tenant),
        )


def _with_closed(closed: Attempt, record: Generation) -> Generation:
    """The record with this attempt at its end; raises where its step is at it."""
    key = attempts.step_key(closed)
    was = next(one for one in record.attempts if one.id == closed.id)
    is_awaited = was.state in attempts.OPEN_STATES and not attempts.has_step_ended(record, key)
    if is_awaited and attempts.current_attempt(record, key).id == closed.id:
        raise _StepIsCurrent
    return attempts.with_attempt(record, closed)
