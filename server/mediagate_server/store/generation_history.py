"""Store port of stored requests, reusable results, expiry and erasure of generations."""

from datetime import datetime
from typing import Protocol

from mediagate_server.store.records import Generation, ListPosition, RequestBinding


class GenerationHistory(Protocol):
    """History of generations. All methods raise StoreUnavailable; writes, StaleOwner."""

    async def erase(self, generation: Generation) -> None:
        """Write the next version as `save` does, and delete the request.

        On return no file of the store has a byte left of the old version, except encrypted ones.
        Raises StaleWrite.
        """
        ...

    async def forget_requests(self, before: datetime) -> int:
        """Delete stored requests of generations accepted before that time; returns their count."""
        ...

    async def find_expired(
        self,
        modalities: tuple[str, ...],
        before: datetime,
        limit: int,
        after: ListPosition | None = None,
    ) -> tuple[Generation, ...]:
        """A page of generations past retention, oldest first, from above `after`.

        They were accepted before that time, have ended and are not erased.
        """
        ...

    async def find_reusable(
        self, tenant: str, reuse_key: str, since: datetime
    ) -> tuple[Generation, ...]:
        """The newest successes of a tenant with this reuse key since then that are not erased."""
        ...

    async def recent_runs(
        self, limit_per_model: int, *, sandbox: bool
    ) -> tuple[tuple[str, float], ...]:
        """Model and run seconds of the last successes, the newest first.

        Only of the sandbox, or only of Replicate.
        """
        ...

    async def bind(
        self, generation: Generation, request_id: str, fingerprint: str
    ) -> RequestBinding:
        """Bind another request_id to a generation; returns the existing binding, if any."""
        ...

    async def stored_request(self, generation_id: str) -> bytes | None:
        """The request that `accept` was given; None where there was none, or it is erased."""
        ...
