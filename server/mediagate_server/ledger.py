"""Money as an append-only book: what to write when an attempt is opened, ends, or never was.

Pure functions from facts to entries. The store appends them under its key (attempt, kind), so
that a repeat changes nothing. Metrics are counted by the caller of `settle`, nowhere else.

What a terminal status costs:

    status     cost                        why
    succeeded  billed metrics x price      what Replicate bills by; outputs that were delivered
                                           count where the price says so
    failed     billed metrics x price      a failed run may have used paid time or tokens, and
                                           nobody promises that it is free: without the metric it
                                           is unknown, even where nothing was delivered
    canceled   billed metrics x price      it had started, and what ran is billed; without the
                                           metric it is unknown
    aborted    nothing                     it ended before it started
    (refused)  nothing: released           it was never taken
"""

from collections.abc import Iterable

from mediagate_server.catalog.plan import Plan
from mediagate_server.catalog.prices import Metrics, PriceSchedule, cost
from mediagate_server.replicate.port import PredictionStatus
from mediagate_server.store.records import Cost, CostState, EntryKind, LedgerEntry

_LEAST_SURE_FIRST = (CostState.UNKNOWN, CostState.ESTIMATED, CostState.ASSUMED)


def reserve(plan: Plan, attempt_id: str) -> LedgerEntry:
    """Before the send: hold the most that the planned run may cost."""
    most = plan.estimate.maximum
    state = CostState.UNKNOWN if most is None else CostState.ESTIMATED
    return LedgerEntry(attempt_id, EntryKind.RESERVE, most, state, plan.price.as_of)


def settle(
    attempt_id: str,
    price: PriceSchedule,
    status: PredictionStatus,
    metrics: Metrics,
    *,
    outputs: int = 0,
) -> LedgerEntry:
    """At the proven end: what it cost, by the price held at submit.

    `outputs` is how many outputs the terminal record holds. Raises ValueError for a status that
    is not an end: nothing may be settled on less.
    """
    if not status.is_terminal:
        raise ValueError(f"{status.value} is not an end")
    if status is PredictionStatus.ABORTED:
        return LedgerEntry(attempt_id, EntryKind.SETTLE, 0, CostState.SETTLED, price.as_of)
    delivered = outputs if status is PredictionStatus.SUCCEEDED else None
    amount = cost(price, metrics, outputs=delivered)
    if amount is None:
        state = CostState.UNKNOWN
    else:
        state = CostState.ASSUMED if price.assumed else CostState.SETTLED
    return LedgerEntry(attempt_id, EntryKind.SETTLE, amount, state, price.as_of)


def release(reserved: LedgerEntry) -> LedgerEntry:
    """Nothing was ever taken upstream (refused, or proven absent): give back what was held."""
    if reserved.kind is not EntryKind.RESERVE:
        raise ValueError("only a reservation can be given back")
    return LedgerEntry(
        reserved.attempt_id,
        EntryKind.RELEASE,
        reserved.nanos,
        reserved.state,
        reserved.price_date,
    )


def charged(entry: LedgerEntry) -> Cost:
    """What an attempt costs by this entry: a reservation may cost it all, a release nothing."""
    if entry.kind is EntryKind.RELEASE:
        return Cost(0, CostState.SETTLED, entry.price_date)
    return Cost(entry.nanos, entry.state, entry.price_date)


def total(costs: Iterable[Cost]) -> Cost:
    """What several attempts cost together; unknown as soon as one of them is.

    The least sure state wins: UNKNOWN, ESTIMATED, ASSUMED, SETTLED. The price date is that of
    the last attempt that has one.
    """
    parts = list(costs)
    known = [part.nanos for part in parts if part.nanos is not None]
    states = {part.state for part in parts}
    if len(known) < len(parts):
        states.add(CostState.UNKNOWN)
    state = next((state for state in _LEAST_SURE_FIRST if state in states), CostState.SETTLED)
    dates = [part.price_date for part in parts if part.price_date]
    nanos = None if state is CostState.UNKNOWN else sum(known)
    return Cost(nanos, state, dates[-1] if dates else "")


def overrun(reserved: LedgerEntry, settled: LedgerEntry) -> int:
    """How far a settled cost went over what was held, in nano-dollars; 0 where not known."""
    if reserved.nanos is None or settled.nanos is None:
        return 0
    return max(0, settled.nanos - reserved.nanos)
