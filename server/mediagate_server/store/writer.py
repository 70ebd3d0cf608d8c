"""One thread that writes: it commits whatever queued up while the last commit was on its way.

No timer: a lone job is committed at once, a crowd shares one fsync. Jobs run in the order they were
given, each within a savepoint, so that one that fails takes nothing of the others with it.
"""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mediagate_server.errors import StoreUnavailable
from mediagate_server.telemetry import commit_seconds

MOST_IN_ONE_COMMIT = 512

Job = Callable[[sqlite3.Connection], Any]


@dataclass(slots=True)
class _Pending:
    job: Job
    future: "asyncio.Future[Any]"
    result: Any = None
    error: BaseException | None = None


class GroupCommitWriter:
    """Owns the writing connection. Made on, and answers to, the running event loop."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Pending | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> "asyncio.Future[Any]":
        """Queue a job; the future is done once its commit is durable."""
        pending = _Pending(job, self._loop.create_future())
        self._queue.put(pending)
        return pending.future

    async def close(self) -> None:
        """Commit what is queued, then end the thread and close the connection."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        connection = self._connect()
        open_for_work = True
        while open_for_work:
            batch, open_for_work = self._next_batch()
            if batch:
                self._commit(connection, batch)
                self._loop.call_soon_threadsafe(_deliver, batch)
        connection.close()

    def _next_batch(self) -> tuple[list[_Pending], bool]:
        first = self._queue.get()
        if first is None:
            return [], False
        batch = [first]
        while len(batch) < MOST_IN_ONE_COMMIT:
            try:
                following = self._queue.get_nowait()
            except queue.Empty:
                break
            if following is None:
                return batch, False
            batch.append(following)
        return batch, True

    def _commit(self, connection: sqlite3.Connection, batch: list[_Pending]) -> None:
        begun = time.perf_counter()
        try:
            connection.execute("BEGIN IMMEDIATE")
            for pending in batch:
                _run_job(connection, pending)
            connection.execute("COMMIT")
        except sqlite3.Error:
            # The disk is full, broken or locked: not one job of this batch is durable.
            if connection.in_transaction:
                connection.rollback()
            for pending in batch:
                pending.error = unavailable()
        commit_seconds.observe(time.perf_counter() - begun)


def unavailable() -> StoreUnavailable:
    """What callers are told when the database does not do its work."""
    return StoreUnavailable("the store cannot be written or read now", retry_after=1.0)


def _run_job(connection: sqlite3.Connection, pending: _Pending) -> None:
    connection.execute("SAVEPOINT job")
    try:
        pending.result = pending.job(connection)
    except sqlite3.OperationalError:
        raise
    except Exception as error:  # noqa: BLE001 - handed to whoever awaits this very job
        connection.execute("ROLLBACK TO job")
        pending.error = error
    connection.execute("RELEASE job")


def _deliver(batch: Sequence[_Pending]) -> None:
    for pending in batch:
        if pending.future.done():
            continue
        if pending.error is None:
            pending.future.set_result(pending.result)
        else:
            pending.future.set_exception(pending.error)
