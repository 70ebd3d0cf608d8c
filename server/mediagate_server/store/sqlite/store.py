"""`SqliteStore`: the port over one file, one thread that writes and one that reads."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from mediagate_server.config.tenants import Budget
from mediagate_server.errors import MediagateError, StoreUnavailable
from mediagate_server.private_files import (
    create_private_file,
    make_private,
    make_private_folder,
)
from mediagate_server.store.budget_metrics import tell_of
from mediagate_server.store.budgets import (
    Asked,
    BudgetUse,
    Configured,
    Crossing,
    applies,
    no_budgets,
)
from mediagate_server.store.charges import (
    Charge,
    ChargeFilter,
    ChargePosition,
    Dimension,
    Total,
)
from mediagate_server.store.records import (
    Bound,
    Change,
    Checkpoint,
    Entry,
    Filter,
    Generation,
    Position,
    Resumption,
    Sequences,
)
from mediagate_server.store.sqlite import (
    budget_rows,
    callbacks,
    charges,
    erasing,
    generations,
    keeping,
    searching,
)
from mediagate_server.store.sqlite.audit import SqliteAudit
from mediagate_server.store.sqlite.budgets import BudgetBooks, Entered, moment_of
from mediagate_server.store.sqlite.connection import Connect, connect
from mediagate_server.store.sqlite.outbox import SqliteOutbox, no_webhook
from mediagate_server.store.sqlite.ownership import Ownership, boot_seconds
from mediagate_server.store.sqlite.past import SqlitePast
from mediagate_server.store.sqlite.reader import Reader
from mediagate_server.store.sqlite.rows import Rows
from mediagate_server.store.sqlite.sealing_key import open_seal
from mediagate_server.store.sqlite.standing import Standing
from mediagate_server.store.sqlite.writer import GroupCommitWriter
from mediagate_server.unexpected import broke

LEASE_SECONDS: Final = 15.0
_OWN_FILES: Final = ("mediagate.sqlite3*", "sealing.key*", "lock*")
"""All that a store has in its folder."""
CLOSE_SECONDS: Final = 10.0
"""For each of the store's threads to come to its end: a disk that hangs must not hold SIGTERM."""


class SqliteStore:
    """Implements `port.Store`. Use it as an async context manager.

    `lease_seconds` is how long a process that does nothing any more keeps others out,
    `close_seconds` how long each of its threads is waited for in the end; `clock` gives seconds
    that all processes of the machine agree on. `budget_webhook` gives the URL that a tenant is told
    at of its budgets, if any; asked by the thread that writes. Entering raises DataFolderInUse or
    sealing.SealKeyError.
    """

    def __init__(
        self,
        folder: Path,
        *,
        lease_seconds: float = LEASE_SECONDS,
        close_seconds: float = CLOSE_SECONDS,
        clock: Callable[[], float] = boot_seconds,
        connect: Connect = connect,
        budgets: Configured = no_budgets,
        budget_webhook: Callable[[str], str] = no_webhook,
    ) -> None:
        self._folder = folder
        self._path = folder / "mediagate.sqlite3"
        self._ownership = Ownership(folder, lease_seconds, clock)
        self._connect = connect
        self._close_seconds = close_seconds
        self._budget_webhook = budget_webhook
        self._change = 0
        self._standing = Standing()
        self._configured = budgets
        self._books = BudgetBooks(budgets)
        self.lost = asyncio.Event()
        """See port.Store."""

    async def __aenter__(self) -> Self:
        make_private_folder(self._folder)
        # What SQLite puts beside its file has the mode of the file.
        create_private_file(self._path)
        own = (path for name in _OWN_FILES for path in self._folder.glob(name))
        make_private((self._folder.resolve(), *own))
        with contextlib.closing(self._connect(self._path)) as connection:
            self._lease = self._ownership.take(connection)
            try:
                self._seal = open_seal(self._folder, connection)
                self._change = searching.sequences(connection).newest
            except BaseException:
                self._ownership.let_go()
                raise
        # As long as one connection knows the log, another that is opened learns from it what
        # counts, and not from a log that may end with a commit that failed.
        self._anchor = self._connect(self._path)
        searching.sequences(self._anchor)
        self._reader = Reader(lambda: self._connect(self._path))
        # What looks at many rows has a thread of its own: no call waits behind a year's totals.
        self._searches = Reader(lambda: self._connect(self._path), name="store-searches")
        self._writer = GroupCommitWriter(
            lambda: self._connect(self._path),
            self._lease,
            lost=self.lost.set,
            undone=self._forget,
        )
        self.audit = SqliteAudit(self._writer, self._searches)
        self.outbox = SqliteOutbox(self._writer, self._reader, self._seal)
        self.past = SqlitePast(
            self._writer,
            self._reader,
            self._searches,
            self._seal,
            self._standing,
            self._next_change,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ended = [await self._writer.close(self._close_seconds)]
        ended += [await one.close(self._close_seconds) for one in (self._reader, self._searches)]
        if not all(ended):
            return  # What hangs on the disk goes with the process, and so does the lock.
        with contextlib.suppress(sqlite3.Error):
            self._anchor.close()
        self._ownership.let_go()

    def lease_left(self) -> float:
        """See port.Store."""
        return self._lease.left()

    # Generations

    async def bound(self, tenant: str, request_id: str) -> Bound | None:
        """See port.Store."""
        return await self._reader.read(lambda c: generations.bound(c, tenant, request_id))

    async def accept(
        self,
        generation: Generation,
        entries: tuple[Entry, ...],
        max_in_flight: int,
        *,
        pending: bytes | None = None,
        webhook_url: str = "",
        request: bytes | None = None,
        likeness: str = "",
    ) -> Bound | int:
        """See port.Store."""
        entered: list[Entered] = []

        def job(rows: Rows) -> Bound | int | MediagateError:
            entered.clear()
            is_bounded = self._books.concern(rows.written, generation)
            existing = generations.admit(
                rows, self._standing, generation, max_in_flight, asks=is_bounded
            )
            if existing:
                return existing
            if is_bounded:
                entered.append(self._books.enter(rows.written(), generation, entries))
                if (refusal := entered[-1].refusal) is not None:
                    return refusal  # And not raised: what was learned of a budget is kept.
            change = self._next_change()
            generations.insert(rows, generation, entries, change, likeness)
            self._standing.saved(rows.written, generation)
            self._standing.binds(
                generation.tenant,
                generation.request_id,
                Bound(generation.id, generation.fingerprint),
            )
            if pending is not None:
                keeping.keep_pending(rows, self._seal, generation.id, pending)
            if webhook_url:
                callbacks.promise(rows.written(), self._seal, generation, webhook_url)
            if request is not None:
                erasing.remember(rows.written(), self._seal, generation, request)
            return change

        outcome: Bound | int | MediagateError = await self._writer.submit_rows(job)
        if entered:
            tell_of(entered[-1].moved)
        if isinstance(outcome, MediagateError):
            raise outcome
        return outcome

    def save(
        self,
        generation: Generation,
        entries: tuple[Entry, ...] = (),
        *,
        release_request_id: bool = False,
        claims: tuple[str, ...] = (),
    ) -> "asyncio.Future[int]":
        """See port.Store."""
        entered: list[Entered] = []

        def job(rows: Rows) -> int:
            entered.clear()
            if claims:
                generations.check_claims(rows.written(), generation, claims)
            if entries and self._books.concern(rows.written, generation):
                entered.append(self._books.enter(rows.written(), generation, entries))
                self._take(rows.written(), generation, entered[-1])
            change = self._next_change()
            generations.update(rows, generation, entries, change)
            charges.write(rows, generation, entries)
            if release_request_id:
                generations.release(rows.written(), generation)
                self._standing.releases(generation)
            self._standing.saved(rows.written, generation)
            if generation.state.is_terminal:
                self._end(rows, generation)
            return change

        commit = self._writer.submit_rows(job)
        if generation.calls_back and generation.state.is_terminal:
            self.outbox.filled(commit)
        if entries:
            commit.add_done_callback(lambda done: _tell(done, entered))
            commit.add_done_callback(lambda _: self._wake_for(entered))
        return commit

    def _end(self, rows: Rows, generation: Generation) -> None:
        """With a terminal version: nothing is kept that only one that runs needs."""
        if not generation.in_doubt:
            keeping.erase_pending(rows, generation.id)
        if self._standing.ends_a_stream(rows.written, generation.id):
            keeping.erase_checkpoints(rows.written(), generation.id)
        if generation.calls_back:
            callbacks.ended(rows.written(), generation)

    async def get(self, tenant: str, generation_id: str) -> Generation | None:
        """See port.Store."""
        return await self._reader.read(lambda c: searching.one(c, tenant, generation_id))

    async def list_generations(
        self, tenant: str, wanted: Filter, limit: int, after: Position | None
    ) -> tuple[Generation, ...]:
        """See port.Store."""
        return await self._searches.read(
            lambda c: searching.newest_first(c, tenant, wanted, limit, after)
        )

    async def unfinished(self) -> tuple[Generation, ...]:
        """See port.Store."""
        return await self._searches.read(searching.unfinished)

    async def in_doubt(self, absent_since: datetime | None = None) -> tuple[Generation, ...]:
        """See port.Store."""
        return await self._searches.read(lambda c: searching.in_doubt(c, absent_since))

    async def by_attempt(self, attempt_id: str) -> Generation | None:
        """See port.Store."""
        return await self._reader.read(lambda c: searching.by_attempt(c, attempt_id))

    async def by_prediction(self, prediction_id: str) -> Generation | None:
        """See port.Store."""
        return await self._reader.read(lambda c: searching.by_prediction(c, prediction_id))

    async def claimed(self, prediction_ids: Iterable[str]) -> frozenset[str]:
        """See port.Store."""
        asked = frozenset(prediction_ids)
        return await self._reader.read(lambda c: searching.claimed(c, asked))

    async def entries(self, attempt_id: str) -> tuple[Entry, ...]:
        """See port.Store."""
        return await self._reader.read(lambda c: generations.entries_of(c, attempt_id))

    # Money

    async def charges(
        self, wanted: ChargeFilter, limit: int, after: ChargePosition | None
    ) -> tuple[Charge, ...]:
        """See port.Store."""
        return await self._searches.read(lambda c: charges.newest_first(c, wanted, limit, after))

    async def totals(
        self, wanted: ChargeFilter, group_by: Sequence[Dimension] = (), label_key: str = ""
    ) -> tuple[Total, ...]:
        """See port.Store."""
        return await self._searches.read(lambda c: charges.totals(c, wanted, group_by, label_key))

    # What is kept only while a generation runs

    async def pending(self, generation_id: str) -> bytes | None:
        """See port.Store."""
        return await self._reader.read(lambda c: keeping.pending(c, self._seal, generation_id))

    async def resumptions(self, generation_ids: Sequence[str]) -> Mapping[str, Resumption]:
        """See port.Store."""
        return await self._searches.read(
            lambda c: keeping.resumptions(c, self._seal, generation_ids)
        )

    def checkpoint(self, generation_id: str, piece: Checkpoint) -> "asyncio.Future[None]":
        """See port.Store."""

        def job(connection: sqlite3.Connection) -> None:
            if keeping.keep_checkpoint(connection, self._seal, generation_id, piece):
                self._standing.streamed(lambda: connection, generation_id)

        kept = self._writer.submit(job)
        kept.add_done_callback(_tell_of_checkpoint)
        return kept

    # Changes

    async def changed_since(
        self, tenant: str, wanted: Filter, after: int, limit: int
    ) -> tuple[Change, ...]:
        """See port.Store."""
        return await self._searches.read(
            lambda c: searching.changed_since(c, tenant, wanted, after, limit)
        )

    async def sequences(self) -> Sequences:
        """See port.Store."""
        return await self._reader.read(searching.sequences)

    # Budgets

    async def budgets(
        self, tenant: str, wanted: Sequence[Budget], now: datetime
    ) -> tuple[BudgetUse, ...]:
        """See port.Store."""
        return await self._reader.read(lambda c: budget_rows.standing(c, tenant, wanted, now))

    async def check_budgets(
        self, tenant: str, labels: Mapping[str, str], asked: Asked, now: datetime
    ) -> None:
        """See port.Store."""
        counting = [one for one in self._configured(tenant) if applies(one, labels)]
        for use in await self.budgets(tenant, counting, now):
            if asked.exceeds(use) and not use.budget.shadow:
                raise asked.refusal(tenant, use)

    async def override_budget(
        self, tenant: str, budget: str, limit_nanos: int, expires: datetime
    ) -> None:
        """See port.Store."""
        await self._writer.submit(
            lambda c: budget_rows.override(c, tenant, budget, limit_nanos, expires)
        )

    async def crossings(self, after: int, limit: int) -> tuple[Crossing, ...]:
        """See port.Store."""
        return await self._searches.read(lambda c: budget_rows.crossings(c, after, limit))

    async def in_flight(self, tenant: str) -> int:
        """See port.Store."""
        return await self._reader.read(lambda c: searching.running(c, tenant))

    # Keys and webhooks

    async def claim_webhook(self, webhook_id: str, now: datetime) -> bool:
        """See port.Store."""
        first: bool = await self._writer.submit(lambda c: keeping.claim_webhook(c, webhook_id, now))
        return first

    async def saw_webhook(self, webhook_id: str) -> bool:
        """See port.Store."""
        return await self._reader.read(lambda c: keeping.saw_webhook(c, webhook_id))

    async def key(self, name: str) -> bytes:
        """See port.Store."""
        found: bytes = await self._writer.submit(lambda c: keeping.key(c, self._seal, name))
        return found

    def _take(
        self, connection: sqlite3.Connection, generation: Generation, entered: Entered
    ) -> None:
        """Raise the refusal; else put into the outbox what is to be told of budgets."""
        if entered.refusal is not None:
            raise entered.refusal
        for moved in entered.moved:
            if moved.crossed and (url := self._budget_webhook(moved.tenant)):
                callbacks.crossed(connection, self._seal, moved, url, moment_of(generation))

    def _wake_for(self, entered: list[Entered]) -> None:
        """Somebody may be to be told of a budget."""
        if entered and any(moved.crossed for moved in entered[-1].moved):
            self.outbox.changed.set()

    def _forget(self) -> None:
        """Called by the writing thread, where a transaction was taken back."""
        self._standing.forget()
        self._books.forget()

    def _next_change(self) -> int:
        """Called by the writing thread alone. What a failed commit took is given to nobody else."""
        self._change += 1
        return self._change


def _tell_of_checkpoint(done: "asyncio.Future[None]") -> None:
    """Nobody needs to ask what became of it. Of a disk that fails the writer has told."""
    error = None if done.cancelled() else done.exception()
    if isinstance(error, Exception) and not isinstance(error, StoreUnavailable):
        broke("keeping a text", error)


def _tell(done: "asyncio.Future[int]", entered: list[Entered]) -> None:
    """The metrics what a save did to budgets, or what it was refused by."""
    if done.cancelled() or not entered:
        return
    error = done.exception()
    if error is None or error is entered[-1].refusal:
        tell_of(entered[-1].moved)
