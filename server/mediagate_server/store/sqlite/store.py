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
from mediagate_server.observability.bug_report import BackgroundJob, report_bug
from mediagate_server.runtime.private_files import (
    create_private_file,
    make_private,
    make_private_folder,
)
from mediagate_server.store.budget_metrics import record_budget_metrics
from mediagate_server.store.budgets import (
    BudgetsOfTenant,
    BudgetUsage,
    Reservation,
    matches_labels,
    no_budgets,
)
from mediagate_server.store.charges import (
    Charge,
    ChargeFilter,
    ChargePosition,
    ChargeTotal,
    GroupBy,
)
from mediagate_server.store.records import (
    ChangeRange,
    Checkpoint,
    Generation,
    GenerationChange,
    GenerationFilter,
    LedgerEntry,
    ListPosition,
    RequestBinding,
    Resumption,
)
from mediagate_server.store.sqlite import (
    budget_rows,
    charge_rows,
    generation_queries,
    generation_rows,
    history,
    outbox,
    sealed_rows,
)
from mediagate_server.store.sqlite.budget_updates import (
    BudgetResult,
    BudgetUpdater,
    latest_event_time,
)
from mediagate_server.store.sqlite.connection import Connect, connect
from mediagate_server.store.sqlite.encryption_key import open_cipher
from mediagate_server.store.sqlite.history import SqliteGenerationHistory
from mediagate_server.store.sqlite.outbox import SqliteOutbox, no_webhook
from mediagate_server.store.sqlite.ownership import DataFolderLock, boot_seconds
from mediagate_server.store.sqlite.reader import ReadThread
from mediagate_server.store.sqlite.reconciliations import SqliteReconciliationStore
from mediagate_server.store.sqlite.row_batch import RowBatch
from mediagate_server.store.sqlite.writer import GroupCommitWriter
from mediagate_server.store.sqlite.writer_cache import WriterCache

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
    sealing.EncryptionKeyError.
    """

    def __init__(
        self,
        folder: Path,
        *,
        lease_seconds: float = LEASE_SECONDS,
        close_seconds: float = CLOSE_SECONDS,
        clock: Callable[[], float] = boot_seconds,
        connect: Connect = connect,
        budgets: BudgetsOfTenant = no_budgets,
        budget_webhook: Callable[[str], str] = no_webhook,
    ) -> None:
        self._folder = folder
        self._path = folder / "mediagate.sqlite3"
        self._lock = DataFolderLock(folder, lease_seconds, clock)
        self._connect = connect
        self._close_seconds = close_seconds
        self._budget_webhook = budget_webhook
        self._change = 0
        self._standing = WriterCache()
        self._configured = budgets
        self._books = BudgetUpdater(budgets)
        self.lost = asyncio.Event()
        """See port.Store."""

    async def __aenter__(self) -> Self:
        make_private_folder(self._folder)
        # What SQLite puts beside its file has the mode of the file.
        create_private_file(self._path)
        own = (path for name in _OWN_FILES for path in self._folder.glob(name))
        make_private((self._folder.resolve(), *own))
        with contextlib.closing(self._connect(self._path)) as connection:
            self._lease = self._lock.acquire(connection)
            try:
                self._seal = open_cipher(self._folder, connection)
                self._change = generation_queries.sequences(connection).newest
            except BaseException:
                self._lock.release()
                raise
        # As long as one connection knows the log, another that is opened learns from it what
        # counts, and not from a log that may end with a commit that failed.
        self._anchor = self._connect(self._path)
        generation_queries.sequences(self._anchor)
        self._reader = ReadThread(lambda: self._connect(self._path))
        # What looks at many rows has a thread of its own: no call waits behind a year's totals.
        self._searches = ReadThread(lambda: self._connect(self._path), name="store-searches")
        self._writer = GroupCommitWriter(
            lambda: self._connect(self._path),
            self._lease,
            lost=self.lost.set,
            undone=self._forget,
        )
        self.reconciliations = SqliteReconciliationStore(self._writer, self._searches)
        self.outbox = SqliteOutbox(self._writer, self._reader, self._seal)
        self.history = SqliteGenerationHistory(
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
        self._lock.release()

    def lease_left(self) -> float:
        """See port.Store."""
        return self._lease.seconds_left()

    # Generations

    async def find_binding(self, tenant: str, request_id: str) -> RequestBinding | None:
        """See port.Store."""
        return await self._reader.read(
            lambda c: generation_rows.find_binding(c, tenant, request_id)
        )

    async def accept(
        self,
        generation: Generation,
        entries: tuple[LedgerEntry, ...],
        max_in_flight: int,
        *,
        pending: bytes | None = None,
        webhook_url: str = "",
        request: bytes | None = None,
        reuse_key: str = "",
    ) -> RequestBinding | int:
        """See port.Store."""
        entered: list[BudgetResult] = []

        def job(rows: RowBatch) -> RequestBinding | int | MediagateError:
            entered.clear()
            is_bounded = self._books.affects(rows.flush, generation)
            existing = generation_rows.check_admission(
                rows, self._standing, generation, max_in_flight, asks=is_bounded
            )
            if existing:
                return existing
            if is_bounded:
                entered.append(self._books.apply(rows.flush(), generation, entries))
                if (refusal := entered[-1].refusal) is not None:
                    return refusal  # And not raised: what was learned of a budget is kept.
            change = self._next_change()
            generation_rows.insert_generation(rows, generation, entries, change, reuse_key)
            self._standing.on_saved(rows.flush, generation)
            self._standing.add_binding(
                generation.tenant,
                generation.request_id,
                RequestBinding(generation.id, generation.fingerprint),
            )
            if pending is not None:
                sealed_rows.write_pending_input(rows, self._seal, generation.id, pending)
            if webhook_url:
                outbox.insert_expected_event(rows.flush(), self._seal, generation, webhook_url)
            if request is not None:
                history.insert_request(rows.flush(), self._seal, generation, request)
            return change

        outcome: RequestBinding | int | MediagateError = await self._writer.submit_rows(job)
        if entered:
            record_budget_metrics(entered[-1].moved)
        if isinstance(outcome, MediagateError):
            raise outcome
        return outcome

    def save(
        self,
        generation: Generation,
        entries: tuple[LedgerEntry, ...] = (),
        *,
        release_request_id: bool = False,
        claims: tuple[str, ...] = (),
    ) -> "asyncio.Future[int]":
        """See port.Store."""
        entered: list[BudgetResult] = []

        def job(rows: RowBatch) -> int:
            entered.clear()
            if claims:
                generation_rows.check_claims(rows.flush(), generation, claims)
            if entries and self._books.affects(rows.flush, generation):
                entered.append(self._books.apply(rows.flush(), generation, entries))
                self._apply_budget_result(rows.flush(), generation, entered[-1])
            change = self._next_change()
            generation_rows.update_generation(rows, generation, entries, change)
            charge_rows.insert_charges(rows, generation, entries)
            if release_request_id:
                generation_rows.release_binding(rows.flush(), generation)
                self._standing.remove_binding(generation)
            self._standing.on_saved(rows.flush, generation)
            if generation.state.is_terminal:
                self._end(rows, generation)
            return change

        commit = self._writer.submit_rows(job)
        if generation.sends_webhook and generation.state.is_terminal:
            self.outbox.filled(commit)
        if entries:
            commit.add_done_callback(lambda done: _tell(done, entered))
            commit.add_done_callback(lambda _: self._wake_for(entered))
        return commit

    def _end(self, rows: RowBatch, generation: Generation) -> None:
        """With a terminal version: nothing is kept that only one that runs needs."""
        if not generation.has_unconfirmed_attempt:
            sealed_rows.erase_pending(rows, generation.id)
        if self._standing.take_has_checkpoints(rows.flush, generation.id):
            sealed_rows.erase_checkpoints(rows.flush(), generation.id)
        if generation.sends_webhook:
            outbox.release_expected_event(rows.flush(), generation)

    async def get(self, tenant: str, generation_id: str) -> Generation | None:
        """See port.Store."""
        return await self._reader.read(
            lambda c: generation_queries.get_generation(c, tenant, generation_id)
        )

    async def list_generations(
        self, tenant: str, where: GenerationFilter, limit: int, after: ListPosition | None
    ) -> tuple[Generation, ...]:
        """See port.Store."""
        return await self._searches.read(
            lambda c: generation_queries.list_generations(c, tenant, where, limit, after)
        )

    async def list_unfinished(self) -> tuple[Generation, ...]:
        """See port.Store."""
        return await self._searches.read(generation_queries.list_unfinished)

    async def list_unconfirmed(
        self, absent_since: datetime | None = None
    ) -> tuple[Generation, ...]:
        """See port.Store."""
        return await self._searches.read(
            lambda c: generation_queries.list_unconfirmed(c, absent_since)
        )

    async def find_by_attempt(self, attempt_id: str) -> Generation | None:
        """See port.Store."""
        return await self._reader.read(lambda c: generation_queries.find_by_attempt(c, attempt_id))

    async def claimed_predictions(self, prediction_ids: Iterable[str]) -> frozenset[str]:
        """See port.Store."""
        asked = frozenset(prediction_ids)
        return await self._reader.read(lambda c: generation_queries.claimed_predictions(c, asked))

    async def in_flight(self, tenant: str) -> int:
        """See port.Store."""
        return await self._reader.read(lambda c: generation_queries.count_running(c, tenant))

    # Money

    async def charges(
        self, where: ChargeFilter, limit: int, after: ChargePosition | None
    ) -> tuple[Charge, ...]:
        """See port.Store."""
        return await self._searches.read(lambda c: charge_rows.list_charges(c, where, limit, after))

    async def totals(
        self, where: ChargeFilter, group_by: Sequence[GroupBy] = (), label_key: str = ""
    ) -> tuple[ChargeTotal, ...]:
        """See port.Store."""
        return await self._searches.read(
            lambda c: charge_rows.sum_charges(c, where, group_by, label_key)
        )

    # What is kept only while a generation runs

    async def pending_input(self, generation_id: str) -> bytes | None:
        """See port.Store."""
        return await self._reader.read(
            lambda c: sealed_rows.read_pending_input(c, self._seal, generation_id)
        )

    async def resumptions(self, generation_ids: Sequence[str]) -> Mapping[str, Resumption]:
        """See port.Store."""
        return await self._searches.read(
            lambda c: sealed_rows.read_resumptions(c, self._seal, generation_ids)
        )

    def save_checkpoint(self, generation_id: str, piece: Checkpoint) -> "asyncio.Future[None]":
        """See port.Store."""

        def job(connection: sqlite3.Connection) -> None:
            if sealed_rows.write_checkpoint(connection, self._seal, generation_id, piece):
                self._standing.on_checkpoint(lambda: connection, generation_id)

        kept = self._writer.submit(job)
        kept.add_done_callback(_tell_of_checkpoint)
        return kept

    # Changes

    async def changed_since(
        self, tenant: str, where: GenerationFilter, after: int, limit: int
    ) -> tuple[GenerationChange, ...]:
        """See port.Store."""
        return await self._searches.read(
            lambda c: generation_queries.changed_since(c, tenant, where, after, limit)
        )

    async def change_range(self) -> ChangeRange:
        """See port.Store."""
        return await self._reader.read(generation_queries.sequences)

    # Budgets

    async def budgets(
        self, tenant: str, budgets: Sequence[Budget], now: datetime
    ) -> tuple[BudgetUsage, ...]:
        """See port.Store."""
        return await self._reader.read(lambda c: budget_rows.read_usages(c, tenant, budgets, now))

    async def check_budgets(
        self, tenant: str, labels: Mapping[str, str], reservation: Reservation, now: datetime
    ) -> None:
        """See port.Store."""
        counting = [one for one in self._configured(tenant) if matches_labels(one, labels)]
        for use in await self.budgets(tenant, counting, now):
            if reservation.exceeds(use) and not use.budget.shadow:
                raise reservation.refusal(tenant, use)

    async def override_budget(
        self, tenant: str, budget: str, limit_nanos: int, expires: datetime
    ) -> None:
        """See port.Store."""
        await self._writer.submit(
            lambda c: budget_rows.write_override(c, tenant, budget, limit_nanos, expires)
        )

    # Keys and webhooks

    async def claim_webhook(self, webhook_id: str, now: datetime) -> bool:
        """See port.Store."""
        first: bool = await self._writer.submit(
            lambda c: sealed_rows.claim_webhook(c, webhook_id, now)
        )
        return first

    async def has_webhook(self, webhook_id: str) -> bool:
        """See port.Store."""
        return await self._reader.read(lambda c: sealed_rows.has_webhook(c, webhook_id))

    async def secret_key(self, name: str) -> bytes:
        """See port.Store."""
        found: bytes = await self._writer.submit(
            lambda c: sealed_rows.read_or_create_key(c, self._seal, name)
        )
        return found

    def _apply_budget_result(
        self, connection: sqlite3.Connection, generation: Generation, entered: BudgetResult
    ) -> None:
        """Raise the refusal; else put into the outbox what is to be told of budgets."""
        if entered.refusal is not None:
            raise entered.refusal
        for moved in entered.moved:
            if moved.threshold_events and (url := self._budget_webhook(moved.tenant)):
                outbox.insert_threshold_events(
                    connection, self._seal, moved, url, latest_event_time(generation)
                )

    def _wake_for(self, entered: list[BudgetResult]) -> None:
        """Somebody may be to be told of a budget."""
        if entered and any(moved.threshold_events for moved in entered[-1].moved):
            self.outbox.has_work.set()

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
        report_bug(BackgroundJob.CHECKPOINT, error)


def _tell(done: "asyncio.Future[int]", entered: list[BudgetResult]) -> None:
    """The metrics what a save did to budgets, or what it was refused by."""
    if done.cancelled() or not entered:
        return
    error = done.exception()
    if error is None or error is entered[-1].refusal:
        record_budget_metrics(entered[-1].moved)
