"""Stored requests: their rows, erasure, and the port over the store's threads.

The functions work within the caller's transaction, except `truncate_wal`.
"""

import sqlite3
from collections.abc import Callable
from datetime import datetime

import structlog

from mediagate_server.store.encryption import Cipher, DecryptionFailed
from mediagate_server.store.records import Generation, ListPosition, RequestBinding
from mediagate_server.store.sqlite import encrypted_rows, generation_queries, generation_rows
from mediagate_server.store.sqlite.batch_insert import RowBatch
from mediagate_server.store.sqlite.generation_rows import microseconds
from mediagate_server.store.sqlite.group_commit import GroupCommitWriter
from mediagate_server.store.sqlite.reader import ReadThread
from mediagate_server.store.sqlite.writer_cache import WriterCache

_log = structlog.get_logger()


def insert_request(
    connection: sqlite3.Connection, cipher: Cipher, generation: Generation, request: bytes
) -> None:
    """Insert the encrypted request of a generation."""
    sealed = cipher.encrypt(request, f"request {generation.id}")
    created = microseconds(generation.created_at)
    connection.execute("INSERT INTO requests VALUES (?, ?, ?)", (generation.id, created, sealed))


def read_request(
    connection: sqlite3.Connection, cipher: Cipher, generation_id: str
) -> bytes | None:
    """The request; None where it is not stored, or where its encryption key is lost."""
    row = connection.execute(
        "SELECT sealed FROM requests WHERE generation_id = ?", (generation_id,)
    ).fetchone()
    if row is None:
        return None
    try:
        return cipher.decrypt(row[0], f"request {generation_id}")
    except DecryptionFailed:
        _log.warning("stored_request_undecryptable", id=generation_id)
        return None


def delete_request(connection: sqlite3.Connection, generation_id: str) -> None:
    """Delete the request of a generation, and its reuse key."""
    connection.execute("DELETE FROM requests WHERE generation_id = ?", (generation_id,))
    connection.execute("UPDATE generations SET likeness = NULL WHERE id = ?", (generation_id,))


def delete_requests_before(connection: sqlite3.Connection, before: datetime) -> int:
    """Delete requests accepted before that time; returns how many there were.

    With them the pending input of ended generations that have an unconfirmed attempt.
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
    """Checkpoint the WAL and truncate it, as it holds old pages.

    Raises OperationalError where it is read or written for too long.
    """
    (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise sqlite3.OperationalError("the log is in use")


class SqliteGenerationHistory:
    """History port on the store's threads. `next_change` is called by the writer thread."""

    def __init__(
        self,
        writer: GroupCommitWriter,
        reader: ReadThread,
        searches: ReadThread,
        cipher: Cipher,
        cache: WriterCache,
        next_change: Callable[[], int],
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._searches = searches
        self._cipher = cipher
        self._cache = cache
        self._next_change = next_change

    async def erase(self, generation: Generation) -> None:

        def job(rows: RowBatch) -> None:
            # Checked first, so that of many who erase the same all but one have written nothing.
            generation_rows.check_version(rows.flush(), generation)
            generation_rows.update_generation(rows, generation, (), self._next_change())
            encrypted_rows.delete_pending(rows, generation.id)
            delete_request(rows.flush(), generation.id)

        await self._writer.submit_rows(job)
        await self._searches.read(truncate_wal)

    async def forget_requests(self, before: datetime) -> int:
        deleted: int = await self._writer.submit(lambda c: delete_requests_before(c, before))
        if deleted:
            await self._searches.read(truncate_wal)
        return deleted

    async def find_expired(
        self,
        modalities: tuple[str, ...],
        before: datetime,
        limit: int,
        after: ListPosition | None = None,
    ) -> tuple[Generation, ...]:
        return await self._searches.read(
            lambda c: generation_queries.list_expired(c, modalities, before, limit, after)
        )

    async def find_reusable(
        self, tenant: str, reuse_key: str, since: datetime
    ) -> tuple[Generation, ...]:
        return await self._reader.read(
            lambda c: generation_queries.find_reusable(c, tenant, reuse_key, since)
        )

    async def recent_runs(
        self, limit_per_model: int, *, sandbox: bool
    ) -> tuple[tuple[str, float], ...]:
        return await self._searches.read(
            lambda c: generation_queries.recent_runs(c, limit_per_model, sandbox=sandbox)
        )

    async def bind(
        self, generation: Generation, request_id: str, fingerprint: str
    ) -> RequestBinding:

        def job(connection: sqlite3.Connection) -> RequestBinding:
            bound = generation_rows.insert_binding(connection, generation, request_id, fingerprint)
            self._cache.add_binding(generation.tenant, request_id, bound)
            return bound

        bound: RequestBinding = await self._writer.submit(job)
        return bound

    async def stored_request(self, generation_id: str) -> bytes | None:
        return await self._reader.read(lambda c: read_request(c, self._cipher, generation_id))
