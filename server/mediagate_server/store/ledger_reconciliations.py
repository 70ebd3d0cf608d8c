"""Reconciliation of the ledger with upstream's list of predictions: records and port."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class DiscrepancyKind(StrEnum):
    """Kind of a discrepancy between ledger and upstream."""

    MISSING = "missing"
    """The ledger has a charge for a prediction that upstream does not have."""
    ORPHAN = "orphan"
    """Upstream has a prediction of no attempt, on an account that only this gateway uses."""
    FOREIGN = "foreign"
    """The same on an account that is shared with others, where it is expected."""
    COST = "cost"
    """The amount by upstream's present record differs from the settled one."""


@dataclass(frozen=True, slots=True)
class SettledCharge:
    """A charge with all that is needed to compute it again.

    `line` is its line in the ledger; `price` is the price list at submit, as the catalog's text,
    where that was requested; `outputs` is how many outputs were counted. `opened_at` is
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
    """A prediction on which ledger and upstream disagree, unique by (prediction, kind).

    An orphan has no generation and no tenant. Amounts are in nano-dollars, None where they are
    unknown or there is none. `created_at` is upstream's creation time.
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
    """One reconciliation pass over upstream's list.

    `account` is whose list it was, `origin` since when it is compared with this ledger: charges
    settled before are of another account. A `complete` pass has looked for all charges up to `line`
    and at all predictions created since `since`. `matched` charges were there, with the settled
    amount; `counts` are the new discrepancies of each kind.
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
    """The range of charges that a pass looks for: ledger lines above `start`, up to `end`.

    Those above `after` are new; of the others only those settled at `since` or later.
    """

    start: int
    end: int
    after: int
    since: datetime


@dataclass(frozen=True, slots=True)
class ReconciliationFindings:
    """Findings since a time: the last pass, sums over all passes, newest discrepancies."""

    last: Reconciliation | None
    matched: int
    counts: Mapping[DiscrepancyKind, int]
    discrepancies: tuple[Discrepancy, ...]


class ReconciliationStore(Protocol):
    """Store of reconciliation passes. All methods raise StoreUnavailable; writes, StaleOwner."""

    async def due(self, after_line: int, since: datetime, settled_by: datetime) -> DueCharges:
        """The range of charges after a ledger line, up to the first settled after `settled_by`.

        It includes those before that line that were settled at `since` or later. The next pass
        begins at its end.
        """
        ...

    async def due_page(self, due: DueCharges, above: int, limit: int) -> tuple[SettledCharge, ...]:
        """A page of due charges above a line, without their prices."""
        ...

    async def at_lines(self, lines: Iterable[int]) -> tuple[SettledCharge, ...]:
        """The charges at these ledger lines, without their prices."""
        ...

    async def save_discrepancies(self, cases: tuple[Discrepancy, ...]) -> tuple[Discrepancy, ...]:
        """Save discrepancies of a running pass; returns those that are new."""
        ...

    async def charges_of_predictions(
        self, prediction_ids: Iterable[str]
    ) -> tuple[SettledCharge, ...]:
        """The charges of these predictions that have one, with their prices."""
        ...

    async def last_pass(self, account: str) -> Reconciliation | None:
        """The last complete pass of an account."""
        ...

    async def save_pass(self, reconciliation: Reconciliation) -> None:
        """Save a pass."""
        ...

    async def findings(self, since: datetime, limit: int) -> ReconciliationFindings:
        """Findings since a time; at most `limit` discrepancies, the newest first."""
        ...
