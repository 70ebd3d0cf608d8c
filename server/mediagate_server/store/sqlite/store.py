"""SQLite store: one file, a writer thread with group commit, and two reader threads."""

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
from mediagate_server.runtime.notifier import Notifier
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
from mediagate_server.store.charge_queries import (
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
    encrypted_rows,
    generation_history,
    generation_queries,
    generation_rows,
    outbox,
)
from mediagate_server.store.sqlite.batch_insert import RowBatch
from mediagate_server.store.sqlite.budget_updates import (
    BudgetResult,
    BudgetUpdater,
    latest_event_time,
)
from mediagate_server.store.sqlite.connection import Connect, connect
from mediagate_server.store.sqlite.data_folder_errors import data_folder_errors
from mediagate_server.store.sqlite.encryption_key import open_cipher
from mediagate_server.store.sqlite.generation_history import SqliteGenerationHistory
from mediagate_server.store.sqlite.group_commit import GroupCommitWriter
from mediagate_server.store.sqlite.ledger_reconciliations import SqliteReconciliationStore
from mediagate_server.store.sqlite.outbox import SqliteOutbox, no_webhook
from mediagate_server.store.sqlite.ownership import DataFolderLock, boot_seconds
from mediagate_server.store.sqlite.reader import ReadThread
from mediagate_server.store.sqlite.writer_cache import WriterCache

LEASE_SECONDS: Final = 15.0
_OWN_FILES: Final = ("mediagate.sqlite3*", "sealing.key*", "lock*")
"""All files of a store in its folder."""
CLOSE_SECONDS: Final = 10.0
"""Timeout for each of the store's threads to end: a hanging disk must not hold up SIGTERM."""


class SqliteStore:
    """`port.Store` in one SQLite file. Use it as an async context manager.

    `lease_seconds` is how long a process that has stopped working keeps others out,
    `close_seconds` how long each of its threads is waited for at the end; `clock` gives seconds
    that all processes of the machine agree on. `budget_webhook` gives the URL for a tenant's budget
    events, if any; it is called by the writer thread. Entering raises DataFolderInUse,
    DataFolderUnusable or encryption.EncryptionKeyError.
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
        self._cache = WriterCache()
        self._configured_budgets = budgets
        self._budget_updater = BudgetUpdater(budgets)
        self.lost = Notifier()

    async def __aenter__(self) -> Self:
        with data_folder_errors(self._path):
            self._open()
        return self

    def _open(self) -> None:
        make_private_folder(self._folder)
        # What SQLite puts beside its file has the mode of the file.
        create_private_file(self._path)
        files = (path for name in _OWN_FILES for path in self._folder.glob(name))
        make_private((self._folder.resolve(), *files))
        with contextlib.closing(self._connect(self._path)) as connection:
            self._lease = self._lock.acquire(connection)
            try:
                self._cipher = open_cipher(self._folder, connection)
                self._change = generation_queries.change_range(connection).newest
            except BaseException:
                self._lock.release()
                raise
        # As long as one connection is open, a new one takes the end of the log from the shared
        # index, and not from the log itself, which may end with a commit that failed.
        self._anchor = self._connect(self._path)
        generation_queries.change_range(self._anchor)
        self._reader = ReadThread(lambda: self._connect(self._path))
        # Queries of many rows have a thread of their own: no call waits behind a year's totals.
        self._searches = ReadThread(lambda: self._connect(self._path), name="store-searches")
        self._writer = GroupCommitWriter(
            lambda: self._connect(self._path),
            self._lease,
            on_lost=self.lost.notify,
            on_rollback=self._invalidate_caches,
        )
        self.reconciliations = SqliteReconciliationStore(self._writer, self._searches)
        self.outbox = SqliteOutbox(self._writer, self._reader, self._cipher)
        self.history = SqliteGenerationHistory(
            self._writer,
            self._reader,
            self._searches,
            self._cipher,
            self._cache,
            self._next_change,
        )

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        closed = [await self._writer.close(self._close_seconds)]
        closed += [
            await thread.close(self._close_seconds) for thread in (self._reader, self._searches)
        ]
        if not all(closed):
            return  # A thread that hangs on the disk ends with the process, and the lock with it.
        with contextlib.suppress(sqlite3.Error):
            self._anchor.close()
        self._lock.release()

    def lease_left(self) -> float:
        return self._lease.seconds_left()

    # Generations

    async def find_binding(self, tenant: str, request_id: str) -> RequestBinding | None:
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
        results: list[BudgetResult] = []

        def job(rows: RowBatch) -> RequestBinding | int | MediagateError:
            results.clear()  # A job may run twice: see GroupCommitWriter._write.
            has_budget = self._budget_updater.affects(rows.flush, generation)
            existing = generation_rows.check_admission(
                rows, self._cache, generation, max_in_flight, check_binding=has_budget
            )
            if existing:
                return existing
            if has_budget:
                results.append(self._budget_updater.apply(rows.flush(), generation, entries))
                if (refusal := results[-1].refusal) is not None:
                    return refusal  # And not raised: the row of the budget that was created stays.
            change = self._next_change()
            generation_rows.insert_generation(rows, generation, entries, change, reuse_key)
            self._cache.on_saved(rows.flush, generation)
            self._cache.add_binding(
                generation.tenant,
                generation.request_id,
                RequestBinding(generation.id, generation.fingerprint),
            )
            if pending is not None:
                encrypted_rows.write_pending_input(rows, self._cipher, generation.id, pending)
            if webhook_url:
                outbox.insert_expected_event(rows.flush(), self._cipher, generation, webhook_url)
            if request is not None:
                generation_history.insert_request(rows.flush(), self._cipher, generation, request)
            return change

        outcome: RequestBinding | int | MediagateError = await self._writer.submit_rows(job)
        if results:
            record_budget_metrics(results[-1].updates)
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
        results: list[BudgetResult] = []

        def job(rows: RowBatch) -> int:
            results.clear()
            if claims:
                generation_rows.check_claims(rows.flush(), generation, claims)
            if entries and self._budget_updater.affects(rows.flush, generation):
                results.append(self._budget_updater.apply(rows.flush(), generation, entries))
                self._apply_budget_result(rows.flush(), generation, results[-1])
            change = self._next_change()
            generation_rows.update_generation(rows, generation, entries, change)
            charge_rows.insert_charges(rows, generation, entries)
            if release_request_id:
                generation_rows.release_binding(rows.flush(), generation)
                self._cache.remove_binding(generation)
            self._cache.on_saved(rows.flush, generation)
            if generation.state.is_terminal:
                self._delete_run_data(rows, generation)
            return change

        commit = self._writer.submit_rows(job)
        if generation.sends_webhook and generation.state.is_terminal:
            self.outbox.notify_on_commit(commit)
        if entries:
            commit.add_done_callback(lambda done: _record_budget_results(done, results))
            commit.add_done_callback(lambda _: self._notify_outbox(results))
        return commit

    def _delete_run_data(self, rows: RowBatch, generation: Generation) -> None:
        """Delete with a terminal version what only a running generation needs."""
        if not generation.has_unconfirmed_attempt:
            encrypted_rows.delete_pending(rows, generation.id)
        if self._cache.pop_checkpoints(rows.flush, generation.id):
            encrypted_rows.delete_checkpoints(rows.flush(), generation.id)
        if generation.sends_webhook:
            outbox.release_expected_event(rows.flush(), generation)

    async def get(self, tenant: str, generation_id: str) -> Generation | None:
        return await self._reader.read(
            lambda c: generation_queries.get_generation(c, tenant, generation_id)
        )

    async def list_generations(
        self, tenant: str, where: GenerationFilter, limit: int, after: ListPosition | None
    ) -> tuple[Generation, ...]:
        return await self._searches.read(
            lambda c: generation_queries.list_generations(c, tenant, where, limit, after)
        )

    async def list_unfinished(self) -> tuple[Generation, ...]:
        return await self._searches.read(generation_queries.list_unfinished)

    async def list_unconfirmed(
        self, absent_since: datetime | None = None
    ) -> tuple[Generation, ...]:
        return await self._searches.read(
            lambda c: generation_queries.list_unconfirmed(c, absent_since)
        )

    async def find_by_attempt(self, attempt_id: str) -> Generation | None:
        return await self._reader.read(lambda c: generation_queries.find_by_attempt(c, attempt_id))

    async def claimed_predictions(self, prediction_ids: Iterable[str]) -> frozenset[str]:
        ids = frozenset(prediction_ids)
        return await self._reader.read(lambda c: generation_queries.claimed_predictions(c, ids))

    async def in_flight(self, tenant: str) -> int:
        return await self._reader.read(lambda c: generation_queries.count_running(c, tenant))

    # Money

    async def charges(
        self, where: ChargeFilter, limit: int, after: ChargePosition | None
    ) -> tuple[Charge, ...]:
        return await self._searches.read(lambda c: charge_rows.list_charges(c, where, limit, after))

    async def totals(
        self, where: ChargeFilter, group_by: Sequence[GroupBy] = (), label_key: str = ""
    ) -> tuple[ChargeTotal, ...]:
        return await self._searches.read(
            lambda c: charge_rows.sum_charges(c, where, group_by, label_key)
        )

    # What is kept only while a generation runs

    async def pending_input(self, generation_id: str) -> bytes | None:
        return await self._reader.read(
            lambda c: encrypted_rows.read_pending_input(c, self._cipher, generation_id)
        )

    async def resumptions(self, generation_ids: Sequence[str]) -> Mapping[str, Resumption]:
        return await self._searches.read(
            lambda c: encrypted_rows.read_resumptions(c, self._cipher, generation_ids)
        )

    def save_checkpoint(self, generation_id: str, piece: Checkpoint) -> "asyncio.Future[None]":

        def job(connection: sqlite3.Connection) -> None:
            if encrypted_rows.write_checkpoint(connection, self._cipher, generation_id, piece):
                self._cache.on_checkpoint(lambda: connection, generation_id)

        commit = self._writer.submit(job)
        commit.add_done_callback(_report_failed_checkpoint)
        return commit

    # Changes

    async def changed_since(
        self, tenant: str, where: GenerationFilter, after: int, limit: int
    ) -> tuple[GenerationChange, ...]:
        return await self._searches.read(
            lambda c: generation_queries.changed_since(c, tenant, where, after, limit)
        )

    async def change_range(self) -> ChangeRange:
        return await self._reader.read(generation_queries.change_range)

    # Budgets

    async def budgets(
        self, tenant: str, budgets: Sequence[Budget], now: datetime
    ) -> tuple[BudgetUsage, ...]:
        return await self._reader.read(lambda c: budget_rows.read_usages(c, tenant, budgets, now))

    async def check_budgets(
        self, tenant: str, labels: Mapping[str, str], reservation: Reservation, now: datetime
    ) -> None:
        budgets = [
            budget for budget in self._configured_budgets(tenant) if matches_labels(budget, labels)
        ]
        for use in await self.budgets(tenant, budgets, now):
            if reservation.exceeds(use) and not use.budget.shadow:
                raise reservation.refusal(tenant, use)

    async def override_budget(
        self, tenant: str, budget: str, limit_nanos: int, expires: datetime
    ) -> None:
        await self._writer.submit(
            lambda c: budget_rows.write_override(c, tenant, budget, limit_nanos, expires)
        )

    # Keys and webhooks

    async def claim_webhook(self, webhook_id: str, now: datetime) -> bool:
        first: bool = await self._writer.submit(
            lambda c: encrypted_rows.claim_webhook(c, webhook_id, now)
        )
        return first

    async def has_webhook(self, webhook_id: str) -> bool:
        return await self._reader.read(lambda c: encrypted_rows.has_webhook(c, webhook_id))

    async def secret_key(self, name: str) -> bytes:
        key: bytes = await self._writer.submit(
            lambda c: encrypted_rows.read_or_create_key(c, self._cipher, name)
        )
        return key

    def _apply_budget_result(
        self, connection: sqlite3.Connection, generation: Generation, result: BudgetResult
    ) -> None:
        """Raise the refusal; else insert the outbox events of reached thresholds."""
        if result.refusal is not None:
            raise result.refusal
        for update in result.updates:
            if update.threshold_events and (url := self._budget_webhook(update.tenant)):
                outbox.insert_threshold_events(
                    connection, self._cipher, update, url, latest_event_time(generation)
                )

    def _notify_outbox(self, results: list[BudgetResult]) -> None:
        """Wake the webhook dispatcher where a threshold was reached."""
        if results and any(update.threshold_events for update in results[-1].updates):
            self.outbox.has_work.notify()

    def _invalidate_caches(self) -> None:
        """Called by the writer thread after a rollback."""
        self._cache.invalidate()
        self._budget_updater.invalidate()

    def _next_change(self) -> int:
        """Called by the writer thread alone. Numbers of a failed commit are not used again."""
        self._change += 1
        return self._change


def _report_failed_checkpoint(done: "asyncio.Future[None]") -> None:
    """Report a bug where a checkpoint failed; a failing disk was logged by the writer."""
    error = None if done.cancelled() else done.exception()
    if isinstance(error, Exception) and not isinstance(error, StoreUnavailable):
        report_bug(BackgroundJob.CHECKPOINT, error)


def _record_budget_results(done: "asyncio.Future[int]", results: list[BudgetResult]) -> None:
    """Count in the metrics what a save did to budgets, or which budget refused it."""
    if done.cancelled() or not results:
        return
    error = done.exception()
    if error is None or error is results[-1].refusal:
        record_budget_metrics(results[-1].updates)
