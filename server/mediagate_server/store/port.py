"""The port: what the gate needs of whatever keeps its records."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from mediagate_server.config.tenants import Budget
from mediagate_server.store.budgets import BudgetUsage, Reservation, ThresholdEvent
from mediagate_server.store.charges import (
    Charge,
    ChargeFilter,
    ChargePosition,
    ChargeTotal,
    GroupBy,
)
from mediagate_server.store.history import GenerationHistory
from mediagate_server.store.outbox import Outbox
from mediagate_server.store.reconciliations import ReconciliationStore
from mediagate_server.store.records import (
    ChangeRange,
    Checkpoint,
    Generation,
    GenerationChange,
    GenerationFilter,
    LedgerEntry,
    ListPosition,
    RequestBinding,
    Resumption,
)


class Store(Protocol):
    """A durable store with one owner. What a method has returned survives a loss of power.

    Every method raises errors.StoreUnavailable when it cannot do its work: nothing was written.
    After another process has taken the store over, every write raises StaleOwner.
    """

    @property
    def lost(self) -> asyncio.Event:
        """Set once another process has taken the store over: this one is to end itself."""
        ...

    def lease_left(self) -> float:
        """Seconds for which no other process can take the store over; 0 or less: one may have.

        Whoever wants to send something that costs money asks right before it: a process that was
        paused since its commit may have been declared dead, and what it was about to send absent.
        """
        ...

    @property
    def history(self) -> GenerationHistory:
        """What was asked and made: to be found again, and to be erased."""
        ...

    @property
    def reconciliations(self) -> ReconciliationStore:
        """Whether upstream bears the ledger out."""
        ...

    @property
    def outbox(self) -> Outbox:
        """What callers are still to be told of."""
        ...

    # Generations

    async def find_binding(self, tenant: str, request_id: str) -> RequestBinding | None:
        """What a request_id is bound to, if anything."""
        ...

    async def accept(
        self,
        generation: Generation,
        entries: tuple[LedgerEntry, ...],
        max_in_flight: int,
        *,
        pending: bytes | None = None,
        webhook_url: str = "",
        request: bytes | None = None,
        likeness: str = "",
    ) -> RequestBinding | int:
        """Bind the request_id and write generation, attempt and reservation, in one commit.

        `pending` is what a later process needs to send it; kept sealed until the generation
        has ended and no attempt of it is in doubt any more: by it such a one is told in a list.
        `webhook_url` is told of the end by whoever empties the `outbox`; empty: nobody is told.
        `request` is what was asked, kept sealed until it is erased. By its `likeness` it is found
        again by another that asks the same.
        Returns the number of this change, or the binding, with nothing written, where the
        request_id is bound already. Raises errors.TooManyInFlight where the tenant runs
        `max_in_flight` generations (0: no limit), errors.BudgetExceeded where what is reserved
        does not fit into a budget of its, errors.PriceUnknown where one bounds what nobody knows.
        """
        ...

    def save(
        self,
        generation: Generation,
        entries: tuple[LedgerEntry, ...] = (),
        *,
        release_request_id: bool = False,
        claims: tuple[str, ...] = (),
    ) -> "asyncio.Future[int]":
        """Write the next version of a generation, its attempts and ledger entries, in one commit.

        Saves are written in the order of the calls; the future is done once the commit is durable,
        with the number of this change. It raises StaleWrite where the stored version is not the one
        before, and PredictionAlreadyClaimed where an attempt of another generation has one of the
        predictions in `claims`: those that are adopted. (What a create is answered with is claimed
        before, by the one process that writes: generations/execution/prediction_claims.py.) A
        terminal one loses its checkpoints, and its pending input once no attempt of it is in doubt;
        where it `calls_back`, its event is in the outbox with the same commit. It raises
        errors.BudgetExceeded or errors.PriceUnknown as `accept` does, where it reserves more than
        it closes.
        """
        ...

    async def get(self, tenant: str, generation_id: str) -> Generation | None:
        """One generation of a tenant."""
        ...

    async def list_generations(
        self, tenant: str, wanted: GenerationFilter, limit: int, after: ListPosition | None
    ) -> tuple[Generation, ...]:
        """A tenant's generations, newest first, from below `after`."""
        ...

    async def list_unfinished(self) -> tuple[Generation, ...]:
        """All generations that are not terminal, oldest first."""
        ...

    async def list_unconfirmed(
        self, absent_since: datetime | None = None
    ) -> tuple[Generation, ...]:
        """All generations with an attempt that is UNCONFIRMED, oldest first.

        With `absent_since` also those with one that is ABSENT and was sent at that time or
        later: its prediction may still turn up.
        """
        ...

    async def find_by_attempt(self, attempt_id: str) -> Generation | None:
        """The generation, of whatever tenant, that an attempt belongs to."""
        ...

    async def find_by_prediction(self, prediction_id: str) -> Generation | None:
        """The generation, of whatever tenant, with an attempt that is this prediction.

        The newest where upstream gave one id twice.
        """
        ...

    async def claimed_predictions(self, prediction_ids: Iterable[str]) -> frozenset[str]:
        """Those of the predictions that are some attempt's."""
        ...

    async def entries(self, attempt_id: str) -> tuple[LedgerEntry, ...]:
        """The ledger's lines for an attempt, in the order written."""
        ...

    # Money: the ledger's settled lines

    async def charges(
        self, wanted: ChargeFilter, limit: int, after: ChargePosition | None
    ) -> tuple[Charge, ...]:
        """Charges, the last settled first, from below `after`."""
        ...

    async def totals(
        self, wanted: ChargeFilter, group_by: Sequence[GroupBy] = (), label_key: str = ""
    ) -> tuple[ChargeTotal, ...]:
        """Charges added up, one total for each group there is, the dearest first.

        `label_key` is the label that Dimension.LABEL groups by; without it a charge's value is
        empty.
        """
        ...

    # What is kept only while a generation runs

    async def pending_input(self, generation_id: str) -> bytes | None:
        """What `accept` was given to keep; None where nothing was, or the generation has ended."""
        ...

    async def resumptions(self, generation_ids: Sequence[str]) -> Mapping[str, Resumption]:
        """What is kept of each of these that run, in one read; of one without anything too."""
        ...

    def save_checkpoint(self, generation_id: str, piece: Checkpoint) -> "asyncio.Future[None]":
        """Keep a piece of a text that is being streamed. Nobody needs to wait for it.

        Ignored for a generation that has ended. A failure is told to whoever awaits the future.
        """
        ...

    # Changes

    async def changed_since(
        self, tenant: str, wanted: GenerationFilter, after: int, limit: int
    ) -> tuple[GenerationChange, ...]:
        """Generations whose last change has a number above `after`, as they stand, by number."""
        ...

    async def change_range(self) -> ChangeRange:
        """From where to where changes can be followed."""
        ...

    # Budgets

    async def budgets(
        self, tenant: str, wanted: Sequence[Budget], now: datetime
    ) -> tuple[BudgetUsage, ...]:
        """How budgets of a tenant stand now, in the order given."""
        ...

    async def check_budgets(
        self, tenant: str, labels: Mapping[str, str], asked: Reservation, now: datetime
    ) -> None:
        """Raise what `accept` would, were so much reserved now for a call with these labels.

        Nothing is written: what fits now may not fit any more when it is sent.
        """
        ...

    async def override_budget(
        self, tenant: str, budget: str, limit_nanos: int, expires: datetime
    ) -> None:
        """Put another limit in the place of a budget's own, until then."""
        ...

    async def threshold_events(self, after: int, limit: int) -> tuple[ThresholdEvent, ...]:
        """Thresholds of budgets that were reached, those with a sequence above `after` in order.

        Each is written by the very commit that reached it, once for each span and limit:
        another limit has thresholds of its own, and one that comes back is not told again.
        """
        ...

    async def in_flight(self, tenant: str) -> int:
        """How many generations of a tenant are not terminal."""
        ...

    # Keys and webhooks

    async def claim_webhook(self, webhook_id: str, now: datetime) -> bool:
        """True for the first to claim this id; kept for at least 24 hours."""
        ...

    async def has_webhook(self, webhook_id: str) -> bool:
        """Whether this id was claimed."""
        ...

    async def secret_key(self, name: str) -> bytes:
        """The secret key of this name: 32 random bytes, drawn at its first use and then kept."""
        ...


class StaleWrite(Exception):
    """A save came from somebody who no longer owns the generation. Nothing was written."""


class PredictionAlreadyClaimed(Exception):
    """A prediction to be adopted is another generation's. Nothing was written."""
