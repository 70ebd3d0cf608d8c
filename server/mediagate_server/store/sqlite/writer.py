"""One thread that writes: it commits whatever queued up while the last commit was on its way.

A lone job is committed at once; a crowd shares one fsync (`writer.py`). Jobs run in the order they
were given. One that fails, by whatever its values or its code raise, takes nothing of the others
with it: most fail before they have written anything, and where one does not, all are taken back and
run again, each within a savepoint (which otherwise would cost every job two statements). Most put
down rows, which are written kind by kind (`row_batch.py`). A commit that fails takes exactly its
own jobs along.

When a commit begins: as soon as the event loop has nothing else to do.

Each commit has a price of its own: pages written whole, an fsync, threads that change places. While
the loop is at work, what it does brings further jobs, and nobody could be told of a commit's end
anyway; they are gathered until it is idle, and share one commit (docs/decisions/0017). A job that
comes to an idle loop is committed at once. There is no timer: a loop that is never idle hands over
what it has once it is enough, or has been waiting long.
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
from mediagate_server.store.sqlite.ownership import Lease
from mediagate_server.store.sqlite.row_batch import PartialWrite, RowBatch, is_database_error

BATCH_SIZE: Final = 64
"""Jobs that wait for no others: more of them in one commit would hardly be cheaper."""
MAX_BATCH_SECONDS: Final = 0.03
"""Seconds after which a loop that is never idle commits."""
MAX_COMMIT_JOBS: Final = 512
_IDLE: Final = 0.000_02
"""Seconds: a turn of the loop that is shorter than this had nothing to do."""
_MUCH: Final = 4
"""So many times the shortest turn there was is one that had something to do, if not before."""
Job = TypeVar("Job")


class CommitBatcher(Generic[Job]):
    """Jobs, until a commit takes them. For the event loop's thread alone.

    `begin` is handed those of one commit, and no others before `ended` is called. `clock` gives
    seconds.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        begin: Callable[[list[Job]], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._loop = loop
        self._begin = begin
        self._clock = clock
        self._waiting: list[Job] = []
        self._is_idle = True
        self._since = self._looked = 0.0
        self._shortest = float("inf")

    def add(self, job: Job) -> None:
        """One more, for the next commit."""
        self._waiting.append(job)
        if self._is_idle:
            self._gather()

    def ended(self) -> None:
        """The commit that was begun has ended."""
        self._is_idle = True
        if self._waiting:
            self._gather()

    def _gather(self) -> None:
        self._is_idle = False
        self._since = self._looked = self._clock()
        self._loop.call_soon(self._look)

    def _look(self) -> None:
        """Once in each turn of the loop: begin, unless the loop is at work."""
        now = self._clock()
        turn = now - self._looked
        self._shortest = min(self._shortest, turn)
        is_at_work = turn > max(_IDLE, _MUCH * self._shortest)
        if is_at_work and len(self._waiting) < BATCH_SIZE and now - self._since < MAX_BATCH_SECONDS:
            self._looked = now
            self._loop.call_soon(self._look)
            return
        batch = self._waiting[:MAX_COMMIT_JOBS]
        del self._waiting[:MAX_COMMIT_JOBS]
        self._begin(batch)


_PAUSE = 0.2
"""Seconds between two tries to renew the lease, where the first failed."""
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
    """Owns the writing connection. Made on, and answers to, the running event loop.

    `lost` is called on it once the lease turns out to be another's: nothing is written any more.
    `undone` is called by the writing thread when something that jobs have done is taken back.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        lease: Lease,
        *,
        lost: Callable[[], None],
        undone: Callable[[], None],
    ) -> None:
        self._connect = connect
        self._lease = lease
        self._lost = lost
        self._undone = undone
        self._is_lost = False
        self._connection: sqlite3.Connection | None = None
        self._loop = asyncio.get_running_loop()
        self._batches: queue.SimpleQueue[list[_QueuedJob] | None] = queue.SimpleQueue()
        self._gathering = CommitBatcher(self._loop, self._batches.put)
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, job: WriteJob) -> "asyncio.Future[Any]":
        """Queue a job; the future is done once its commit is durable."""
        return self.submit_rows(lambda rows: job(rows.flush()))

    def submit_rows(self, job: RowsJob) -> "asyncio.Future[Any]":
        """The same for one that puts down rows, to be written with those of others."""
        pending = _QueuedJob(job, self._loop.create_future())
        self._gathering.add(pending)
        return pending.future

    async def close(self, seconds: float) -> bool:
        """Commit what is queued, then end the thread and close the connection.

        False where that took longer than `seconds`: the disk hangs, and the thread with it.
        """
        last = self.submit(lambda _: None)
        await asyncio.wait({last}, timeout=seconds)
        self._batches.put(None)
        if last.done():
            last.exception()  # That it failed was told by the commit that did.
            await asyncio.to_thread(self._thread.join, seconds)
        if self._thread.is_alive():
            _log.error("store_writer_hung", seconds=seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            try:
                batch = self._batches.get(timeout=self._patience())
            except queue.Empty:
                self._commit([])  # The lease is to be renewed.
                continue
            if batch is None:
                break
            self._commit(batch)
            self._loop.call_soon_threadsafe(self._deliver, batch)
        self._disconnect()

    def _deliver(self, batch: Sequence[_QueuedJob]) -> None:
        """Hand out the results, on the event loop."""
        resolve_futures(batch)
        self._gathering.ended()

    def _patience(self) -> float | None:
        return None if self._is_lost else max(self._lease.due_in(), _PAUSE)

    def _commit(self, batch: list[_QueuedJob]) -> None:
        begun = time.perf_counter()
        try:
            self._write(batch)
        except StaleOwner:
            self._give_up(batch, StaleOwner)
            if not self._is_lost:
                self._is_lost = True
                self._loop.call_soon_threadsafe(self._lost)
        except BaseException as error:  # noqa: BLE001 - the next batch must find a writer that lives
            # The disk is full, broken or locked: not one job of this batch is durable.
            failed_commits.inc()
            _log.error("store_commit_failed", error=type(error).__name__, jobs=len(batch))
            self._give_up(batch, store_unavailable)
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
            self._undone()
            self._transact(self._connection, batch, self._run_apart)

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

    def _run_apart(self, connection: sqlite3.Connection, batch: list[_QueuedJob]) -> None:
        """Jobs whose failure takes back what they have written, and nothing else."""
        rows = RowBatch(connection, at_once=True)
        for pending in batch:
            connection.execute("SAVEPOINT job")
            try:
                pending.result, pending.error = pending.job(rows), None
            except BaseException as error:
                if is_database_error(error, connection):
                    raise
                connection.execute("ROLLBACK TO job")
                self._undone()
                pending.error = error
            connection.execute("RELEASE job")

    def _give_up(self, batch: list[_QueuedJob], error: Callable[[], StoreUnavailable]) -> None:
        """Tell those of the batch, and take all of it back.

        A commit that failed at its sync lies whole at the end of the log, where whoever opens the
        log anew finds it. This connection knows that it does not count, and writes over it with
        whatever comes next; so that something does, the lease is renewed as soon as that works.
        """
        for pending in batch:
            pending.error = error()
        self._undone()
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
    """Those who wait for the jobs of a batch what became of them."""
    for pending in batch:
        if pending.future.done():
            continue
        if pending.error is None:
            pending.future.set_result(pending.result)
        else:
            pending.future.set_exception(_raisable(pending.error))


def _raisable(error: BaseException) -> Exception:
    """The same, or in its place what a future takes: some end a generator, a task or a process."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration | StopAsyncIteration):
        return error
    stand_in = RuntimeError(f"a job of the store raised {type(error).__name__}")
    stand_in.__cause__ = error
    return stand_in


def store_unavailable() -> StoreUnavailable:
    """What callers are told when the database does not do its work."""
    return StoreUnavailable("the store cannot be written or read now", retry_after=1.0)


def _run_together(connection: sqlite3.Connection, batch: list[_QueuedJob]) -> None:
    """Jobs as they are, and then their rows. Raises PartialWrite."""
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
