"""What a comparison of the ledger with upstream's own list looks at, and what it has found."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class DiscrepancyKind(StrEnum):
    """How the two can disagree."""

    MISSING = "missing"
    """The ledger has a charge for a prediction that upstream does not have."""
    ORPHAN = "orphan"
    """Upstream has a prediction that no attempt holds, on an account that is ours alone."""
    FOREIGN = "foreign"
    """The same on an account that others use too, where it is to be expected."""
    COST = "cost"
    """By what upstream says now, the prediction comes to another amount than was settled."""


@dataclass(frozen=True, slots=True)
class SettledCharge:
    """A charge with all that it takes to reckon it anew.

    `line` is its place in the ledger; `price` is the price list held at submit, as text of the
    catalog's, where that was asked for; `outputs` is how many outputs were counted. `opened_at` is
    when the create was sent, where that is known.
    `amount_nanos` is None where unknown.
    """

    line: int
    prediction_id: str
    attempt_id: str
    generation_id: str
    ordinal: int
    tenant: str
    model: str
    opened_at: datetime
    settled_at: datetime
    amount_nanos: int | None
    outputs: int
    price: str


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One prediction on which the two disagree; (prediction, kind) is found only once.

    Of an orphan nobody knows generation and tenant. Amounts are in nano-dollars, None where they
    are unknown or there is none. `made_at` is when upstream says that it was created.
    """

    kind: DiscrepancyKind
    prediction_id: str
    model: str
    found_at: datetime
    generation_id: str = ""
    ordinal: int = 0
    tenant: str = ""
    ledger_nanos: int | None = None
    upstream_nanos: int | None = None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """One pass over upstream's list.

    `account` is whose list it was, `origin` from when on it is compared with this ledger: charges
    that were settled before are none of its. Where the pass is `complete`, all charges up to
    `line` have been looked for, and all that was created from `since` on was looked at. `matched`
    charges were there and came to what was settled; `found` counts what was found for the first
    time.
    """

    account: str
    origin: datetime
    begun_at: datetime
    ended_at: datetime
    since: datetime
    line: int
    complete: bool
    listed: int = 0
    matched: int = 0
    counts: Mapping[DiscrepancyKind, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DueCharges:
    """Which charges a pass looks for: lines of the ledger above `start`, up to `end`.

    Those above `after` for the first time; of the others those settled at `since` or later.
    """

    start: int
    end: int
    after: int
    since: datetime


@dataclass(frozen=True, slots=True)
class ReconciliationFindings:
    """What was found in some time: the last pass, sums over all of them, and the newest cases."""

    last: Reconciliation | None
    matched: int
    counts: Mapping[DiscrepancyKind, int]
    discrepancies: tuple[Discrepancy, ...]


class ReconciliationStore(Protocol):
    """Durable, as the store is. Every method raises StoreUnavailable; those that write, StaleOwner
    too.
    """

    async def due(self, after_line: int, since: datetime, settled_by: datetime) -> DueCharges:
        """Charges behind a line of the ledger, up to the first that was settled after `settled_by`.

        With them those before that line that were settled at `since` or later. The next time
        begins at their end.
        """
        ...

    async def due_page(self, due: DueCharges, above: int, limit: int) -> tuple[SettledCharge, ...]:
        """The first of them above a line, at most `limit`, without their prices."""
        ...

    async def at_lines(self, lines: Iterable[int]) -> tuple[SettledCharge, ...]:
        """The charges at these lines, without their prices."""
        ...

    async def save_discrepancies(self, cases: tuple[Discrepancy, ...]) -> tuple[Discrepancy, ...]:
        """Keep what a pass has found by now; returns the cases that were not known before."""
        ...

    async def charges_of_predictions(
        self, prediction_ids: Iterable[str]
    ) -> tuple[SettledCharge, ...]:
        """The charges of these predictions, as far as they have one, with their prices."""
        ...

    async def last_pass(self, account: str) -> Reconciliation | None:
        """The last complete pass over an account's list."""
        ...

    async def save_pass(self, reconciliation: Reconciliation) -> None:
        """Keep a pass."""
        ...

    async def findings(self, since: datetime, limit: int) -> ReconciliationFindings:
        """What passes have found at or after a time; at most `limit` cases, the newest first."""
        ...
