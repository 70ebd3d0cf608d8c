"""The port: what the gate needs of whatever keeps its records."""

from asyncio import Future
from typing import Protocol

from mediagate_server.store.records import Bound, Entry, Filter, Generation, Position


class Store(Protocol):
    """A durable store. What a method has returned survives a loss of power.

    Every method raises errors.StoreUnavailable when it cannot do its work: nothing was written.
    """

    async def bound(self, tenant: str, request_id: str) -> Bound | None:
        """What a request_id is bound to, if anything."""
        ...

    async def accept(
        self, generation: Generation, entries: tuple[Entry, ...], max_in_flight: int
    ) -> Bound | None:
        """Bind the request_id and write generation, attempt and reservation, in one commit.

        Returns the binding, and writes nothing, where the request_id is bound already. Raises
        errors.TooManyInFlight where the tenant runs `max_in_flight` generations (0: no limit).
        """
        ...

    def save(
        self,
        generation: Generation,
        entries: tuple[Entry, ...] = (),
        *,
        release_request_id: bool = False,
    ) -> "Future[None]":
        """Write the next version of a generation, its attempts and ledger entries, in one commit.

        Saves are written in the order of the calls; the future is done once the commit is durable.
        It raises StaleWrite where the stored version is not the one before.
        """
        ...

    async def get(self, tenant: str, generation_id: str) -> Generation | None:
        """One generation of a tenant."""
        ...

    async def list_generations(
        self, tenant: str, wanted: Filter, limit: int, after: Position | None
    ) -> tuple[Generation, ...]:
        """A tenant's generations, newest first, from below `after`."""
        ...

    async def unfinished(self) -> tuple[Generation, ...]:
        """All generations that are not terminal, oldest first."""
        ...

    async def entries(self, attempt_id: str) -> tuple[Entry, ...]:
        """The ledger's lines for an attempt, in the order written."""
        ...


class StaleWrite(Exception):
    """A save came from somebody who no longer owns the generation. Nothing was written."""
