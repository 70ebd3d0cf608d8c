"""Finds out what became of creates whose answers were lost, by upstream's list of predictions.

An attempt in doubt is adopted where the list has it. It is declared absent only where the list,
read to its end, did not have it in two sweeps that began when its answer could not come any more.
Where upstream's API itself has said that the create failed, nothing is on its way any more: two
sweeps prove it of which the last began a while after that.
What was declared absent is looked for a while longer: should it turn up, it was paid.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog

from mediagate_server import telemetry
from mediagate_server.catalog.plan import Plan
from mediagate_server.errors import StoreUnavailable
from mediagate_server.generations import attempts, work
from mediagate_server.generations.adopt import Window, assign, fits, may_be, without_media
from mediagate_server.generations.doors import Surroundings, Timing
from mediagate_server.generations.lane import Lane
from mediagate_server.generations.listing import ListUnread, pages
from mediagate_server.generations.overrun import Overruns
from mediagate_server.generations.roll import Roll
from mediagate_server.generations.whole import Doubt
from mediagate_server.replacing import replace
from mediagate_server.replicate.port import Prediction
from mediagate_server.store.records import Attempt, AttemptState, Generation
from mediagate_server.unexpected import broke

_log = structlog.get_logger()

BARREN_SWEEPS: Final = 2
"""Complete sweeps without a match that prove an attempt absent."""

_SHORTEST_PAUSE: Final = 0.02
"""Seconds, so that a timer that is early by nothing does not make for another list."""

LATE: Final = timedelta(minutes=15)
"""How long after it was sent an absent attempt is still looked for."""


@dataclass(frozen=True, slots=True)
class Listed:
    """What upstream's list holds of some stretch of time; `complete`: all of it."""

    predictions: tuple[Prediction, ...]
    complete: bool


@dataclass(slots=True)
class _Sweep:
    """One look at the list. `lanes` are in doubt, by attempt; `late` was declared absent before;
    `unawaited` are in doubt, and another attempt makes their output, or has made it.
    """

    begun: datetime
    lanes: dict[str, Lane]
    doubts: dict[str, Doubt]
    late: dict[str, tuple[Doubt, Generation]]
    unawaited: dict[str, tuple[Doubt, Generation]]
    listed: Listed = field(default_factory=lambda: Listed((), complete=False))


class Sweeper:
    """Sweeps for as long as it is run."""

    def __init__(self, around: Surroundings, roll: Roll, overruns: Overruns) -> None:
        self._around = around
        self._roll = roll
        self._overruns = overruns
        self._barren: dict[str, int] = {}
        self._is_read = True
        """Whether the last look could read the whole list."""
        self._late_plans: dict[str, Plan | None] = {}
        """What was sent for those that no lane is at: their generations may be over."""
        self._undecidable: set[str] = set()
        """Attempts in doubt of which it was told that their input is not known any more."""
        self._exchanged: dict[str, tuple[datetime, datetime]] = {}
        """Of attempts that others may have taken the prediction of: when all of them were sent."""

    async def sweep_for_ever(self) -> None:
        """A sweep soon after any new doubt, else every `timing.sweep` seconds."""
        clock, timing = self._around.clock, self._around.timing
        pause = timing.sweep
        while True:
            if await clock.wait(self._roll.doubt, min(pause, self._until_proof())):
                self._roll.doubt.clear()
                await clock.wait(asyncio.Event(), timing.first_sweep)
                pause = timing.first_sweep
            pause = min(2 * pause, timing.sweep)
            try:
                await self.sweep()
            except StoreUnavailable:
                _log.warning("store unavailable, sweep given up")
            except Exception as error:  # noqa: BLE001 - a bug here must not end the sweeps for good
                broke("sweep", error)

    async def sweep(self) -> None:
        """One look at upstream's list for everything that is in doubt, or was."""
        self._is_read = False
        sweep = await self._begin()
        if not sweep.doubts and not sweep.late and not sweep.unawaited:
            self._barren.clear()
            self._is_read = True
            return
        everything = [
            *sweep.doubts.values(),
            *(doubt for doubt, _ in sweep.unawaited.values()),
            *(doubt for doubt, _ in sweep.late.values()),
        ]
        sweep.listed = await self._list(everything)
        self._is_read = sweep.listed.complete
        # What may be a create's whose answer is still on its way is nobody's yet; nor what may be
        # one's that came into doubt while the list was read. Looked at before the store is: whoever
        # is answered while that is asked may be over by then, and have left.
        open_now = [lane.sending() or lane.in_doubt() for lane in self._roll.lanes()]
        sending = [one for one in open_now if one and one.attempt.id not in sweep.doubts]
        free = await self._free(sweep.listed.predictions)
        timing = self._around.timing
        contested = {p.id for p in free if any(fits(doubt, p, timing) for doubt in sending)}
        settled = [prediction for prediction in free if prediction.id not in contested]
        found = assign(everything, settled, timing)
        self._prefer_doubts(sweep, found)
        self._note_exchanges(sweep, found)
        self._tell(sweep, found, free)

    def _until_proof(self) -> float:
        """Seconds until the next look that may prove one in doubt absent; inf: none in sight.

        Only where the last look could read the list: one that cannot be read is asked for no more
        often than always.
        """
        timing, now = self._around.timing, self._around.clock.now()
        waits = [float("inf")]
        for lane in self._roll.lanes():
            if doubt := lane.in_doubt():
                wait = (proof_time(self._widened(doubt), timing) - now).total_seconds()
                if wait > 0:
                    waits.append(wait)
                elif self._is_read and 0 < self._barren.get(doubt.attempt.id, 0) < BARREN_SWEEPS:
                    waits.append(timing.first_sweep)
        return max(min(waits), _SHORTEST_PAUSE)

    def _prefer_doubts(self, sweep: _Sweep, found: dict[str, Prediction]) -> None:
        """What may be an attempt's in doubt is not stopped as one's that was declared absent.

        It may be either's, with the same input. The one in doubt takes it where nothing of its own
        turns up in time; until then it is nobody's.
        """
        timing = self._around.timing
        for name in found.keys() & sweep.late.keys():
            prediction = found[name]
            waiting = [
                doubt
                for doubt in sweep.doubts.values()
                if doubt.attempt.id not in found and fits(doubt, prediction, timing)
            ]
            if waiting:
                del found[name]
            for doubt in waiting:
                if sweep.begun >= proof_time(doubt, timing):
                    found[doubt.attempt.id] = prediction
                    break

    def _note_exchanges(self, sweep: _Sweep, found: dict[str, Prediction]) -> None:
        """Whoever is given a prediction may have taken it from another that it fits as well.

        With the same input they are interchangeable; but what is listed later may then be the
        other one's although it was made, or is still to be made, for the one that has its own.
        """
        doubts = sweep.doubts | {
            name: doubt for name, (doubt, _) in (sweep.unawaited | sweep.late).items()
        }
        for name, prediction in found.items():
            first, last = doubts[name].sent_between
            for other, doubt in doubts.items():
                if other not in found and fits(doubt, prediction, self._around.timing):
                    sent = doubt.sent_between
                    self._exchanged[other] = (min(first, sent[0]), max(last, sent[1]))

    def _widened(self, doubt: Doubt) -> Doubt:
        """With the times of those that it may have been exchanged with."""
        sent = self._exchanged.get(doubt.attempt.id)
        return doubt if sent is None else replace(doubt, sent=sent)

    async def _begin(self) -> _Sweep:
        now = self._around.clock.now()
        sweep = _Sweep(now, {}, {}, {}, {})
        records = await self._around.store.in_doubt(now - LATE)
        for lane in self._roll.lanes():
            if doubt := lane.in_doubt():
                sweep.lanes[doubt.attempt.id] = lane
                sweep.doubts[doubt.attempt.id] = self._widened(doubt)
        for record in records:
            if record.erased_at:
                self.forget(record)
            for attempt in record.attempts:
                sent = attempt.sent_at or attempt.created_at
                late = attempt.state is AttemptState.ABSENT and sent >= now - LATE
                if late and not self._overruns.has(attempt.id):
                    doubt = Doubt(attempt, self._plan_of(attempt), self._around.hash_key)
                    sweep.late[attempt.id] = (self._widened(doubt), record)
                elif self._is_unawaited(record, attempt):
                    if known := self._known_beside(record, attempt):
                        self._overruns.follow(attempt, record, known)
                        continue
                    plan = self._plan_of(attempt) or await self._stored_plan(record, attempt)
                    doubt = Doubt(attempt, plan, self._around.hash_key)
                    sweep.unawaited[attempt.id] = (self._widened(doubt), record)
        self._exchanged = {
            name: sent for name, sent in self._exchanged.items() if sent[1] >= now - LATE
        }
        late_plans = self._late_plans.items()
        self._late_plans = {name: plan for name, plan in late_plans if name in sweep.doubts}
        for name, (doubt, _) in (sweep.unawaited | sweep.late).items():
            self._remember(name, doubt)
        self._undecidable &= sweep.doubts.keys() | sweep.unawaited.keys()
        return sweep

    def forget(self, record: Generation) -> None:
        """Nothing is left of what was sent for it."""
        for attempt in record.attempts:
            self._late_plans.pop(attempt.id, None)

    def _remember(self, name: str, doubt: Doubt) -> None:
        self._late_plans[name] = without_media(doubt.plan) if doubt.plan else None

    def _is_unawaited(self, record: Generation, attempt: Attempt) -> bool:
        """Whether an attempt is in doubt that no lane is at: its output is made by another."""
        if attempt.state is not AttemptState.UNCONFIRMED or self._overruns.has(attempt.id):
            return False
        life = self._roll.get(record.id)
        if life is None:
            return record.state.is_terminal
        if all(
            one.id != attempt.id or one.state is not attempt.state for one in life.record.attempts
        ):
            return False
        return life.is_unawaited(attempt)

    def _known_beside(self, record: Generation, attempt: Attempt) -> str:
        """The prediction of such an attempt, where its lane was told of it in time."""
        life = self._roll.get(record.id)
        lanes = life.lanes if life else ()
        key = attempts.lane_of(attempt)
        return next((lane.found_beside(attempt.id) for lane in lanes if lane.key == key), "")

    def _plan_of(self, attempt: Attempt) -> Plan | None:
        """What an attempt sent, where that is still known here."""
        lane = self._roll.lane_of(attempt.id)
        return lane.plan_of(attempt) if lane else self._late_plans.get(attempt.id)

    async def _stored_plan(self, record: Generation, attempt: Attempt) -> Plan | None:
        """The same from the store, which keeps it while an attempt is in doubt."""
        pending = await self._around.store.pending(record.id)
        try:
            plans = work.loads(pending).plans(attempts.lane_of(attempt)) if pending else ()
        except ValueError:
            return None  # Told in _stays, where it matters.
        return next((plan for plan in plans if plan.slug == attempt.model), None)

    async def _free(self, predictions: Iterable[Prediction]) -> list[Prediction]:
        """Those that no attempt holds, neither in the store nor on its way there."""
        listed = {prediction.id: prediction for prediction in predictions}
        claimed = await self._overruns.claimed(listed)
        return [prediction for name, prediction in listed.items() if name not in claimed]

    def _tell(self, sweep: _Sweep, found: dict[str, Prediction], free: list[Prediction]) -> None:
        """The lanes what was found out of them."""
        timing = self._around.timing
        for name, lane in sweep.lanes.items():
            doubt = lane.in_doubt()
            if doubt is None or doubt.attempt.id != name:
                continue  # It was found out otherwise while the list was read.
            doubt = sweep.doubts[name]
            if name in found and self._around.exclusive:
                telemetry.attempts_adopted.labels("list").inc()
                lane.found(found[name].id)
            elif any(may_be(doubt, prediction, timing) for prediction in free):
                self._stays(doubt)
                lane.looked_for()
            elif sweep.listed.complete and self._is_proof(doubt, sweep.begun):
                telemetry.attempts_absent.inc()
                self._remember(name, doubt)
                lane.proven_absent()
            else:
                lane.looked_for()
        self._tell_unawaited(sweep, found, free)
        for name in self._barren.keys() - sweep.doubts.keys() - sweep.unawaited.keys():
            del self._barren[name]
        if self._around.exclusive:
            for name, (doubt, record) in sweep.late.items():
                if name in found:
                    self._overruns.begin(doubt.attempt, record, found[name].id)

    def _tell_unawaited(
        self, sweep: _Sweep, found: dict[str, Prediction], free: list[Prediction]
    ) -> None:
        """What was found out of those that no lane waits for."""
        timing = self._around.timing
        for name, (doubt, record) in sweep.unawaited.items():
            if name in found and self._around.exclusive:
                self._overruns.follow(doubt.attempt, record, found[name].id)
            elif any(may_be(doubt, prediction, timing) for prediction in free):
                self._stays(doubt)
            elif sweep.listed.complete and self._is_proof(doubt, sweep.begun):
                telemetry.attempts_absent.inc()
                self._remember(name, doubt)
                self._overruns.release(doubt.attempt, record)

    def _stays(self, doubt: Doubt) -> None:
        """There is a prediction that may be the attempt's, and no way to tell."""
        self._barren.pop(doubt.attempt.id, None)
        if not self._around.exclusive:
            telemetry.attempts_undecided.inc()
            _log.error(
                "a prediction may be ours: the account is shared, so it is not adopted",
                attempt=doubt.attempt.id,
            )
        elif doubt.plan is None and doubt.attempt.id not in self._undecidable:
            self._undecidable.add(doubt.attempt.id)
            telemetry.attempts_undecided.inc()
            _log.error(
                "a prediction may be ours: what was sent is not known any more, so it is not told",
                attempt=doubt.attempt.id,
            )

    def _is_proof(self, doubt: Doubt, begun: datetime) -> bool:
        """Whether one more list without the attempt proves that it never was."""
        name, in_time = doubt.attempt.id, begun >= proof_time(doubt, self._around.timing)
        # What the API said of one says nothing of those that it may have been exchanged with.
        counts_early = doubt.attempt.api_error_at is not None and doubt.sent is None
        if not in_time and not counts_early:
            return False
        self._barren[name] = self._barren.get(name, 0) + 1
        return in_time and self._barren[name] >= BARREN_SWEEPS

    # The list

    async def _list(self, doubts: Iterable[Doubt]) -> Listed:
        """All that upstream's list has of the times when the attempts can have been made."""
        predictions: list[Prediction] = []
        complete = True
        for window in merged(Window.of(doubt, self._around.timing) for doubt in doubts):
            try:
                async for page in pages(self._around.upstream, window.begins, window.ends):
                    predictions += page
            except ListUnread:
                complete = False
        return Listed(tuple(predictions), complete)


def proof_time(doubt: Doubt, timing: Timing) -> datetime:
    """From when on a list without the attempt says that it never was."""
    late = doubt.sent_between[1] + timedelta(seconds=timing.post_timeout + timing.absent_margin)
    error_at = doubt.attempt.api_error_at
    if error_at is None or doubt.sent is not None:
        return late
    return min(late, error_at + timedelta(seconds=timing.api_error_margin))


def merged(windows: Iterable[Window]) -> list[Window]:
    """The same stretches of time, each moment once."""
    together: list[Window] = []
    for window in sorted(windows, key=lambda window: window.begins):
        if together and window.begins <= together[-1].ends:
            last = together.pop()
            window = Window(last.begins, max(last.ends, window.ends))  # noqa: PLW2901 - the sum of the two
        together.append(window)
    return together
