"""Predictions that turned up after their attempt was declared absent: paid without being wanted.

By the rules this needs an upstream that hides a prediction from its own list for minutes. Still it
is real money: it is stopped, settled on its terminal record, and an alarm is raised.

Likewise those whose output another attempt makes, because its caller would rather pay twice than
wait: followed while that one has not succeeded, then stopped and settled. That is no alarm.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Final

import structlog

from mediagate_server import crash_marks, telemetry
from mediagate_server.catalog import price_json
from mediagate_server.errors import StoreUnavailable
from mediagate_server.generations import attempts, settling, tally
from mediagate_server.generations.doors import Surroundings
from mediagate_server.generations.follow import Follower, Poll
from mediagate_server.generations.lane import Lane
from mediagate_server.generations.lost_predictions import find_listed
from mediagate_server.generations.roll import Roll
from mediagate_server.generations.saving import SavedRecord
from mediagate_server.generations.stopping import Stop
from mediagate_server.generations.waking import Wake
from mediagate_server.replacing import replace
from mediagate_server.replicate.port import Prediction, PredictionStatus
from mediagate_server.store.port import AlreadyClaimed, StaleOwner, StaleWrite
from mediagate_server.store.records import Attempt, AttemptState, Entry, Generation

_log = structlog.get_logger()
_PAUSE: Final = 1.0
_UNWANTED: Final = "it was declared absent"
_MADE_BY_ANOTHER: Final = "another attempt made it"
_FAILED: Final = "failed"
_NEVER_ARRIVED: Final = "never arrived"
_UNSETTLED: Final = settling.NOT_TAKEN | {AttemptState.UNCONFIRMED}


class _Awaited(Exception):
    """Its lane is at this attempt by now, and settles it."""


class Overruns:
    """Those that are being settled now. `keep` does what it is given until that is done."""

    def __init__(
        self,
        around: Surroundings,
        roll: Roll,
        keep: Callable[[str, Callable[[], Awaitable[None]]], None],
    ) -> None:
        self._around = around
        self._roll = roll
        self._keep = keep
        self._attempts: dict[str, asyncio.Event] = {}
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
        before = self._known()
        return before | await self._around.store.claimed(predictions) | self._known()

    def _known(self) -> set[str]:
        found = {name for lane in self._roll.lanes() for name in lane.unwritten}
        found.update(self._predictions.values())
        found.update(self._roll.claims.pending)  # Answered, and looked up in the store right now.
        for life in self._roll:
            found.update(attempt.prediction_id for attempt in life.record.attempts)
        return found

    async def settled(self, attempt_id: str) -> None:
        """Until one that has turned up is settled, durably."""
        if written := self._attempts.get(attempt_id):
            await written.wait()

    def begin(self, attempt: Attempt, record: Generation, prediction_id: str) -> None:
        """An absent attempt has turned up: stop it, settle it, tell of it."""
        if self.has(attempt.id):
            return
        self._start(attempt, prediction_id)
        telemetry.attempts_overrun.inc()
        _log.error(
            "an attempt declared absent was paid after all",
            id=record.id,
            attempt=attempt.id,
            prediction=prediction_id,
        )
        stop = Stop(_UNWANTED)
        self._keep("overrun", partial(self._settle, attempt, record, prediction_id, stop))

    def follow(self, attempt: Attempt, record: Generation, prediction_id: str) -> None:
        """An attempt in doubt, whose output another one makes, is this prediction."""
        if self.has(attempt.id):
            return
        lane = self._lane_of(record, attempt)
        self._start(attempt, prediction_id)
        telemetry.attempts_adopted.labels("list").inc()
        stop = Stop(_MADE_BY_ANOTHER) if lane is None else lane.over.child()
        if lane is not None:
            lane.follow_beside(attempt.id, prediction_id)
        self._keep("overrun", partial(self._settle, attempt, record, prediction_id, stop))

    def release(self, attempt: Attempt, record: Generation) -> None:
        """An attempt in doubt, whose output another one makes, has never reached upstream."""
        if self.has(attempt.id):
            return
        self._start(attempt, "")
        self._keep("overrun", partial(self._release, attempt, record))

    def _start(self, attempt: Attempt, prediction_id: str) -> None:
        self._attempts[attempt.id] = asyncio.Event()
        if prediction_id:
            self._predictions[attempt.id] = prediction_id

    def _finish(self, attempt: Attempt) -> None:
        self._predictions.pop(attempt.id, None)
        self._attempts.pop(attempt.id).set()

    def _lane_of(self, record: Generation, attempt: Attempt) -> Lane | None:
        """The lane of an attempt, while it has not ended."""
        life, key = self._roll.get(record.id), attempts.lane_of(attempt)
        if life is None or attempts.has_ended(life.record, key):
            return None
        return next((lane for lane in life.lanes if lane.key == key), None)

    async def _release(self, attempt: Attempt, record: Generation) -> None:
        now = self._around.clock.now()
        closed, line = attempts.close(attempt, AttemptState.ABSENT, _NEVER_ARRIVED, now)
        while not await self._write(record, closed, line):
            await self._around.clock.wait(asyncio.Event(), _PAUSE)
        self._finish(attempt)

    async def _settle(
        self, attempt: Attempt, record: Generation, prediction_id: str, stop: Stop
    ) -> None:
        if marks := self._around.crash_marks:
            handling = marks.handling(record.id)
            handling.passes_over_output = True  # Nobody gets it.
            crash_marks.CURRENT.set(handling)
        follower = Follower(
            self._around.upstream,
            self._around.clock,
            stop,
            Wake(self._around.clock),
            attempt.model,
            lambda _: None,
            Poll.SHORT,
        )
        end = await follower.to_the_end(Prediction(prediction_id, PredictionStatus.UNKNOWN), None)
        if end is None:
            listed = await find_listed(self._around.upstream, attempt, prediction_id)
            end = listed if listed and listed.status.is_terminal else None
        lane = self._lane_of(record, attempt)
        succeeded = end is not None and end.status is PredictionStatus.SUCCEEDED
        if stop.because != _UNWANTED and lane and succeeded and lane.take_over(attempt.id):
            self._finish(attempt)
            return
        price = price_json.loads(attempt.price)
        entry, basis = settling.reckoned(attempt, end, price, outputs=0)
        now = self._around.clock.now()
        closed = replace(
            settling.closed(attempt, end, entry, stop.because or _FAILED, now, basis),
            prediction_id=prediction_id,
        )
        while not await self._write(record, closed, entry):
            await self._around.clock.wait(asyncio.Event(), _PAUSE)
        self._finish(attempt)

    async def _write(self, record: Generation, closed: Attempt, entry: Entry) -> bool:
        """Into the generation as it stands, whether it lives here or is over. False: try again."""
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
        except _Awaited:
            return True
        except StaleOwner:
            raise  # It is its new owner's to settle.
        except (StoreUnavailable, StaleWrite):
            return False
        except AlreadyClaimed:
            return True  # It was another attempt's after all.
        tally.count_cost(record.modality, closed.model, closed.cost)
        return True

    async def _saved(self, record: Generation, attempt_id: str) -> SavedRecord | None:
        """Where it is written; None: it was erased, or is settled already.

        A sweep that began before an overrun was settled may find the same one again after it.
        """
        life = self._roll.get(record.id)
        now = life.record if life else await self._around.store.get(record.tenant, record.id)
        if now is None or all(
            one.id != attempt_id or one.state not in _UNSETTLED for one in now.attempts
        ):
            return None
        if life:
            return life.saved
        return SavedRecord(
            self._around.store,
            self._around.clock,
            now,
            lambda: None,
            partial(self._roll.changed, now.tenant),
        )


def _with_closed(closed: Attempt, record: Generation) -> Generation:
    """The record with this attempt at its end; raises where its lane is at it."""
    key = attempts.lane_of(closed)
    was = next(one for one in record.attempts if one.id == closed.id)
    is_awaited = was.state in attempts.OPEN and not attempts.has_ended(record, key)
    if is_awaited and attempts.current(record, key).id == closed.id:
        raise _Awaited
    return attempts.with_attempt(record, closed)
