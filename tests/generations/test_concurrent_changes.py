"""What happens to a generation while something else of it is being written."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mediagate_server.catalog.pricing import prices
from mediagate_server.errors import Failure, Reason
from mediagate_server.generations.engine import GenerationEngine
from mediagate_server.generations.submission_request import Submission
from mediagate_server.generations.transitions.attempts import close_attempt
from mediagate_server.generations.transitions.step_results import add_step_result, never_accepted
from mediagate_server.store.records import AttemptState, LedgerEntry, LedgerEntryKind, State
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.structs import replace
from mediagate_server.upstream.port import CreateReservation, Prediction
from tests.generations.engine_deps import (
    PRICE,
    AcceptingUpstream,
    UnwillingStore,
    engine_deps,
    submission,
    submit,
    work,
)
from tests.generations.fake_upstream import free_turn
from tests.store.records import generation_record
from tests.store_rows import ledger_entries


class BlockedStore(SqliteStore):
    """A store that accepts once it is let."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.requested, self.let = asyncio.Event(), asyncio.Event()

    async def accept(self, *args: Any, **more: Any) -> Any:
        self.requested.set()
        await self.let.wait()
        return await super().accept(*args, **more)


@asynccontextmanager
async def left_while_accepted(
    folder: Path, upstream: AcceptingUpstream, request: Submission
) -> AsyncIterator[tuple[SqliteStore, GenerationEngine, str]]:
    """Of a caller that left while it was accepted: what runs, and its generation's id."""
    async with (
        BlockedStore(folder) as store,
        GenerationEngine(engine_deps(store, upstream), max_in_flight=lambda _: 0) as generations,
    ):
        caller = asyncio.create_task(submit(generations, request, work()))
        await asyncio.wait_for(store.requested.wait(), 10)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        store.let.set()
        async with asyncio.timeout(10):
            while (bound := await store.find_binding("local", request.request_id)) is None:
                pass
        yield store, generations, bound.generation_id


@pytest.mark.parametrize("cancels", [True, False])
async def test_a_caller_that_leaves_during_acceptance(tmp_path: Path, *, cancels: bool) -> None:
    """The commit is not torn: it is accepted, and then ended unsent, or run, as was asked for."""
    upstream = AcceptingUpstream()
    request = replace(submission(1), cancel_on_disconnect=cancels)
    async with left_while_accepted(tmp_path, upstream, request) as (_, generations, name):
        record = await generations.wait("local", name, 10)
    assert record.state is (State.CANCELLED if cancels else State.SUCCEEDED)
    assert len(upstream.created) == (0 if cancels else 1)


class Admitting(AcceptingUpstream):
    """Has a turn for whoever waits for one."""

    async def admit(self, model: str = "", *, again: bool = False) -> CreateReservation:
        return free_turn()


async def test_a_caller_that_leaves_during_acceptance_can_return(tmp_path: Path) -> None:
    """Within the grace: not sent before, in nobody's turn meanwhile, and then sent once."""
    upstream = Admitting()
    request = replace(submission(1), grace=30.0)
    async with left_while_accepted(tmp_path, upstream, request) as (store, generations, name):
        async with asyncio.timeout(10):
            while True:
                record = await store.get("local", name)
                if record and record.attempt.state is AttemptState.QUEUED:
                    break
        assert (upstream.created, record.attempt.sent_at) == ([], None)
        async with await submit(generations, request, work()) as attached:
            record = await attached.wait(10)
    assert record.state is State.SUCCEEDED
    assert [attempt.ordinal for attempt in record.attempts] == [1]
    assert len(upstream.created) == 1


class SlowGetUpstream(AcceptingUpstream):
    """What runs is over once it is let; what turned up late is over already."""

    def __init__(self) -> None:
        super().__init__()
        self.let, self.requested = asyncio.Event(), asyncio.Event()

    async def get(self, prediction_id: str, *, model: str) -> Prediction:
        if prediction_id == "made":
            self.requested.set()
            await self.let.wait()
        return await super().get(prediction_id, model=model)


async def test_an_overrun_settled_while_the_end_is_pending_is_kept(tmp_path: Path) -> None:
    """Both were paid: both are in the record, its cost and the ledger."""
    now, price = datetime.now(UTC), prices.dump_price(PRICE)
    record = generation_record("a", created_at=now, deadline_at=now + timedelta(minutes=10))
    absent = replace(record.attempt, state=AttemptState.ABSENT, price=price)
    running = replace(
        absent, id="att_b", ordinal=2, state=AttemptState.ACCEPTED, prediction_id="made"
    )
    record = replace(record, state=State.RUNNING, attempts=(absent, running))
    reserves = tuple(
        LedgerEntry(attempt.id, LedgerEntryKind.RESERVE, 5, record.cost.state, "2026")
        for attempt in record.attempts
    )
    upstream = SlowGetUpstream()
    async with UnwillingStore(tmp_path) as store:
        await store.accept(record, reserves, 0)
        async with GenerationEngine(
            engine_deps(store, upstream), max_in_flight=lambda _: 0
        ) as generations:
            await asyncio.wait_for(upstream.requested.wait(), 10)
            store.block = let = asyncio.Event()
            overrun = asyncio.create_task(generations.on_webhook(absent.id, "late"))
            await asyncio.wait_for(store.requested.wait(), 10)
            upstream.let.set()
            # Once the end has been reckoned, and waits for its turn.
            loop = asyncio.get_running_loop()
            loop.call_soon(lambda: loop.call_soon(lambda: loop.call_soon(let.set)))
            ended = await generations.wait("local", record.id, 10)
            await asyncio.wait_for(overrun, 10)
        lines = [await ledger_entries(store, attempt.id) for attempt in record.attempts]
    assert [attempt.state for attempt in ended.attempts] == [AttemptState.SUCCEEDED] * 2
    assert ended.state is State.SUCCEEDED
    assert ended.cost.nanos == 4_000_000
    assert [[line.amount_nanos for line in each] for each in lines] == [[5, 2_000_000]] * 2


def test_a_partly_accepted_generation_is_not_reported_as_repeatable() -> None:
    """The last attempt was refused: that helps only where no other was taken."""
    record = generation_record("a")
    now, price = record.created_at, prices.dump_price(PRICE)
    unsent = replace(record.attempt, price=price)
    refused, released = close_attempt(unsent, AttemptState.REFUSED, "refused", now)
    failure = Failure(Reason.UPSTREAM_UNAVAILABLE, "later", retry_after=1.0)
    settled = never_accepted(refused, released, failure, cancelled=False, now=now)
    ended = add_step_result(record, settled)
    assert ended.failure == failure
    late = replace(record.attempt, id="att_0", state=AttemptState.CANCELLED)
    record = replace(record, attempts=(late, record.attempt))
    ended = add_step_result(record, settled)
    assert ended.failure
    assert ended.failure.retry_after is None
