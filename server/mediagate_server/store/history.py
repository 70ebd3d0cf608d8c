"""The port for what lies behind: stored requests, earlier answers, and erasing them."""

from datetime import datetime
from typing import Protocol

from mediagate_server.store.records import Generation, ListPosition, RequestBinding


class GenerationHistory(Protocol):
    """A part of the store; it fails as the store does."""

    async def erase(self, generation: Generation) -> None:
        """Write the next version as `save` does, and forget the request.

        On return no file of the store has a byte left of what was there before, but in what is
        sealed. Raises StaleWrite.
        """
        ...

    async def forget_requests(self, before: datetime) -> int:
        """Erase the requests of generations accepted before that time; how many there were."""
        ...

    async def find_expired(
        self,
        modalities: tuple[str, ...],
        before: datetime,
        limit: int,
        after: ListPosition | None = None,
    ) -> tuple[Generation, ...]:
        """Generations accepted before that time, ended and not erased, oldest first.

        A page of them, from above `after`.
        """
        ...

    async def find_reusable(
        self, tenant: str, reuse_key: str, since: datetime
    ) -> tuple[Generation, ...]:
        """A tenant's successes of this likeness since then that were not erased, newest first.

        A few of them.
        """
        ...

    async def recent_runs(
        self, most_of_a_model: int, *, sandbox: bool
    ) -> tuple[tuple[str, float], ...]:
        """Models and how many seconds they ran, of the last successes, the newest first.

        Of `sandbox` alone, or of Replicate alone.
        """
        ...

    async def bind(
        self, generation: Generation, request_id: str, fingerprint: str
    ) -> RequestBinding:
        """Bind another request_id to a generation; the binding there is where there is one."""
        ...

    async def stored_request(self, generation_id: str) -> bytes | None:
        """What `accept` was given as the request; None where nothing was, or it is erased."""
        ...
