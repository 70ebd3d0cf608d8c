"""The server's own store on a database that outlives processes, without threads."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

from mediagate_server.errors import StoreUnavailable
from mediagate_server.store.encryption import KEY_BYTES, Cipher
from mediagate_server.store.sqlite import SqliteStore, connection, generation_queries
from mediagate_server.store.sqlite.batch_insert import StatementKind
from mediagate_server.store.sqlite.generation_history import SqliteGenerationHistory
from mediagate_server.store.sqlite.group_commit import (
    GroupCommitWriter,
    RowsJob,
    _QueuedJob,
    resolve_futures,
    store_unavailable,
)
from mediagate_server.store.sqlite.ownership import Lease

from .fault_schedule import FaultSchedule

LEASE = 15.0
POISON: tuple[RowsJob, ...] = (
    lambda rows: rows.add(
        StatementKind.LEDGER_ENTRY, ("att_none", "reserve", 2**63, "estimated", "")
    ),
    lambda rows: rows.add(StatementKind.BINDING, ("tenant", "\ud800", "gen_none", "f")),
    lambda rows: rows.add(
        StatementKind.NEXT_VERSION, (2, "running", 0, "", "{}", 1, 0, "gen_none", 1)
    ),
    lambda rows: rows.flush().execute("SELECT sum(x) FROM (SELECT 9e999 x)").fetchone()[2],
    lambda rows: rows.flush().execute("DELETE FROM pending").rowcount / 0,
)
"""Jobs that fail before their rows are written, with them, and after they have written some."""
Read = TypeVar("Read")


def new_disk() -> sqlite3.Connection:
    """An empty database with our schema."""
    disk = sqlite3.connect(":memory:", isolation_level=None)
    _TEMPLATE.backup(disk)
    disk.execute("PRAGMA foreign_keys = ON")
    return disk


def _template() -> sqlite3.Connection:
    disk = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.migrate(disk)
    return disk


_TEMPLATE = _template()


class SimulatedWriter(GroupCommitWriter):
    """Commits as the real one does, after a while of virtual time, unless the process is dead."""

    def __init__(
        self,
        disk: sqlite3.Connection,
        lease: Lease,
        chance: FaultSchedule,
        is_alive: Callable[[], bool],
        *,
        on_lost: Callable[[], None],
        on_rollback: Callable[[], None],
    ) -> None:
        self._connect = lambda: disk
        self._connection = disk
        self._lease = lease
        self._on_lost = on_lost
        self._on_rollback = on_rollback
        self._is_lost = False
        self._loop = asyncio.get_running_loop()
        self._chance = chance
        self._is_alive = is_alive
        self._waiting: list[_QueuedJob] = []
        self._renew()

    def submit_rows(self, job: RowsJob) -> asyncio.Future[Any]:
        """See GroupCommitWriter."""
        pending = _QueuedJob(job, self._loop.create_future())
        self._waiting.append(pending)
        if len(self._waiting) == 1:
            slow = self._chance.goes_wrong(0.1)
            self._loop.call_later(self._chance.random.uniform(20, 200) if slow else 0.001, self._go)
        return pending.future

    async def close(self, seconds: float = 0.0) -> bool:
        """See GroupCommitWriter."""
        if self._waiting:
            self._go()
        return True

    def _go(self) -> None:
        batch, self._waiting = self._waiting, []
        if not self._is_alive():
            return
        self._chance.event(f"commit of {len(batch)}")
        if not self._is_alive():
            return
        poison = self._poison(batch)
        if self._chance.goes_wrong(0.2):
            self._fail_batch(batch, store_unavailable)
        else:
            self._commit(batch)
            assert all(job.error for job in poison), "poison that was written"
            failed = [job for job in batch if isinstance(job.error, StoreUnavailable)]
            assert not failed or self._is_lost, "a job that another one's rows have failed"
            self._chance.event("committed")
        if self._is_alive():
            resolve_futures([job for job in batch if job not in poison])

    def _poison(self, batch: list[_QueuedJob]) -> list[_QueuedJob]:
        """Put some into a batch."""
        put = []
        for index, kind in self._chance.poison(len(batch)):
            put.append(_QueuedJob(POISON[kind % len(POISON)], self._loop.create_future()))
            batch.insert(index, put[-1])
        return put

    def _renew(self) -> None:
        if self._is_alive():
            if not self._waiting:
                self._commit([])
            self._loop.call_later(LEASE / 4, self._renew)

    def _disconnect(self) -> None:
        """The disk stays."""


class SimulatedReader:
    """Reads at once."""

    def __init__(self, disk: sqlite3.Connection, is_alive: Callable[[], bool]) -> None:
        self._disk = disk
        self._is_alive = is_alive

    async def read(self, query: Callable[[sqlite3.Connection], Read]) -> Read:
        """See sqlite.reader.Reader."""
        await asyncio.sleep(0.0005)
        if not self._is_alive():
            await asyncio.Event().wait()
        return query(self._disk)

    async def close(self, seconds: float = 0.0) -> bool:
        """Nothing is to be done."""
        return True


class DiskStore(SqliteStore):
    """The real store for one process; `clock` of its lease is the loop's."""

    def __init__(
        self, disk: sqlite3.Connection, chance: FaultSchedule, is_alive: Callable[[], bool]
    ) -> None:
        super().__init__(Path("nowhere"), lease_seconds=LEASE)
        self._disk = disk
        self._chance = chance
        self._is_alive = is_alive

    async def __aenter__(self) -> Self:
        clock = asyncio.get_running_loop().time
        (epoch,) = self._disk.execute(
            "UPDATE ownership SET epoch = epoch + 1 RETURNING epoch"
        ).fetchone()
        self._lease = Lease(epoch, clock() + LEASE, LEASE, clock)
        self._cipher = Cipher(b"k" * KEY_BYTES)
        self._change = generation_queries.change_range(self._disk).newest
        reader: Any = SimulatedReader(self._disk, self._is_alive)
        self._reader = self._searches = reader
        self._writer: Any = SimulatedWriter(
            self._disk,
            self._lease,
            self._chance,
            self._is_alive,
            on_lost=self.lost.notify,
            on_rollback=self._cache.invalidate,
        )
        self.history = SqliteGenerationHistory(
            self._writer,
            reader,
            reader,
            self._cipher,
            self._cache,
            self._next_change,
        )
        return self
