"""Creates in doubt whose generation is over: what was sent is known until the doubt ends."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog

from mediagate_server.catalog.pricing import prices
from mediagate_server.generations.dependencies import EngineTimeouts
from mediagate_server.generations.engine import GenerationEngine
from mediagate_server.generations.execution import execution_plan as stored_work
from mediagate_server.generations.submission_request import input_hash
from mediagate_server.store.port import Store
from mediagate_server.store.records import (
    AttemptState,
    CostState,
    Generation,
    LedgerEntry,
    LedgerEntryKind,
    State,
)
from mediagate_server.store.sqlite.ledger_reconciliations import SqliteReconciliationStore
from mediagate_server.structs import replace
from mediagate_server.upstream.port import Prediction, PredictionPage, PredictionStatus
from tests.faults.simulation.simulated_store import DiskStore
from tests.faults.simulation.simulated_upstream import BEGIN
from tests.generations.engine_deps import PRICE, AcceptingUpstream, work
from tests.generations.engine_in_virtual_time import memory_store, run_in_virtual_time
from tests.store.records import advance, generation_record, reservation
from tests.store_rows import ledger_entries

MINUTES = 10 * 60


class Listing(AcceptingUpstream):
    """Its list shows what was made, with an input that upstream has filled in."""

    def __init__(self) -> None:
        super().__init__()
        self.listed = True
        self.runs = False

    async def get(self, prediction_id: str, *, model: str) -> Prediction:
        if self.runs:
            return Prediction(prediction_id, PredictionStatus.PROCESSING)
        return await super().get(prediction_id, model=model)

    async def list_predictions(
        self,
        *,
        cursor: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> PredictionPage:
        late = Prediction(
            "late",
            PredictionStatus.SUCCEEDED,
            model="a/b",
            input={"prompt": "p", "top_k": 50},
            created_at=BEGIN + timedelta(seconds=1),
        )
        return PredictionPage((late,) if self.listed else (), None)


async def ended_unconfirmed(store: Store, *, is_known: bool) -> Generation:
    """A success whose first create was never answered, as an earlier process left it."""
    record = generation_record("a", created_at=BEGIN, deadline_at=BEGIN + timedelta(minutes=10))
    pending = stored_work.dump_plan(work()) if is_known else None
    first = replace(record.attempt, created_at=BEGIN, price=prices.dump_price(PRICE))
    record = replace(record, attempts=(first,))
    await store.accept(record, reservation(record), 0, pending=pending)
    first = replace(first, state=AttemptState.UNCONFIRMED)
    second = replace(
        first,
        id="att_b",
        ordinal=2,
        model="c/d",
        state=AttemptState.SUCCEEDED,
        prediction_id="made",
        beside=first.id,
    )
    record = replace(
        record, version=2, state=State.SUCCEEDED, attempts=(first, second), completed_at=BEGIN
    )
    lines = (
        LedgerEntry("att_b", LedgerEntryKind.RESERVE, 5, CostState.ESTIMATED, "2026"),
        LedgerEntry("att_b", LedgerEntryKind.SETTLE, 3, CostState.SETTLED, "2026"),
    )
    await store.save(record, lines)
    return record


def in_virtual_time(upstream: Listing, act: Any) -> Any:
    """`act` with a store and the generations of a process on it."""

    async def run() -> Any:
        async with memory_store(DiskStore, upstream) as (store, deps):
            store.reconciliations = SqliteReconciliationStore(store._writer, store._searches)
            hurried = replace(deps, timeouts=EngineTimeouts(reconcile=60))
            return await act(store, GenerationEngine(hurried, max_in_flight=lambda _: 0))

    return run_in_virtual_time(run())


def test_a_restart_does_not_prove_a_running_prediction_absent() -> None:
    """The next process knows what was sent: it finds, and settles, what the list has filled in."""

    async def act(store: Store, generations: GenerationEngine) -> None:
        record = await ended_unconfirmed(store, is_known=True)
        assert await store.pending_input(record.id)
        async with generations:
            await asyncio.sleep(MINUTES)
            first = (await stored_record(store, record)).attempts[0]
        assert first.prediction_id == "late"
        assert first.state is AttemptState.SUCCEEDED
        kinds = [line.kind for line in await ledger_entries(store, first.id)]
        assert kinds == [LedgerEntryKind.RESERVE, LedgerEntryKind.SETTLE]
        assert await store.pending_input(record.id) is None

    in_virtual_time(Listing(), act)


@pytest.mark.parametrize("is_erased", [False, True])
def test_without_the_sent_input_a_candidate_prevents_the_proof(*, is_erased: bool) -> None:
    """It stays in doubt, with its hold, and an alarm; it is absent once the list has nothing."""
    upstream = Listing()

    async def act(store: Store, generations: GenerationEngine) -> None:
        record = await ended_unconfirmed(store, is_known=is_erased)
        with structlog.testing.capture_logs() as logs:
            async with generations:
                if is_erased:
                    await generations.erase(record.tenant, record.id)
                    assert await store.pending_input(record.id) is None
                await asyncio.sleep(MINUTES)
                first = (await stored_record(store, record)).attempts[0]
                assert first.state is AttemptState.UNCONFIRMED
                assert len(await ledger_entries(store, first.id)) == 1
                assert sum(entry["log_level"] == "error" for entry in logs) == 1
                upstream.listed = False
                await asyncio.sleep(MINUTES)
                assert (await stored_record(store, record)).attempts[0].state is AttemptState.ABSENT

    in_virtual_time(upstream, act)


def test_a_prediction_followed_beside_a_success_is_not_an_orphan() -> None:
    """Nothing of it is written down while its end is waited for, and the ledger is compared."""
    upstream = Listing()
    upstream.runs = True

    async def act(store: Store, generations: GenerationEngine) -> None:
        record = await ended_unconfirmed(store, is_known=True)
        with structlog.testing.capture_logs() as logs:
            async with generations:
                await asyncio.sleep(MINUTES)
                assert (await stored_record(store, record)).attempts[
                    0
                ].state is AttemptState.UNCONFIRMED
                upstream.runs = False
                await asyncio.sleep(MINUTES)
                assert (await stored_record(store, record)).attempts[0].prediction_id == "late"
        passes = [entry for entry in logs if entry["event"] == "reconciliation_completed"]
        assert len(passes) >= 10
        assert not [entry for entry in passes if "orphan" in entry]

    in_virtual_time(upstream, act)


async def stored_record(store: Store, record: Generation) -> Generation:
    """The generation as it is stored."""
    stored = await store.get(record.tenant, record.id)
    assert stored is not None
    return stored


def test_unconfirmed_attempts_keep_their_input_until_retention() -> None:
    """It is no longer in doubt, or its time is over."""

    async def act(store: Store, _: GenerationEngine) -> None:
        record = await ended_unconfirmed(store, is_known=True)
        await store.history.forget_requests(BEGIN)
        assert await store.pending_input(record.id)
        await store.history.forget_requests(BEGIN + timedelta(seconds=1))
        assert await store.pending_input(record.id) is None
        running = generation_record("c", tenant="other")
        await store.accept(running, reservation(running), 0, pending=b"{}")
        await store.save(advance(running, State.UNCONFIRMED, AttemptState.UNCONFIRMED))
        await store.history.forget_requests(BEGIN + timedelta(days=9_999))
        assert await store.pending_input(running.id)

    in_virtual_time(Listing(), act)


def test_an_absent_attempt_is_searched_from_its_send_time() -> None:
    """It waited for two hours for its turn: it is as new as one that was sent at once."""

    async def act(store: Store, generations: GenerationEngine) -> None:
        opened = BEGIN - timedelta(hours=2)
        record = generation_record(
            "a", created_at=opened, deadline_at=BEGIN + timedelta(minutes=10)
        )
        first = replace(record.attempt, created_at=opened, price=prices.dump_price(PRICE))
        record = replace(record, attempts=(first,))
        await store.accept(record, reservation(record), 0)
        shown_hash = input_hash(b"", {"prompt": "p", "top_k": 50})
        first = replace(first, state=AttemptState.ABSENT, sent_at=BEGIN, input_hash=shown_hash)
        record = replace(
            record, version=2, state=State.FAILED, attempts=(first,), completed_at=BEGIN
        )
        released = LedgerEntry(first.id, LedgerEntryKind.RELEASE, 0, CostState.SETTLED, "2026")
        await store.save(record, (released,))
        async with generations:
            await asyncio.sleep(MINUTES)
            assert (await stored_record(store, record)).attempts[0].prediction_id == "late"

    in_virtual_time(Listing(), act)
