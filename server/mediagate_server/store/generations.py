"""Store port of generations: records, request bindings, checkpoints, and their changes in order."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

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


class StaleWrite(Exception):
    """A save by a process or task that no longer owns the generation. Nothing was written."""


class PredictionAlreadyClaimed(Exception):
    """A prediction to be adopted is another generation's. Nothing was written."""


class GenerationStore(Protocol):
    """Repository of generations. All methods raise StoreUnavailable; writes, StaleOwner."""

    async def find_binding(self, tenant: str, request_id: str) -> RequestBinding | None:
        """The binding of a request_id, if it has one."""
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
        reuse_key: str = "",
    ) -> RequestBinding | int:
        """Insert a generation with its request binding, attempts and reservation, in one commit.

        `pending` is what a later process needs to send it; it is kept encrypted until the
        generation has ended and none of its attempts is unconfirmed. `webhook_url` gets the end of
        the generation, sent from the `outbox`; empty: no webhook. `request` is the
        caller's request, kept encrypted until it is erased. `reuse_key` is equal for requests that
        may reuse each other's result; empty: never reused.
        Returns the number of this change, or the binding, with nothing written, where the
        request_id is bound already. Raises errors.TooManyInFlight where the tenant runs
        `max_in_flight` generations (0: no limit), errors.BudgetExceeded where the reservation
        does not fit into a budget, errors.PriceUnknown where a budget bounds an unknown price.
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
        predictions in `claims`: those that are adopted. (The prediction of a create's answer is
        claimed in memory before: generations/execution/prediction_claims.py.) A terminal version
        deletes the checkpoints, and the pending input once no attempt is unconfirmed; where it
        `sends_webhook`, its webhook event is released by the same commit. It raises
        errors.BudgetExceeded or errors.PriceUnknown as `accept` does, where it reserves more than
        it closes.
        """
        ...

    async def get(self, tenant: str, generation_id: str) -> Generation | None:
        """One generation of a tenant."""
        ...

    async def list_generations(
        self, tenant: str, where: GenerationFilter, limit: int, after: ListPosition | None
    ) -> tuple[Generation, ...]:
        """A page of a tenant's generations, newest first, from below `after`."""
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
        """The generation, of any tenant, that an attempt belongs to."""
        ...

    async def claimed_predictions(self, prediction_ids: Iterable[str]) -> frozenset[str]:
        """Those of the predictions that belong to an attempt."""
        ...

    async def in_flight(self, tenant: str) -> int:
        """How many generations of a tenant are not terminal."""
        ...

    # What is kept only while a generation runs

    async def pending_input(self, generation_id: str) -> bytes | None:
        """What `accept` was given as `pending`; None where nothing was, or it has ended."""
        ...

    async def resumptions(self, generation_ids: Sequence[str]) -> Mapping[str, Resumption]:
        """Pending input and checkpoints of each of these generations, in one read."""
        ...

    def save_checkpoint(self, generation_id: str, piece: Checkpoint) -> "asyncio.Future[None]":
        """Append a checkpoint to a text that is being streamed. Nobody needs to wait for it.

        Ignored for a generation that has ended. The future raises where it failed.
        """
        ...

    # Changes

    async def changed_since(
        self, tenant: str, where: GenerationFilter, after: int, limit: int
    ) -> tuple[GenerationChange, ...]:
        """Generations whose last change has a number above `after`, as they are now, by number."""
        ...

    async def change_range(self) -> ChangeRange:
        """The numbers of the changes that can be followed."""
        ...
