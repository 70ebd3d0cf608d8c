"""Walks upstream's list, well inside the hour after which it forgets, and compares the ledger.

Each charge is looked for in the first pass after it was settled, and, like each prediction, in
every pass for ten minutes, so that neither a lost pass nor clocks that differ hide one. What is
found is found once, however often it is seen.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from mediagate_server import telemetry
from mediagate_server.errors import MediagateError, StoreUnavailable
from mediagate_server.generations.adopt import CLOCKS_DIFFER, fits
from mediagate_server.generations.doors import Surroundings
from mediagate_server.generations.listing import ListUnread, pages
from mediagate_server.generations.reconciling import compare, of_charge, of_nobody
from mediagate_server.generations.roll import Roll
from mediagate_server.generations.sweep import LATE
from mediagate_server.generations.whole import Doubt
from mediagate_server.replacing import replace
from mediagate_server.replicate.port import NoAnswer, Prediction, Refusal, Refused
from mediagate_server.store.charges import ChargeFilter
from mediagate_server.store.reconciliations import (
    Discrepancy,
    Mismatch,
    Reconciliation,
    Settlement,
)
from mediagate_server.store.records import AttemptState
from mediagate_server.unexpected import broke

OVERLAP: Final = timedelta(minutes=10)
"""How far before the last pass the next one begins."""

_SETTLED_FOR: Final = 5.0
"""Seconds that a charge is left alone, so that a list that lags a little is no alarm."""
_MOST_LINES: Final = 1_000
_UNSURE: Final = (AttemptState.SUBMITTING, AttemptState.UNCONFIRMED)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Look:
    """What one pass has before it: charges behind the line `after` for the first time."""

    origin: datetime
    begun: datetime
    since: datetime
    after: int
    due: tuple[Settlement, ...]
    line: int


@dataclass(slots=True)
class _Found:
    """What it has found so far: predictions that are there, those whose charges agree, cases."""

    seen: set[str]
    matched: set[str]
    cases: list[Discrepancy]


class Reconciler:
    """Makes a pass every `timing.reconcile` seconds for as long as it is run."""

    def __init__(self, around: Surroundings, roll: Roll) -> None:
        self._around = around
        self._roll = roll
        # What an embedded sandbox has made is gone with its process, and its list with it.
        self._account = "sandbox" if around.sandbox else around.account

    async def reconcile_for_ever(self) -> None:
        """Pass after pass; one that fails is made up for by the next."""
        begun = False
        while True:
            seconds = self._around.timing.reconcile
            try:
                if begun:
                    await self.reconcile()
                else:
                    seconds = await self._begin()
                    begun = True
            except StoreUnavailable:
                _log.warning("store unavailable, reconciliation given up")
            except Exception as error:  # noqa: BLE001 - a bug here must not end the passes for good
                broke("reconciliation", error)
            await self._around.clock.wait(asyncio.Event(), seconds)

    async def reconcile(self) -> Reconciliation:
        """One pass, told to the log, counted and written down."""
        look = await self._look()
        found = _Found(set(), set(), [])
        free: dict[str, Prediction] = {}
        complete = True
        try:
            async for page in pages(self._around.upstream, look.since, None):
                await self._compare(page, found)
                held = await self._around.store.claimed(one.id for one in page)
                free |= {one.id: one for one in page if one.id not in held}
        except ListUnread:
            complete = False
        found.cases += await self._of_nobody(free)
        listed = len(found.seen)
        if complete:
            complete = await self._look_again(look, found)
        return await self._write(look, found, listed, complete=complete)

    async def _compare(self, predictions: Iterable[Prediction], found: _Found) -> None:
        """Hold their charges against them; a page at a time, so that nobody waits for long."""
        shown = {prediction.id: prediction for prediction in predictions}
        found.seen.update(shown)
        settled = await self._around.store.audit.settled(shown)
        compared = compare(settled, shown, self._around.clock.now())
        found.matched |= compared.matched
        found.cases += compared.differing

    # What there is to look at

    async def _begin(self) -> float:
        """From where the last process went on; from here, where none did.

        In how many seconds the next pass is due: processes that are short-lived make theirs, too.
        """
        now, seconds = self._around.clock.now(), self._around.timing.reconcile
        last = await self._around.store.audit.last(self._account)
        if last is not None and not self._around.sandbox:
            passed = (now - last.begun_at).total_seconds()
            return min(max(seconds - passed, 0.0), seconds)
        newest = await self._around.store.charges(ChargeFilter(), 1, None)
        line = newest[0].at.line if newest else 0
        start = Reconciliation(self._account, now, now, now, now, line, complete=True)
        await self._around.store.audit.write(start, ())
        return seconds

    async def _look(self) -> _Look:
        now = self._around.clock.now()
        last = await self._around.store.audit.last(self._account)
        if last is None:
            raise StoreUnavailable("there is no pass to go on from", retry_after=1.0)
        alone = min(_SETTLED_FOR, self._around.timing.reconcile)
        by = now - timedelta(seconds=alone)
        since = last.begun_at - OVERLAP
        due, line = await self._around.store.audit.due(last.line, max(since, last.origin), by)
        return _Look(last.origin, now, since, last.line, due, line)

    async def _unsure(self) -> list[Doubt]:
        """Attempts of which a prediction may be that nobody is known to hold yet."""
        key = self._around.hash_key
        found = [
            Doubt(lane.attempt, lane.plan, key)
            for lane in self._roll.lanes()
            if lane.attempt.state in _UNSURE
        ]
        # Of those that were declared absent the sweeper takes what turns up late.
        records = await self._around.store.in_doubt(self._around.clock.now() - LATE)
        lives = {doubt.attempt.id for doubt in found}
        return found + [
            Doubt(attempt, None, key)
            for record in records
            for attempt in record.attempts
            if attempt.id not in lives and attempt.state in (*_UNSURE, AttemptState.ABSENT)
        ]

    async def _of_nobody(self, free: Mapping[str, Prediction]) -> list[Discrepancy]:
        """Predictions that no attempt holds and that can be none's whose answer is still open."""
        unsure = await self._unsure()
        # First who lives here, then the store: whoever leaves in between is written down there.
        held = {lane.hinted for lane in self._roll.lanes()}
        for life in self._roll:
            held.update(attempt.prediction_id for attempt in life.record.attempts)
        held |= await self._around.store.claimed(free)
        now, timing = self._around.clock.now(), self._around.timing
        return [
            of_nobody(prediction, now, exclusive=self._around.exclusive)
            for name, prediction in free.items()
            if name not in held and not any(fits(doubt, prediction, timing) for doubt in unsure)
        ]

    # What was not in the list

    async def _look_again(self, look: _Look, found: _Found) -> bool:
        """Look for charges whose predictions were not in the list. False: upstream did not say.

        What was made since the list begins should have been in it: the list is read once more
        there. What is older, as a run of half an hour is at its end, is asked for by itself, once.
        """
        absent = [one for one in look.due if one.prediction_id not in found.seen]
        older = [one for one in absent if _is_older(one, look.since) and one.line > look.after]
        younger = [one for one in absent if not _is_older(one, look.since)]
        try:
            for one in older:
                if prediction := await self._ask(one):
                    await self._compare((prediction,), found)
            if younger:
                begins = min(one.opened_at for one in younger) - CLOCKS_DIFFER
                ends = max(one.settled_at for one in younger) + CLOCKS_DIFFER
                wanted = {one.prediction_id for one in younger}
                async for page in pages(self._around.upstream, begins, ends):
                    await self._compare((one for one in page if one.id in wanted), found)
        except ListUnread:
            return False
        now = self._around.clock.now()
        found.cases += [
            of_charge(Mismatch.MISSING, one, now)
            for one in (*older, *younger)
            if one.prediction_id not in found.seen
        ]
        return True

    async def _ask(self, one: Settlement) -> Prediction | None:
        """The prediction of a charge; None where upstream says that there is none."""
        try:
            return await self._around.upstream.get(one.prediction_id, model=one.model)
        except Refused as refused:
            if refused.refusal is Refusal.NOT_FOUND:
                return None
            raise ListUnread from None
        except (NoAnswer, MediagateError):
            raise ListUnread from None

    # What is told

    async def _write(
        self, look: _Look, found: _Found, listed: int, *, complete: bool
    ) -> Reconciliation:
        # A charge that is looked for again is counted then.
        fresh = [one for one in look.due if complete and one.line > look.after]
        made = Reconciliation(
            self._account,
            look.origin,
            look.begun,
            self._around.clock.now(),
            look.since,
            look.line,
            complete,
            listed,
            sum(one.prediction_id in found.matched for one in fresh),
        )
        new = await self._around.store.audit.write(made, tuple(found.cases))
        made = replace(made, found={kind: _number(new, kind) for kind in Mismatch})
        _tell(made, new)
        return made


def _is_older(one: Settlement, since: datetime) -> bool:
    """Whether its prediction may have been made before the list begins."""
    return one.opened_at - CLOCKS_DIFFER < since


def _number(cases: Iterable[Discrepancy], kind: Mismatch) -> int:
    return sum(case.kind is kind for case in cases)


def _tell(made: Reconciliation, new: Iterable[Discrepancy]) -> None:
    """To the metrics and the log."""
    telemetry.reconciled.labels("matched").inc(made.matched)
    for kind, number in made.found.items():
        telemetry.reconciled.labels(kind.value).inc(number)
    alarms = [case for case in new if case.kind is not Mismatch.FOREIGN]
    for case in alarms[:_MOST_LINES]:
        _log.warning(
            "ledger and upstream disagree",
            kind=case.kind.value,
            prediction=case.prediction_id,
            model=case.model,
            generation=case.generation_id,
            ledger_usd_nanos=case.ledger_nanos,
            upstream_usd_nanos=case.upstream_nanos,
        )
    counts = {kind.value: number for kind, number in made.found.items() if number}
    if made.complete:
        telemetry.reconciled_at.set(made.ended_at.timestamp())
        _log.info("reconciled", listed=made.listed, matched=made.matched, **counts)
    else:
        _log.warning("reconciliation not complete: upstream's list could not be read", **counts)
