"""`SqlitePast`: the port of what lies behind, over the store's own threads."""

import sqlite3
from collections.abc import Callable
from datetime import datetime

from mediagate_server.store.records import Bound, Generation, Position
from mediagate_server.store.sealing import Seal
from mediagate_server.store.sqlite import erasing, generations, keeping, searching
from mediagate_server.store.sqlite.reader import Reader
from mediagate_server.store.sqlite.rows import Rows
from mediagate_server.store.sqlite.standing import Standing
from mediagate_server.store.sqlite.writer import GroupCommitWriter


class SqlitePast:
    """Implements `past.Past`. Made by the store; `next_change` numbers its changes."""

    def __init__(
        self,
        writer: GroupCommitWriter,
        reader: Reader,
        searches: Reader,
        seal: Seal,
        standing: Standing,
        next_change: Callable[[], int],
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._searches = searches
        self._seal = seal
        self._standing = standing
        self._next_change = next_change

    async def erase(self, generation: Generation) -> None:
        """See past.Past."""

        def job(rows: Rows) -> None:
            # Looked at before: of many who erase the same, all but one have written nothing.
            generations.check_version(rows.written(), generation)
            generations.update(rows, generation, (), self._next_change())
            keeping.erase_pending(rows, generation.id)
            erasing.forget(rows.written(), generation.id)

        await self._writer.submit_rows(job)
        await self._searches.read(erasing.empty_log)

    async def forget_requests(self, before: datetime) -> int:
        """See past.Past."""
        forgotten: int = await self._writer.submit(lambda c: erasing.forget_before(c, before))
        if forgotten:
            await self._searches.read(erasing.empty_log)
        return forgotten

    async def expired(
        self,
        modalities: tuple[str, ...],
        before: datetime,
        limit: int,
        after: Position | None = None,
    ) -> tuple[Generation, ...]:
        """See past.Past."""
        return await self._searches.read(
            lambda c: searching.expired(c, modalities, before, limit, after)
        )

    async def alike(self, tenant: str, likeness: str, since: datetime) -> tuple[Generation, ...]:
        """See past.Past."""
        return await self._reader.read(lambda c: searching.alike(c, tenant, likeness, since))

    async def recent_runs(
        self, most_of_a_model: int, *, sandbox: bool
    ) -> tuple[tuple[str, float], ...]:
        """See past.Past."""
        return await self._searches.read(
            lambda c: searching.recent_runs(c, most_of_a_model, sandbox=sandbox)
        )

    async def bind(self, generation: Generation, request_id: str, fingerprint: str) -> Bound:
        """See past.Past."""

        def job(connection: sqlite3.Connection) -> Bound:
            bound = generations.bind(connection, generation, request_id, fingerprint)
            self._standing.binds(generation.tenant, request_id, bound)
            return bound

        bound: Bound = await self._writer.submit(job)
        return bound

    async def request(self, generation_id: str) -> bytes | None:
        """See past.Past."""
        return await self._reader.read(lambda c: erasing.request(c, self._seal, generation_id))
