"""Ownership of the data folder by one process: a lock file, a lease and a fencing epoch.

The lock is the quick proof that an owner is dead: the system frees it with the process, so that a
restart takes over immediately. A process that is only paused keeps its lock, but its lease expires;
then the next process replaces the lock file by its own and increments the epoch. Every transaction
checks the epoch, so that a process that wakes up again cannot write.
"""

import contextlib
import fcntl
import os
import secrets
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mediagate_server.errors import StaleOwner
from mediagate_server.store.sqlite.connection import migrate

RENEWALS_PER_LEASE: Final = 4


def boot_seconds() -> float:
    """Seconds since boot, including sleep; the same for all processes of the machine."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class DataFolderInUse(Exception):
    """Another process has this data folder open."""


class DataFolderLost(RuntimeError):
    """Another process has taken the data folder over. The message is for people."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"this server stood still for so long that another one took over {folder}; "
            "nothing was written since, and what was running goes on there"
        )


class Lease:
    """Lease of this process; renewed by the writer thread, read by any thread.

    Times are in seconds of `clock`.
    """

    def __init__(
        self, epoch: int, until: float, seconds: float, clock: Callable[[], float]
    ) -> None:
        self._epoch = epoch
        self._until = until
        self._seconds = seconds
        self._clock = clock
        self._started = until - seconds
        self._renewed_at = 0.0

    def seconds_left(self) -> float:
        """Seconds until another process can take over."""
        return self._until - self._clock()

    def due_in(self) -> float:
        """Seconds until it should be renewed; 0 or less: now."""
        return self._started + self._seconds / RENEWALS_PER_LEASE - self._clock()

    def check_and_renew(self, connection: sqlite3.Connection) -> None:
        """At the begin of a transaction: check the epoch, and renew the lease where due.

        Raises StaleOwner.
        """
        (epoch,) = connection.execute("SELECT epoch FROM ownership").fetchone()
        if epoch != self._epoch:
            raise StaleOwner
        self._renewed_at = 0.0
        if self.due_in() <= 0:
            self._renewed_at = self._clock()
            connection.execute(
                "UPDATE ownership SET expires = ?", (self._renewed_at + self._seconds,)
            )

    def on_commit(self) -> None:
        """The transaction is durable, and with it a renewal."""
        if self._renewed_at:
            self._started = self._renewed_at
            self._until = self._renewed_at + self._seconds

    def renew_soon(self) -> None:
        """Renew with the next transaction, due or not."""
        self._started = float("-inf")


class DataFolderLock:
    """Lock file and lease of a data folder: acquired by one process at a time."""

    def __init__(self, folder: Path, seconds: float, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._path = folder / "lock"
        self._seconds = seconds
        self._clock = clock
        self._lock = -1

    def acquire(self, connection: sqlite3.Connection) -> Lease:
        """Become the owner, with the schema up to date. Raises DataFolderInUse."""
        self._lock = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if _locked(self._lock):
                self._write_pid()
                migrate(connection)
                return self._begin(connection, self._check_lock)
            if not _has_lease(connection):
                raise self._in_use()
            lease = self._begin(connection, self._replace_lock)
            migrate(connection)
        except BaseException:
            self.release()
            raise
        return lease

    def release(self) -> None:
        """Free the lock: the next process takes over at once."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _begin(
        self, connection: sqlite3.Connection, check: Callable[[sqlite3.Connection, float], None]
    ) -> Lease:
        """Increment the epoch, after `check` has shown within the transaction that we may."""
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            raise self._in_use("; it stands still in the midst of a commit") from None
        try:
            now = self._clock()
            check(connection, now)
            until = now + self._seconds
            (epoch,) = connection.execute(
                "UPDATE ownership SET epoch = epoch + 1, owner = ?, expires = ? RETURNING epoch",
                (secrets.token_hex(8), until),
            ).fetchone()
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return Lease(epoch, until, self._seconds, self._clock)

    def _check_lock(self, connection: sqlite3.Connection, now: float) -> None:
        """Check that our lock file was not replaced by another process meanwhile."""
        if not os.path.samestat(os.fstat(self._lock), self._path.stat()):
            raise self._in_use()

    def _replace_lock(self, connection: sqlite3.Connection, now: float) -> None:
        """Replace the lock file by our own, if the lease has expired."""
        (expires,) = connection.execute("SELECT expires FROM ownership").fetchone()
        if expires > now:
            raise self._in_use()
        draft = self._path.with_name(f"lock.{secrets.token_hex(4)}")
        mine = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(mine, fcntl.LOCK_EX)
        draft.replace(self._path)
        self.release()
        self._lock = mine
        self._write_pid()

    def _write_pid(self) -> None:
        """Write our process id into the lock file, for people."""
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _in_use(self, more: str = "") -> DataFolderInUse:
        holder = ""
        with contextlib.suppress(OSError):
            holder = self._path.read_text(encoding="ascii", errors="replace").strip()
        return DataFolderInUse(
            f"another process{f' ({holder})' if holder.isdigit() else ''} uses the data folder "
            f"{self._folder}{more}; stop it, or set MEDIAGATE_DATA_DIR to another folder"
        )


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _has_lease(connection: sqlite3.Connection) -> bool:
    """False where the owner is of a version without an epoch: it cannot be fenced."""
    (done,) = connection.execute("PRAGMA user_version").fetchone()
    return bool(done >= 2)
