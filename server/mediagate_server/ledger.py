"""Append-only ledger: reserve, settle and release entries of attempts.

Pure functions from facts to entries. The store appends them under its key (attempt, kind), so that
a repeat changes nothing. Metrics are counted by the caller of `settle_with_tier`, nowhere else.

What a terminal status costs:

    status     cost                        why
    succeeded  billed metrics x price      what Replicate bills by; outputs that were delivered
                                           count where the price says so. Without the metric and
                                           without an output it is unknown, never free
    failed     billed metrics x price      a failed run may have used paid time or tokens, and
                                           nobody promises that it is free: without the metric it
                                           is unknown
    canceled   billed metrics x price      it had started, and what ran is billed; without the
                                           metric it is unknown
    (either)   a price by what came out    no picture and no second of film came out: that much
                                           is known, whatever upstream leaves out
    aborted    nothing                     it ended before it started
    (refused)  nothing: released           it was never taken

What comes to more nano-dollars than 64 bits hold (nine thousand million dollars) is unknown.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.catalog.pricing.prices import Metrics, PriceSchedule, Tier, compute_charge
from mediagate_server.store.records import LARGEST_NANOS, CostState, LedgerEntry, LedgerEntryKind
from mediagate_server.upstream.port import PredictionStatus

_LEAST_CERTAIN_FIRST = (CostState.UNKNOWN, CostState.ESTIMATED, CostState.ASSUMED)
_ZERO_OUTPUT_METRICS: Metrics = {
    "image_output_count": 0,
    "image_output_megapixels": 0,
    "video_output_count": 0,
    "video_output_duration_seconds": 0,
    "audio_output_duration_seconds": 0,
}
"""Metrics of the output, of a run without one."""
_PRECEDENCE = {LedgerEntryKind.RESERVE: 0, LedgerEntryKind.RELEASE: 1, LedgerEntryKind.SETTLE: 2}


@dataclass(frozen=True, slots=True)
class CostTotal:
    """Total cost of several attempts. `amount_nanos` is None where any of them is unknown."""

    amount_nanos: int | None
    state: CostState
    price_as_of: str


def reserve_entry(plan: Plan, attempt_id: str) -> LedgerEntry:
    """RESERVE entry, before the send: the maximum that the planned run may cost."""
    maximum = plan.estimate.maximum
    state = CostState.UNKNOWN if maximum is None else CostState.ESTIMATED
    return LedgerEntry(attempt_id, LedgerEntryKind.RESERVE, maximum, state, plan.price.as_of)


def settle_with_tier(
    attempt_id: str,
    price: PriceSchedule,
    status: PredictionStatus,
    metrics: Metrics | None,
    *,
    outputs: int | None = 0,
) -> tuple[LedgerEntry, Tier | None]:
    """SETTLE entry, at the proven end: the cost by the price reserved at submit, and the tier of
    that price; None where there is none.

    `outputs` is the number of outputs in the terminal record; None, or 0 of a success: nobody has
    counted them. `metrics` None: upstream's metrics cannot be parsed, and a count of our own could
    contradict them. Raises ValueError for a status that is not terminal: nothing may be settled on
    less.
    """
    if not status.is_terminal:
        raise ValueError(f"{status.value} is not an end")
    if status is PredictionStatus.ABORTED:
        return LedgerEntry(
            attempt_id, LedgerEntryKind.SETTLE, 0, CostState.SETTLED, price.as_of
        ), None
    # A success without a counted output is not free: the output may have been lost.
    delivered = outputs or None
    if metrics is None:
        metrics, delivered = {}, None
    elif status is not PredictionStatus.SUCCEEDED:
        delivered = None if outputs else 0
        metrics = metrics if outputs else {**_ZERO_OUTPUT_METRICS, **metrics}
    tier, amount = compute_charge(price, metrics, outputs=delivered) or (None, None)
    if amount is None or amount > LARGEST_NANOS:
        amount, state = None, CostState.UNKNOWN
    else:
        state = CostState.ASSUMED if price.assumed else CostState.SETTLED
    return LedgerEntry(attempt_id, LedgerEntryKind.SETTLE, amount, state, price.as_of), tier


def settle_unknown(attempt_id: str, price: PriceSchedule) -> LedgerEntry:
    """SETTLE entry of unknown cost: upstream no longer has the record that would say it."""
    return LedgerEntry(attempt_id, LedgerEntryKind.SETTLE, None, CostState.UNKNOWN, price.as_of)


def release_entry(attempt_id: str, price: PriceSchedule) -> LedgerEntry:
    """RELEASE entry: upstream accepted nothing (refused, or proven absent), so it cost nothing."""
    return LedgerEntry(attempt_id, LedgerEntryKind.RELEASE, 0, CostState.SETTLED, price.as_of)


def current_entry_by_attempt(entries: Iterable[LedgerEntry]) -> dict[str, LedgerEntry]:
    """The entry that counts for each attempt: its end where there is one, else its reservation.

    A SETTLE beats a RELEASE: a prediction that turns up after its release was charged after all.
    """
    current: dict[str, LedgerEntry] = {}
    for entry in entries:
        other = current.get(entry.attempt_id)
        if other is None or _PRECEDENCE[entry.kind] > _PRECEDENCE[other.kind]:
            current[entry.attempt_id] = entry
    return current


def total_cost(entries: Iterable[LedgerEntry]) -> CostTotal:
    """Total cost of several attempts, as far as it is known.

    The least certain state wins: UNKNOWN, ESTIMATED, ASSUMED, SETTLED. The price date is that of
    the last attempt that has one.
    """
    current = current_entry_by_attempt(entries).values()
    amounts = [entry.amount_nanos for entry in current if entry.amount_nanos is not None]
    states = {entry.state for entry in current}
    state = next((state for state in _LEAST_CERTAIN_FIRST if state in states), CostState.SETTLED)
    dates = [entry.price_as_of for entry in current if entry.price_as_of]
    total: int | None = sum(amounts) if len(amounts) == len(current) else None
    if total is not None and total > LARGEST_NANOS:
        total, state = None, CostState.UNKNOWN
    return CostTotal(total, state, dates[-1] if dates else "")
