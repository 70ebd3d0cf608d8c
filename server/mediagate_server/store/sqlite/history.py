"""`SqliteGenerationHistory`: the port of what lies behind, over the store's own threads.

Requests that are kept, and erasing: each function works within the caller's transaction, but
`truncate_wal`.
"""

import sqlite3
from collections.abc import Callable
from datetime import datetime

import structlog

from mediagate_server.store.encryption import Cipher, DecryptionFailed
from mediagate_server.store.records import Generation, ListPosition, RequestBinding
from mediagate_server.store.sqlite import generation_queries, generation_rows, sealed_rows
from mediagate_server.store.sqlite.generation_rows import microseconds
from mediagate_server.store.sqlite.reader import ReadThread
from mediagate_server.store.sqlite.row_batch import RowBatch
from mediagate_server.store.sqlite.writer import GroupCommitWriter
from mediagate_server.store.sqlite.writer_cache import WriterCache

_log = structlog.get_logger()


def insert_request(
    connection: sqlite3.Connection, seal: Cipher, generation: Generation, request: bytes
) -> None:
    """Keep what was asked."""
    sealed = seal.encrypt(request, f"request {generation.id}")
    created = microseconds(generation.created_at)
    connection.execute("INSERT INTO requests VALUES (?, ?, ?)", (generation.id, created, sealed))


def read_request(connection: sqlite3.Connection, seal: Cipher, generation_id: str) -> bytes | None:
    """What was asked; None where it is not kept, or where the key that sealed it is gone."""
    row = connection.execute(
        "SELECT sealed FROM requests WHERE generation_id = ?", (generation_id,)
    ).fetchone()
    if row is None:
        return None
    try:
        return seal.decrypt(row[0], f"request {generation_id}")
    except DecryptionFailed:
        _log.warning("stored_request_undecryptable", id=generation_id)
        return None


def delete_request(connection: sqlite3.Connection, generation_id: str) -> None:
    """Nothing is left of what was asked, nor is it found by it."""
    connection.execute("DELETE FROM requests WHERE generation_id = ?", (generation_id,))
    connection.execute("UPDATE generations SET likeness = NULL WHERE id = ?", (generation_id,))


def delete_requests_before(connection: sqlite3.Connection, before: datetime) -> int:
    """Nothing is left of requests accepted before that time; how many there were.

    Nor of what is kept of those that are over because an attempt of theirs is in doubt still.
    """
    erased = connection.execute(
        "DELETE FROM requests WHERE created_us < ?", (microseconds(before),)
    )
    sealed = connection.execute(
        "DELETE FROM pending WHERE number IN (SELECT number FROM pending JOIN generations"
        " USING (number) WHERE terminal = 1 AND created_us < ?)",
        (microseconds(before),),
    )
    return erased.rowcount + sealed.rowcount


def truncate_wal(connection: sqlite3.Connection) -> None:
    """Bring all of the log into the database and cut it to nothing: old pages stand in it.

    Raises OperationalError where somebody reads or writes for too long.
    """
    (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise sqlite3.OperationalError("the log is in use")


class SqliteGenerationHistory:
    """Implements `past.Past`. Made by the store; `next_change` numbers its changes."""

    def __init__(
        self,
        writer: GroupCommitWriter,
        reader: ReadThread,
        searches: ReadThread,
        seal: Cipher,
        standing: WriterCache,
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

        def job(rows: RowBatch) -> None:
            # Looked at before: of many who erase the same, all but one have written nothing.
            generation_rows.check_version(rows.flush(), generation)
            generation_rows.update_generation(rows, generation, (), self._next_change())
            sealed_rows.erase_pending(rows, generation.id)
            delete_request(rows.flush(), generation.id)

        await self._writer.submit_rows(job)
        await self._searches.read(truncate_wal)

    async def forget_requests(self, before: datetime) -> int:
        """See past.Past."""
        forgotten: int = await self._writer.submit(lambda c: delete_requests_before(c, before))
        if forgotten:
            await self._searches.read(truncate_wal)
        return forgotten

    async def find_expired(
        self,
        modalities: tuple[str, ...],
        before: datetime,
        limit: int,
        after: ListPosition | None = None,
    ) -> tuple[Generation, ...]:
        """See past.Past."""
        return await self._searches.read(
            lambda c: generation_queries.list_expired(c, modalities, before, limit, after)
        )

    async def find_reusable(
        self, tenant: str, reuse_key: str, since: datetime
    ) -> tuple[Generation, ...]:
        """See past.Past."""
        return await self._reader.read(
            lambda c: generation_queries.find_reusable(c, tenant, reuse_key, since)
        )

    async def recent_runs(
        self, most_of_a_model: int, *, sandbox: bool
    ) -> tuple[tuple[str, float], ...]:
        """See past.Past."""
        return await self._searches.read(
            lambda c: generation_queries.recent_runs(c, most_of_a_model, sandbox=sandbox)
        )

    async def bind(
        self, generation: Generation, request_id: str, fingerprint: str
    ) -> RequestBinding:
        """See past.Past."""

        def job(connection: sqlite3.Connection) -> RequestBinding:
            bound = generation_rows.insert_binding(connection, generation, request_id, fingerprint)
            self._standing.add_binding(generation.tenant, request_id, bound)
            return bound

        bound: RequestBinding = await self._writer.submit(job)
        return bound

    async def stored_request(self, generation_id: str) -> bytes | None:
        """See past.Past."""
        return await self._reader.read(lambda c: read_request(c, self._seal, generation_id))
