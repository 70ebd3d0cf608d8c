"""Group commit: one writer thread that commits queued jobs in batches, with one fsync each.

Jobs run in the order of submission. A job that fails does not affect the others: most fail before
they have written anything, and where one does not, the batch is rolled back and run again with a
savepoint for each job (which otherwise would cost every job two statements). Most jobs add rows,
which are written with one statement per kind (`batch_insert.py`). A commit that fails fails exactly
its own jobs.

A commit begins as soon as the event loop is idle. Each commit has costs of its own: whole pages, an
fsync, thread switches. While the loop is busy, its work brings further jobs, and it could not take
the result of a commit anyway; so they share the next commit (docs/decisions/0017). A job that comes
to an idle loop is committed immediately. There is no timer: a loop that is never idle commits when
the batch is large enough, or old enough.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import structlog

from mediagate_server.errors import StaleOwner, StoreUnavailable
from mediagate_server.observability.metrics import commit_seconds, failed_commits
from mediagate_server.store.sqlite.batch_insert import PartialWrite, RowBatch, is_database_error
from mediagate_server.store.sqlite.ownership import Lease

BATCH_SIZE: Final = 64
"""Jobs that are committed without waiting for an idle loop: more would hardly be cheaper."""
MAX_BATCH_SECONDS: Final = 0.03
"""Age of a batch at which a loop that is never idle commits."""
MAX_COMMIT_JOBS: Final = 512
_IDLE_TURN_SECONDS: Final = 0.000_02
"""A turn of the event loop that is shorter than this had nothing to do."""
_BUSY_FACTOR: Final = 4
"""A longer turn is busy where it takes this many times the shortest turn so far."""
Job = TypeVar("Job")


class CommitBatcher(Generic[Job]):
    """Collects jobs for the next commit. Used by the event loop's thread alone.

    `begin_commit` is given the jobs of one commit, and no others before `on_commit_end` is called.
    `clock` gives seconds.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        begin_commit: Callable[[list[Job]], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._loop = loop
        self._begin_commit = begin_commit
        self._clock = clock
        self._waiting: list[Job] = []
        self._is_free = True
        self._started = self._last_turn = 0.0
        self._shortest_turn = float("inf")

    def add(self, job: Job) -> None:
        """Add a job to the next commit."""
        self._waiting.append(job)
        if self._is_free:
            self._start_batch()

    def on_commit_end(self) -> None:
        """The running commit has ended: the next one may begin."""
        self._is_free = True
        if self._waiting:
            self._start_batch()

    def _start_batch(self) -> None:
        self._is_free = False
        self._started = self._last_turn = self._clock()
        self._loop.call_soon(self._check_idle)

    def _check_idle(self) -> None:
        """Called once per turn of the loop: begin the commit unless the loop is busy."""
        now = self._clock()
        turn = now - self._last_turn
        self._shortest_turn = min(self._shortest_turn, turn)
        is_busy = turn > max(_IDLE_TURN_SECONDS, _BUSY_FACTOR * self._shortest_turn)
        if is_busy and len(self._waiting) < BATCH_SIZE and now - self._started < MAX_BATCH_SECONDS:
            self._last_turn = now
            self._loop.call_soon(self._check_idle)
            return
        batch = self._waiting[:MAX_COMMIT_JOBS]
        del self._waiting[:MAX_COMMIT_JOBS]
        self._begin_commit(batch)


_RENEWAL_RETRY_SECONDS = 0.2
"""Seconds between two attempts to renew the lease after a failure."""
WriteJob = Callable[[sqlite3.Connection], Any]
RowsJob = Callable[[RowBatch], Any]
_log = structlog.get_logger()


@dataclass(slots=True)
class _QueuedJob:
    job: RowsJob
    future: "asyncio.Future[Any]"
    result: Any = None
    error: BaseException | None = None


class GroupCommitWriter:
    """Writer thread with its own connection. Created on, and resolving on, the running loop.

    `on_lost` is called on the loop once the lease is lost: nothing is written any more.
    `on_rollback` is called by the writer thread after each rollback.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        lease: Lease,
        *,
        on_lost: Callable[[], None],
        on_rollback: Callable[[], None],
    ) -> None:
        self._connect = connect
        self._lease = lease
        self._on_lost = on_lost
        self._on_rollback = on_rollback
        self._is_lost = False
        self._connection: sqlite3.Connection | None = None
        self._loop = asyncio.get_running_loop()
        self._batches: queue.SimpleQueue[list[_QueuedJob] | None] = queue.SimpleQueue()
        self._batcher = CommitBatcher(self._loop, self._batches.put)
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, job: WriteJob) -> "asyncio.Future[Any]":
        """Queue a job; the future is resolved once its commit is durable."""
        return self.submit_rows(lambda rows: job(rows.flush()))

    def submit_rows(self, job: RowsJob) -> "asyncio.Future[Any]":
        """Queue a job that adds rows, which are written together with those of other jobs."""
        pending = _QueuedJob(job, self._loop.create_future())
        self._batcher.add(pending)
        return pending.future

    async def close(self, seconds: float) -> bool:
        """Commit all queued jobs, end the thread and close the connection.

        False where that took longer than `seconds`: the disk hangs.
        """
        last = self.submit(lambda _: None)
        await asyncio.wait({last}, timeout=seconds)
        self._batches.put(None)
        if last.done():
            last.exception()  # Retrieved: the failed commit was logged.
            await asyncio.to_thread(self._thread.join, seconds)
        if self._thread.is_alive():
            _log.error("store_writer_hung", seconds=seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            try:
                batch = self._batches.get(timeout=self._timeout())
            except queue.Empty:
                self._commit([])  # Only to renew the lease.
                continue
            if batch is None:
                break
            self._commit(batch)
            self._loop.call_soon_threadsafe(self._deliver, batch)
        self._disconnect()

    def _deliver(self, batch: Sequence[_QueuedJob]) -> None:
        """Resolve the futures of a batch, on the event loop."""
        resolve_futures(batch)
        self._batcher.on_commit_end()

    def _timeout(self) -> float | None:
        return None if self._is_lost else max(self._lease.due_in(), _RENEWAL_RETRY_SECONDS)

    def _commit(self, batch: list[_QueuedJob]) -> None:
        begun = time.perf_counter()
        try:
            self._write(batch)
        except StaleOwner:
            self._fail_batch(batch, StaleOwner)
            if not self._is_lost:
                self._is_lost = True
                self._loop.call_soon_threadsafe(self._on_lost)
        except BaseException as error:  # noqa: BLE001 - the next batch must find a writer that lives
            # The disk is full, broken or locked: not one job of this batch is durable.
            failed_commits.inc()
            _log.error("store_commit_failed", error=type(error).__name__, jobs=len(batch))
            self._fail_batch(batch, store_unavailable)
        if batch:
            commit_seconds.observe(time.perf_counter() - begun)

    def _write(self, batch: list[_QueuedJob]) -> None:
        if self._is_lost:
            raise StaleOwner
        if self._connection is None:
            self._connection = self._connect()
        try:
            self._transact(self._connection, batch, _run_together)
        except PartialWrite:
            self._connection.execute("ROLLBACK")
            self._on_rollback()
            self._transact(self._connection, batch, self._run_separately)

    def _transact(
        self,
        connection: sqlite3.Connection,
        batch: list[_QueuedJob],
        run: Callable[[sqlite3.Connection, list[_QueuedJob]], None],
    ) -> None:
        connection.execute("BEGIN IMMEDIATE")
        self._lease.check_and_renew(connection)
        run(connection, batch)
        connection.execute("COMMIT")
        self._lease.on_commit()

    def _run_separately(self, connection: sqlite3.Connection, batch: list[_QueuedJob]) -> None:
        """Run each job in a savepoint, so that its failure rolls back nothing else."""
        rows = RowBatch(connection, immediate=True)
        for pending in batch:
            connection.execute("SAVEPOINT job")
            try:
                pending.result, pending.error = pending.job(rows), None
            except BaseException as error:
                if is_database_error(error, connection):
                    raise
                connection.execute("ROLLBACK TO job")
                self._on_rollback()
                pending.error = error
            connection.execute("RELEASE job")

    def _fail_batch(self, batch: list[_QueuedJob], error: Callable[[], StoreUnavailable]) -> None:
        """Fail all jobs of a batch, and roll it back.

        A commit that failed at its fsync is complete at the end of the WAL, where a process that
        opens it later would find it. This connection knows that it is void, and overwrites it with
        its next commit; to have one, the lease is renewed as soon as that works.
        """
        for pending in batch:
            pending.error = error()
        self._on_rollback()
        self._lease.renew_soon()
        try:
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()  # Rolls back what is open.
            self._connection = None


def resolve_futures(batch: Iterable[_QueuedJob]) -> None:
    """Resolve the futures of a batch with results or errors."""
    for pending in batch:
        if pending.future.done():
            continue
        if pending.error is None:
            pending.future.set_result(pending.result)
        else:
            pending.future.set_exception(_to_exception(pending.error))


def _to_exception(error: BaseException) -> Exception:
    """An exception that a future accepts: not StopIteration, not one that ends a process."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration | StopAsyncIteration):
        return error
    replacement = RuntimeError(f"a job of the store raised {type(error).__name__}")
    replacement.__cause__ = error
    return replacement


def store_unavailable() -> StoreUnavailable:
    """The error of a database that cannot be written or read."""
    return StoreUnavailable("the store cannot be written or read now", retry_after=1.0)


def _run_together(connection: sqlite3.Connection, batch: list[_QueuedJob]) -> None:
    """Run all jobs, then write their rows. Raises PartialWrite."""
    rows = RowBatch(connection)
    for pending in batch:
        before = rows.changes
        try:
            pending.result = pending.job(rows)
        except PartialWrite:
            raise
        except BaseException as error:
            if is_database_error(error, connection):
                raise
            if rows.changes != before:
                raise PartialWrite from None
            pending.error = error
    rows.flush()
