"""Reconciliation of the ledger with upstream's list, well inside the hour after which that forgets.

Each charge is looked for in the first pass after it was settled, and, like each prediction, in
every pass for ten minutes, so that neither a lost pass nor clocks that differ hide one. A
discrepancy is reported once, however often it is seen.

A pass works in slices: a page of the list, or of the charges, at a time, and then lets others run.
Between them it keeps ids, never predictions, so that its memory does not grow with their content.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

import structlog

from mediagate_server import ledger
from mediagate_server.catalog.pricing import prices
from mediagate_server.catalog.pricing.prices import PriceSchedule
from mediagate_server.errors import MediagateError, StoreUnavailable
from mediagate_server.generations.active_generations import ActiveGenerations
from mediagate_server.generations.dependencies import EngineDeps, EngineTimeouts
from mediagate_server.generations.matching.prediction_list import ListUnavailable, list_pages
from mediagate_server.generations.matching.prediction_matcher import (
    MAX_CLOCK_SKEW,
    UnconfirmedAttempt,
    matches,
    may_match,
)
from mediagate_server.generations.recovery.late_predictions import LatePredictions
from mediagate_server.generations.recovery.unconfirmed_sweeper import LATE_WINDOW
from mediagate_server.observability import metrics
from mediagate_server.observability.bug_report import BackgroundJob, report_bug
from mediagate_server.runtime.notifier import Notifier
from mediagate_server.store.charge_queries import ChargeFilter
from mediagate_server.store.ledger_reconciliations import (
    Discrepancy,
    DiscrepancyKind,
    DueCharges,
    Reconciliation,
    SettledCharge,
)
from mediagate_server.store.records import AttemptState
from mediagate_server.upstream.port import NoResponse, Prediction, RefusalReason, RequestRefused

_prices = lru_cache(256)(prices.load_price)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of the charges: those that agree, by their predictions, and the cases."""

    matched: frozenset[str]
    differing: tuple[Discrepancy, ...]


def compare_charges(
    settlements: Iterable[SettledCharge], predictions: Mapping[str, Prediction], now: datetime
) -> Comparison:
    """Hold each charge against the prediction that it is of; one that is not there is left out.

    What upstream shows as running still cannot be reckoned: the charge was made on its end, so
    the list is late, and the prediction is there.
    """
    matched: set[str] = set()
    differing: list[Discrepancy] = []
    for one in settlements:
        prediction = predictions.get(one.prediction_id)
        if prediction is None:
            continue
        if not prediction.status.is_terminal or not one.price:
            matched.add(one.prediction_id)
            continue
        price: PriceSchedule = _prices(one.price)
        line, _ = ledger.settle_with_tier(
            one.attempt_id, price, prediction.status, prediction.metrics, outputs=one.outputs
        )
        if line.amount_nanos == one.amount_nanos:
            matched.add(one.prediction_id)
        else:
            differing.append(
                charge_discrepancy(
                    DiscrepancyKind.COST, one, now, line.amount_nanos, prediction.created_at
                )
            )
    return Comparison(frozenset(matched), tuple(differing))


def charge_discrepancy(
    kind: DiscrepancyKind,
    one: SettledCharge,
    now: datetime,
    upstream_nanos: int | None = None,
    made_at: datetime | None = None,
) -> Discrepancy:
    """A charge that upstream does not bear out."""
    return Discrepancy(
        kind,
        one.prediction_id,
        one.model,
        now,
        one.generation_id,
        one.ordinal,
        one.tenant,
        one.amount_nanos,
        upstream_nanos,
        made_at,
    )


def unclaimed_discrepancy(prediction: Prediction, now: datetime, *, exclusive: bool) -> Discrepancy:
    """A prediction that no attempt holds. What it comes to is not known: nor is its price."""
    kind = DiscrepancyKind.ORPHAN if exclusive else DiscrepancyKind.FOREIGN
    return Discrepancy(kind, prediction.id, prediction.model, now, created_at=prediction.created_at)


LIST_OVERLAP: Final = timedelta(minutes=10)
"""How far before the last pass the next one begins."""
_SETTLED_FOR: Final = 5.0
"""Seconds that a charge is left alone, so that a list that lags a little is no alarm."""
_MOST_LINES: Final = 1_000
_SLICE: Final = 500
"""Charges that are looked at in one go."""
_BREATH: Final = 0.02
"""Seconds between one page and the next, for everybody else."""
_UNSURE: Final = (AttemptState.SUBMITTING, AttemptState.UNCONFIRMED)
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Pass:
    """What one pass has before it: charges behind the line `after` for the first time."""

    origin: datetime
    begun: datetime
    since: datetime
    after: int
    due: DueCharges

    @property
    def line(self) -> int:
        """Which charges it looks for ends here."""
        return self.due.end

    def is_fresh(self, one: SettledCharge) -> bool:
        """Whether a charge is looked for in this pass for the first time."""
        return self.after < one.line <= self.line


@dataclass(slots=True)
class _PassFindings:
    """What it has found so far: predictions that are there, charges that agree, cases by kind."""

    seen: set[str] = field(default_factory=set)
    matched: int = 0
    cases: Counter[DiscrepancyKind] = field(default_factory=Counter)


class Reconciler:
    """Makes a pass every `timing.reconcile` seconds for as long as it is run."""

    def __init__(
        self, deps: EngineDeps, registry: ActiveGenerations, late_predictions: LatePredictions
    ) -> None:
        self._deps = deps
        self._registry = registry
        self._late_predictions = late_predictions
        # What an embedded sandbox has made is gone with its process, and its list with it.
        self._account = "sandbox" if deps.is_sandbox else deps.account

    async def run_forever(self) -> None:
        """Pass after pass; one that fails is made up for by the next."""
        begun = False
        while True:
            seconds = self._deps.timeouts.reconcile
            try:
                if begun:
                    await self.reconcile()
                else:
                    seconds = await self._begin()
                    begun = True
            except StoreUnavailable:
                _log.warning("reconciliation_aborted", reason="store_unavailable")
            except Exception as error:  # noqa: BLE001 - a bug here must not end the passes for good
                report_bug(BackgroundJob.RECONCILIATION, error)
            await self._deps.clock.wait(Notifier(), seconds)

    async def reconcile(self) -> Reconciliation:
        """One pass, logged, counted and stored."""
        look, found = await self._look(), _PassFindings()
        complete = True
        try:
            async for page in list_pages(self._deps.upstream, look.since, None):
                if found.seen:
                    await self._let_others_run()
                await self._compare(look, page, found)
                await self._look_for_owners(page, found)
        except ListUnavailable:
            complete = False
        listed = len(found.seen)
        if complete:
            complete = await self._look_again(look, found)
        return await self._write(look, found, listed, complete=complete)

    async def _compare(
        self, look: _Pass, predictions: Iterable[Prediction], found: _PassFindings
    ) -> None:
        """Hold their charges against them, of each once."""
        shown = {one.id: one for one in predictions if one.id not in found.seen}
        found.seen.update(shown)
        settled = await self._deps.store.reconciliations.charges_of_predictions(shown)
        compared = compare_charges(settled, shown, self._deps.clock.now())
        found.matched += sum(
            one.prediction_id in compared.matched for one in settled if look.is_fresh(one)
        )
        await self._report_cases(compared.differing, found)

    async def _let_others_run(self) -> None:
        """A pass is in no hurry: it takes a part of the time only, however long the list is."""
        await self._deps.clock.wait(Notifier(), _BREATH)

    # What there is to look at

    async def _begin(self) -> float:
        """From where the last process went on; from here, where none did.

        In how many seconds the next pass is due: processes that are short-lived make theirs, too.
        """
        now, seconds = self._deps.clock.now(), self._deps.timeouts.reconcile
        last = await self._deps.store.reconciliations.last_pass(self._account)
        if last is not None and not self._deps.is_sandbox:
            passed = (now - last.begun_at).total_seconds()
            return min(max(seconds - passed, 0.0), seconds)
        newest = await self._deps.store.charges(ChargeFilter(), 1, None)
        line = newest[0].at.line if newest else 0
        start = Reconciliation(self._account, now, now, now, now, line, complete=True)
        await self._deps.store.reconciliations.save_pass(start)
        return seconds

    async def _look(self) -> _Pass:
        now = self._deps.clock.now()
        last = await self._deps.store.reconciliations.last_pass(self._account)
        if last is None:
            raise StoreUnavailable("there is no pass to go on from", retry_after=1.0)
        alone = min(_SETTLED_FOR, self._deps.timeouts.reconcile)
        by = now - timedelta(seconds=alone)
        since = last.begun_at - LIST_OVERLAP
        due = await self._deps.store.reconciliations.due(last.line, max(since, last.origin), by)
        return _Pass(last.origin, now, since, last.line, due)

    async def _unsure(self) -> list[UnconfirmedAttempt]:
        """Attempts of which a prediction may be that nobody is known to hold yet."""
        key = self._deps.hash_key
        found = [
            UnconfirmedAttempt(step.attempt, step.plan, key)
            for step in self._registry.steps()
            if step.attempt.state in _UNSURE
        ]
        # Of those that were declared absent the sweeper takes what turns up late.
        records = await self._deps.store.list_unconfirmed(self._deps.clock.now() - LATE_WINDOW)
        active = {unconfirmed.attempt.id for unconfirmed in found}
        return found + [
            UnconfirmedAttempt(attempt, None, key)
            for record in records
            for attempt in record.attempts
            if attempt.id not in active and attempt.state in (*_UNSURE, AttemptState.ABSENT)
        ]

    async def _look_for_owners(self, page: Iterable[Prediction], found: _PassFindings) -> None:
        """Predictions that no attempt holds and that can be none's whose answer is still open."""
        claimed = await self._deps.store.claimed_predictions(one.id for one in page)
        free = {one.id: one for one in page if one.id not in claimed}
        if not free:
            return
        unsure = await self._unsure()
        held = await self._late_predictions.claimed(free)
        now, timing = self._deps.clock.now(), self._deps.timeouts
        cases = tuple(
            unclaimed_discrepancy(prediction, now, exclusive=self._deps.is_account_exclusive)
            for name, prediction in free.items()
            if name not in held
            and not any(_may_be(unconfirmed, prediction, timing) for unconfirmed in unsure)
        )
        await self._report_cases(cases, found)

    # What was not in the list

    async def _look_again(self, look: _Pass, found: _PassFindings) -> bool:
        """Look for charges whose predictions were not in the list. False: upstream did not say.

        What was made since the list begins should have been in it: the list is read once more
        there. What is older, as a run of half an hour is at its end, is asked for by itself, once.
        """
        absent: dict[str, int] = {}
        begins, ends = look.begun, look.since
        try:
            async for one in self._due(look):
                if one.prediction_id in found.seen:
                    continue
                if _is_older(one, look.since):
                    if not look.is_fresh(one):
                        continue
                    if prediction := await self._ask(one):
                        await self._compare(look, (prediction,), found)
                        continue
                else:
                    begins = min(begins, one.opened_at - MAX_CLOCK_SKEW)
                    ends = max(ends, one.settled_at + MAX_CLOCK_SKEW)
                absent[one.prediction_id] = one.line
            if absent and begins < ends:
                async for page in list_pages(self._deps.upstream, begins, ends):
                    there = [one for one in page if one.id in absent]
                    await self._compare(look, there, found)
                    await asyncio.sleep(0)
        except ListUnavailable:
            return False
        missing = [line for name, line in absent.items() if name not in found.seen]
        for at in range(0, len(missing), _SLICE):
            charges = await self._deps.store.reconciliations.at_lines(missing[at : at + _SLICE])
            now = self._deps.clock.now()
            cases = (charge_discrepancy(DiscrepancyKind.MISSING, one, now) for one in charges)
            await self._report_cases(tuple(cases), found)
        return True

    async def _due(self, look: _Pass) -> AsyncIterator[SettledCharge]:
        """The charges that are looked for, in slices."""
        above = look.due.start
        while charges := await self._deps.store.reconciliations.due_page(look.due, above, _SLICE):
            for one in charges:
                yield one
            above = charges[-1].line
            await asyncio.sleep(0)

    async def _ask(self, one: SettledCharge) -> Prediction | None:
        """The prediction of a charge; None where upstream says that there is none."""
        try:
            return await self._deps.upstream.get(one.prediction_id, model=one.model)
        except RequestRefused as refused:
            if refused.refusal is RefusalReason.NOT_FOUND:
                return None
            raise ListUnavailable from None
        except (NoResponse, MediagateError):
            raise ListUnavailable from None

    # Reports

    async def _report_cases(self, cases: tuple[Discrepancy, ...], found: _PassFindings) -> None:
        """Write cases down; the new ones go to the metrics and, up to a number, to the log."""
        if not cases:
            return
        new = await self._deps.store.reconciliations.save_discrepancies(cases)
        told = found.cases.total() - found.cases[DiscrepancyKind.FOREIGN]
        alarms = [case for case in new if case.kind is not DiscrepancyKind.FOREIGN]
        for case in alarms[: max(_MOST_LINES - told, 0)]:
            _log.warning(
                "ledger_discrepancy",
                kind=case.kind.value,
                prediction=case.prediction_id,
                model=case.model,
                generation=case.generation_id,
                ledger_usd_nanos=case.ledger_nanos,
                upstream_usd_nanos=case.upstream_nanos,
            )
        for case in new:
            found.cases[case.kind] += 1
            metrics.reconciled_charges.labels(case.kind.value).inc()

    async def _write(
        self, look: _Pass, found: _PassFindings, listed: int, *, complete: bool
    ) -> Reconciliation:
        # A charge that is looked for again is counted then.
        made = Reconciliation(
            self._account,
            look.origin,
            look.begun,
            self._deps.clock.now(),
            look.since,
            look.line,
            complete,
            listed,
            found.matched if complete else 0,
            {kind: found.cases[kind] for kind in DiscrepancyKind},
        )
        await self._deps.store.reconciliations.save_pass(made)
        _count(made)
        return made


def _may_be(
    unconfirmed: UnconfirmedAttempt, prediction: Prediction, timing: EngineTimeouts
) -> bool:
    """Whether a prediction may turn out to be an attempt's: more may be of one in doubt still."""
    is_absent = unconfirmed.attempt.state is AttemptState.ABSENT
    return (matches if is_absent else may_match)(unconfirmed, prediction, timing)


def _is_older(one: SettledCharge, since: datetime) -> bool:
    """Whether its prediction may have been made before the list begins."""
    return one.opened_at - MAX_CLOCK_SKEW < since


def _count(made: Reconciliation) -> None:
    """To the metrics and the log."""
    metrics.reconciled_charges.labels("matched").inc(made.matched)
    counts = {kind.value: number for kind, number in made.counts.items() if number}
    if made.complete:
        metrics.reconciled_timestamp.set(made.ended_at.timestamp())
        _log.info("reconciliation_completed", listed=made.listed, matched=made.matched, **counts)
    else:
        _log.warning("reconciliation_incomplete", **counts)
