"""Sweeper of unconfirmed creates: finds those whose answers were lost in upstream's list.

An attempt in doubt is confirmed where the list has it. It is declared absent only where the list,
read to its end, did not have it in two sweeps that began when its answer could not come any more.
Where upstream's API itself has said that the create failed, nothing is on its way any more: two
sweeps prove it of which the last began a while after that.
What was declared absent is looked for a while longer: should it turn up, it was paid.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog

from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.errors import StoreUnavailable
from mediagate_server.generations.active_generations import ActiveGenerations
from mediagate_server.generations.dependencies import EngineDeps, EngineTimeouts
from mediagate_server.generations.execution import execution_plan
from mediagate_server.generations.execution.step import Step
from mediagate_server.generations.matching.prediction_list import ListUnavailable, list_pages
from mediagate_server.generations.matching.prediction_matcher import (
    CreationWindow,
    UnconfirmedAttempt,
    match_predictions,
    matches,
    may_match,
    without_media,
)
from mediagate_server.generations.recovery.late_predictions import LatePredictions
from mediagate_server.generations.transitions import attempts
from mediagate_server.observability import metrics
from mediagate_server.observability.bug_report import BackgroundJob, report_bug
from mediagate_server.runtime.notifier import Notifier
from mediagate_server.store.records import Attempt, AttemptState, Generation
from mediagate_server.structs import replace
from mediagate_server.upstream.port import Prediction

_log = structlog.get_logger()

MIN_EMPTY_SWEEPS: Final = 2
"""Complete sweeps without a match that prove an attempt absent."""

_SHORTEST_PAUSE: Final = 0.02
"""Seconds, so that a timer that is early by nothing does not make for another list."""

LATE_WINDOW: Final = timedelta(minutes=15)
"""How long after it was sent an absent attempt is still looked for."""


@dataclass(frozen=True, slots=True)
class ListedPredictions:
    """Predictions in upstream's list of a period of time; `complete`: all of them."""

    predictions: tuple[Prediction, ...]
    complete: bool


@dataclass(slots=True)
class _Sweep:
    """One look at the list. `steps` are in doubt, by attempt; `late` was declared absent before;
    `unawaited` are in doubt, and another attempt makes their output, or has made it.
    """

    begun: datetime
    steps: dict[str, Step]
    unconfirmed: dict[str, UnconfirmedAttempt]
    late: dict[str, tuple[UnconfirmedAttempt, Generation]]
    unawaited: dict[str, tuple[UnconfirmedAttempt, Generation]]
    listed: ListedPredictions = field(default_factory=lambda: ListedPredictions((), complete=False))


class UnconfirmedSweeper:
    """Sweeps for as long as it is run."""

    def __init__(
        self, deps: EngineDeps, registry: ActiveGenerations, late_predictions: LatePredictions
    ) -> None:
        self._deps = deps
        self._registry = registry
        self._late_predictions = late_predictions
        self._barren: dict[str, int] = {}
        self._is_read = True
        """Whether the last sweep could read the complete list."""
        self._late_plans: dict[str, Plan | None] = {}
        """What was sent for those that no step is at: their generations may be over."""
        self._undecidable: set[str] = set()
        """Attempts in doubt of which it was logged that their input is not known any more."""
        self._exchanged: dict[str, tuple[datetime, datetime]] = {}
        """Of attempts that others may have taken the prediction of: when all of them were sent."""

    async def run_forever(self) -> None:
        """A sweep soon after any new doubt, else every `timing.sweep` seconds."""
        clock, timing = self._deps.clock, self._deps.timeouts
        pause, news, seen = timing.sweep, self._registry.process.unconfirmed, 0
        while True:
            seconds = min(pause, self._seconds_until_next_proof())
            if await clock.wait(news, seconds, seen):
                seen = news.count
                await clock.wait(Notifier(), timing.first_sweep)
                pause = timing.first_sweep
            pause = min(2 * pause, timing.sweep)
            try:
                await self.sweep()
            except StoreUnavailable:
                _log.warning("sweep_aborted", reason="store_unavailable")
            except Exception as error:  # noqa: BLE001 - a bug here must not end the sweeps for good
                report_bug(BackgroundJob.SWEEP, error)

    async def sweep(self) -> None:
        """One look at upstream's list for everything that is in doubt, or was."""
        self._is_read = False
        sweep = await self._begin()
        if not sweep.unconfirmed and not sweep.late and not sweep.unawaited:
            self._barren.clear()
            self._is_read = True
            return
        everything = [
            *sweep.unconfirmed.values(),
            *(unconfirmed for unconfirmed, _ in sweep.unawaited.values()),
            *(unconfirmed for unconfirmed, _ in sweep.late.values()),
        ]
        sweep.listed = await self._list(everything)
        self._is_read = sweep.listed.complete
        # What may be a create's whose answer is still on its way is nobody's yet; nor what may be
        # one's that came into doubt while the list was read. Looked at before the store is: whoever
        # is answered while that is asked may be over by then, and have left.
        open_now = [
            step.in_flight_submit() or step.unconfirmed() for step in self._registry.steps()
        ]
        sending = [one for one in open_now if one and one.attempt.id not in sweep.unconfirmed]
        free = await self._free(sweep.listed.predictions)
        timing = self._deps.timeouts
        contested = {
            p.id for p in free if any(matches(unconfirmed, p, timing) for unconfirmed in sending)
        }
        settled = [prediction for prediction in free if prediction.id not in contested]
        found = match_predictions(everything, settled, timing)
        self._prefer_unconfirmed(sweep, found)
        self._note_exchanges(sweep, found)
        self._notify_steps(sweep, found, free)

    def _seconds_until_next_proof(self) -> float:
        """Seconds until the next look that may prove one in doubt absent; inf: none in sight.

        Only where the last look could read the list: one that cannot be read is asked for no more
        often than always.
        """
        timing, now = self._deps.timeouts, self._deps.clock.now()
        waits = [float("inf")]
        for step in self._registry.steps():
            if unconfirmed := step.unconfirmed():
                wait = (proof_time(self._widened(unconfirmed), timing) - now).total_seconds()
                if wait > 0:
                    waits.append(wait)
                elif (
                    self._is_read
                    and 0 < self._barren.get(unconfirmed.attempt.id, 0) < MIN_EMPTY_SWEEPS
                ):
                    waits.append(timing.first_sweep)
        return max(min(waits), _SHORTEST_PAUSE)

    def _prefer_unconfirmed(self, sweep: _Sweep, found: dict[str, Prediction]) -> None:
        """What may be an attempt's in doubt is not stopped as one's that was declared absent.

        It may be either's, with the same input. The one in doubt takes it where nothing of its own
        turns up in time; until then it is nobody's.
        """
        timing = self._deps.timeouts
        for name in found.keys() & sweep.late.keys():
            prediction = found[name]
            waiting = [
                unconfirmed
                for unconfirmed in sweep.unconfirmed.values()
                if unconfirmed.attempt.id not in found and matches(unconfirmed, prediction, timing)
            ]
            if waiting:
                del found[name]
            for unconfirmed in waiting:
                if sweep.begun >= proof_time(unconfirmed, timing):
                    found[unconfirmed.attempt.id] = prediction
                    break

    def _note_exchanges(self, sweep: _Sweep, found: dict[str, Prediction]) -> None:
        """Whoever is given a prediction may have taken it from another that it fits as well.

        With the same input they are interchangeable; but what is listed later may then be the
        other one's although it was made, or is still to be made, for the one that has its own.
        """
        candidates = sweep.unconfirmed | {
            name: unconfirmed for name, (unconfirmed, _) in (sweep.unawaited | sweep.late).items()
        }
        for name, prediction in found.items():
            first, last = candidates[name].sent_between
            for other, unconfirmed in candidates.items():
                if other not in found and matches(unconfirmed, prediction, self._deps.timeouts):
                    sent = unconfirmed.sent_between
                    self._exchanged[other] = (min(first, sent[0]), max(last, sent[1]))

    def _widened(self, unconfirmed: UnconfirmedAttempt) -> UnconfirmedAttempt:
        """With the times of those that it may have been exchanged with."""
        sent = self._exchanged.get(unconfirmed.attempt.id)
        return unconfirmed if sent is None else replace(unconfirmed, sent_window=sent)

    async def _begin(self) -> _Sweep:
        now = self._deps.clock.now()
        sweep = _Sweep(now, {}, {}, {}, {})
        records = await self._deps.store.list_unconfirmed(now - LATE_WINDOW)
        for step in self._registry.steps():
            if unconfirmed := step.unconfirmed():
                sweep.steps[unconfirmed.attempt.id] = step
                sweep.unconfirmed[unconfirmed.attempt.id] = self._widened(unconfirmed)
        for record in records:
            if record.erased_at:
                self.forget(record)
            for attempt in record.attempts:
                sent = attempt.sent_at or attempt.created_at
                late = attempt.state is AttemptState.ABSENT and sent >= now - LATE_WINDOW
                if late and not self._late_predictions.has(attempt.id):
                    unconfirmed = UnconfirmedAttempt(
                        attempt, self._plan_of(attempt), self._deps.hash_key
                    )
                    sweep.late[attempt.id] = (self._widened(unconfirmed), record)
                elif self._is_unawaited(record, attempt):
                    if known := self._known_beside(record, attempt):
                        self._late_predictions.follow(attempt, record, known)
                        continue
                    plan = self._plan_of(attempt) or await self._stored_plan(record, attempt)
                    unconfirmed = UnconfirmedAttempt(attempt, plan, self._deps.hash_key)
                    sweep.unawaited[attempt.id] = (self._widened(unconfirmed), record)
        self._exchanged = {
            name: sent for name, sent in self._exchanged.items() if sent[1] >= now - LATE_WINDOW
        }
        late_plans = self._late_plans.items()
        self._late_plans = {name: plan for name, plan in late_plans if name in sweep.unconfirmed}
        for name, (unconfirmed, _) in (sweep.unawaited | sweep.late).items():
            self._remember(name, unconfirmed)
        self._undecidable &= sweep.unconfirmed.keys() | sweep.unawaited.keys()
        return sweep

    def forget(self, record: Generation) -> None:
        """Nothing is left of what was sent for it."""
        for attempt in record.attempts:
            self._late_plans.pop(attempt.id, None)

    def _remember(self, name: str, unconfirmed: UnconfirmedAttempt) -> None:
        self._late_plans[name] = without_media(unconfirmed.plan) if unconfirmed.plan else None

    def _is_unawaited(self, record: Generation, attempt: Attempt) -> bool:
        """Whether an attempt is in doubt that no step is at: its output is made by another."""
        if attempt.state is not AttemptState.UNCONFIRMED or self._late_predictions.has(attempt.id):
            return False
        run = self._registry.get(record.id)
        if run is None:
            return record.state.is_terminal
        if all(
            one.id != attempt.id or one.state is not attempt.state for one in run.record.attempts
        ):
            return False
        return run.is_superseded(attempt)

    def _known_beside(self, record: Generation, attempt: Attempt) -> str:
        """The prediction of such an attempt, where its step knew of it in time."""
        run = self._registry.get(record.id)
        steps = run.steps if run else ()
        key = attempts.step_key(attempt)
        return next(
            (step.superseded_prediction(attempt.id) for step in steps if step.key == key), ""
        )

    def _plan_of(self, attempt: Attempt) -> Plan | None:
        """What an attempt sent, where that is still known here."""
        step = self._registry.step_of(attempt.id)
        return step.plan_of(attempt) if step else self._late_plans.get(attempt.id)

    async def _stored_plan(self, record: Generation, attempt: Attempt) -> Plan | None:
        """The same from the store, which keeps it while an attempt is in doubt."""
        pending = await self._deps.store.pending_input(record.id)
        try:
            plans = (
                execution_plan.load_plan(pending).plans(attempts.step_key(attempt))
                if pending
                else ()
            )
        except ValueError:
            return None  # Told in _stays, where it matters.
        return next((plan for plan in plans if plan.slug == attempt.model), None)

    async def _free(self, predictions: Iterable[Prediction]) -> list[Prediction]:
        """Those that no attempt has claimed, neither in the store nor on its way there."""
        listed = {prediction.id: prediction for prediction in predictions}
        claimed = await self._late_predictions.claimed(listed)
        return [prediction for name, prediction in listed.items() if name not in claimed]

    def _notify_steps(
        self, sweep: _Sweep, found: dict[str, Prediction], free: list[Prediction]
    ) -> None:
        """The steps what was found out of them."""
        timing = self._deps.timeouts
        for name, step in sweep.steps.items():
            unconfirmed = step.unconfirmed()
            if unconfirmed is None or unconfirmed.attempt.id != name:
                continue  # It was found out otherwise while the list was read.
            unconfirmed = sweep.unconfirmed[name]
            if name in found and self._deps.is_account_exclusive:
                metrics.attempts_matched.labels("list").inc()
                step.confirm(found[name].id)
            elif any(may_match(unconfirmed, prediction, timing) for prediction in free):
                self._report_ambiguous(unconfirmed)
                step.on_not_listed()
            elif sweep.listed.complete and self._is_proof(unconfirmed, sweep.begun):
                metrics.attempts_absent.inc()
                self._remember(name, unconfirmed)
                step.mark_absent()
            else:
                step.on_not_listed()
        self._settle_superseded(sweep, found, free)
        for name in self._barren.keys() - sweep.unconfirmed.keys() - sweep.unawaited.keys():
            del self._barren[name]
        if self._deps.is_account_exclusive:
            for name, (unconfirmed, record) in sweep.late.items():
                if name in found:
                    self._late_predictions.stop_and_settle(
                        unconfirmed.attempt, record, found[name].id
                    )

    def _settle_superseded(
        self, sweep: _Sweep, found: dict[str, Prediction], free: list[Prediction]
    ) -> None:
        """What was found out of those that no step waits for."""
        timing = self._deps.timeouts
        for name, (unconfirmed, record) in sweep.unawaited.items():
            if name in found and self._deps.is_account_exclusive:
                self._late_predictions.follow(unconfirmed.attempt, record, found[name].id)
            elif any(may_match(unconfirmed, prediction, timing) for prediction in free):
                self._report_ambiguous(unconfirmed)
            elif sweep.listed.complete and self._is_proof(unconfirmed, sweep.begun):
                metrics.attempts_absent.inc()
                self._remember(name, unconfirmed)
                self._late_predictions.release(unconfirmed.attempt, record)

    def _report_ambiguous(self, unconfirmed: UnconfirmedAttempt) -> None:
        """There is a prediction that may be the attempt's, and no way to tell."""
        self._barren.pop(unconfirmed.attempt.id, None)
        if not self._deps.is_account_exclusive:
            metrics.attempts_ambiguous.inc()
            _log.error(
                "unconfirmed_match_ambiguous",
                reason="account_shared",
                attempt=unconfirmed.attempt.id,
            )
        elif unconfirmed.plan is None and unconfirmed.attempt.id not in self._undecidable:
            self._undecidable.add(unconfirmed.attempt.id)
            metrics.attempts_ambiguous.inc()
            _log.error(
                "unconfirmed_match_ambiguous",
                reason="input_lost",
                attempt=unconfirmed.attempt.id,
            )

    def _is_proof(self, unconfirmed: UnconfirmedAttempt, begun: datetime) -> bool:
        """Whether one more list without the attempt proves that it never was."""
        name, in_time = (
            unconfirmed.attempt.id,
            begun >= proof_time(unconfirmed, self._deps.timeouts),
        )
        # What the API said of one says nothing of those that it may have been exchanged with.
        counts_early = (
            unconfirmed.attempt.api_error_at is not None and unconfirmed.sent_window is None
        )
        if not in_time and not counts_early:
            return False
        self._barren[name] = self._barren.get(name, 0) + 1
        return in_time and self._barren[name] >= MIN_EMPTY_SWEEPS

    # The list

    async def _list(self, candidates: Iterable[UnconfirmedAttempt]) -> ListedPredictions:
        """All that upstream's list has of the times when the attempts can have been made."""
        predictions: list[Prediction] = []
        complete = True
        for window in merge_windows(
            CreationWindow.of(unconfirmed, self._deps.timeouts) for unconfirmed in candidates
        ):
            try:
                async for page in list_pages(self._deps.upstream, window.begins, window.ends):
                    predictions += page
            except ListUnavailable:
                complete = False
        return ListedPredictions(tuple(predictions), complete)


def proof_time(unconfirmed: UnconfirmedAttempt, timing: EngineTimeouts) -> datetime:
    """From when on a list without the attempt says that it never was."""
    late = unconfirmed.sent_between[1] + timedelta(
        seconds=timing.post_timeout + timing.absent_margin
    )
    error_at = unconfirmed.attempt.api_error_at
    if error_at is None or unconfirmed.sent_window is not None:
        return late
    return min(late, error_at + timedelta(seconds=timing.api_error_margin))


def merge_windows(windows: Iterable[CreationWindow]) -> list[CreationWindow]:
    """The same stretches of time, each moment once."""
    together: list[CreationWindow] = []
    for window in sorted(windows, key=lambda window: window.begins):
        if together and window.begins <= together[-1].ends:
            last = together.pop()
            window = CreationWindow(last.begins, max(last.ends, window.ends))  # noqa: PLW2901 - the sum of the two
        together.append(window)
    return together
