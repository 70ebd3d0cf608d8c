"""What goes wrong once takes nothing else with it, and what is done twice counts once."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mediagate_server.catalog.models.model import OutputKind
from mediagate_server.catalog.pricing import prices
from mediagate_server.errors import InternalError, ServerDraining, StaleOwner, StoreUnavailable
from mediagate_server.generations.active_generations import ActiveGenerations
from mediagate_server.generations.change_feed import ChangeFeed
from mediagate_server.generations.engine import GenerationEngine
from mediagate_server.generations.execution.prediction_claims import PredictionClaims
from mediagate_server.generations.outputs.json_output import read_json
from mediagate_server.generations.recovery.late_predictions import LatePredictions
from mediagate_server.generations.transitions.outcome import (
    StreamedText,
    answer_candidates,
    read_end,
)
from mediagate_server.generations.transitions.step_spec import step_spec
from mediagate_server.runtime.clock import SystemClock
from mediagate_server.store.records import AttemptState, State
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.structs import replace
from mediagate_server.upstream.port import Prediction, PredictionStatus
from tests.generations.engine_deps import (
    PRICE,
    AcceptingUpstream,
    EndlessUpstream,
    UnwillingStore,
    engine_deps,
    submission,
    submit,
    work,
)
from tests.store.records import NOON, generation_record, reservation
from tests.store_rows import ledger_entries


class FailingAcceptStore(SqliteStore):
    """A store with a bug that shows once."""

    broken = True

    async def accept(self, *args: Any, **more: Any) -> Any:
        if self.broken:
            self.broken = False
            raise KeyError("a bug")
        return await super().accept(*args, **more)


async def test_an_internal_error_in_one_accept_affects_no_other(tmp_path: Path) -> None:
    """Its caller is told INTERNAL, with nothing bound or sent; the next call works."""
    upstream = AcceptingUpstream()
    async with (
        FailingAcceptStore(tmp_path) as store,
        GenerationEngine(engine_deps(store, upstream), max_in_flight=lambda _: 0) as generations,
    ):
        with pytest.raises(InternalError):
            await submit(generations, submission(1), work())
        assert not upstream.created
        async with await submit(generations, submission(1), work()) as attached:
            record = await attached.wait(None)
    assert record.state is State.SUCCEEDED
    assert len(upstream.created) == 1


async def test_a_generation_planned_before_a_drain_is_not_accepted(tmp_path: Path) -> None:
    """Planning may take long: it reads about models and hands files over."""
    upstream = AcceptingUpstream()
    async with (
        SqliteStore(tmp_path) as store,
        GenerationEngine(engine_deps(store, upstream), max_in_flight=lambda _: 0) as generations,
    ):
        assert await generations.find_existing(submission(1)) is None
        generations.drain()
        with pytest.raises(ServerDraining):
            await generations.submit(submission(1), work())
        assert await store.find_binding("local", submission(1).request_id) is None
    assert not upstream.created


async def test_a_cancel_is_answered_only_once_durable(tmp_path: Path) -> None:
    """STORE_UNAVAILABLE while the wish can be lost; asked again, it is answered once it cannot."""
    async with (
        UnwillingStore(tmp_path) as store,
        GenerationEngine(
            engine_deps(store, EndlessUpstream()), max_in_flight=lambda _: 0
        ) as generations,
    ):
        attached = await submit(generations, submission(1), work())
        name = attached.record.id
        store.refuses = True
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await generations.cancel("local", name)
        record = await store.get("local", name)
        assert record is not None
        assert not record.stop
        store.refuses = False
        await generations.cancel("local", name)
        record = await store.get("local", name)
    assert record is not None
    assert record.stop


async def test_a_drain_waits_for_creates_about_to_be_sent(tmp_path: Path) -> None:
    """Between the commit that lets it and the send: the next process would take it for sent."""
    upstream = EndlessUpstream(admits=False)
    async with (
        UnwillingStore(tmp_path) as unwilling,
        GenerationEngine(
            engine_deps(unwilling, upstream), max_in_flight=lambda _: 0
        ) as generations,
    ):
        unwilling.block = block = asyncio.Event()
        attached = await submit(generations, submission(1), work())
        await asyncio.wait_for(unwilling.requested.wait(), 10)
        # Once the drain has looked who is sending.
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: loop.call_soon(block.set))
    async with SqliteStore(tmp_path) as store:
        stored = await store.get("local", attached.record.id)
    assert len(upstream.created) == 1
    assert stored is not None
    assert stored.attempt.state is AttemptState.ACCEPTED


async def test_a_drain_does_not_wait_for_blocked_creates(tmp_path: Path) -> None:
    """The store does not take the commit that would let it: it stays queued for the next one."""
    upstream = EndlessUpstream(admits=False)
    async with UnwillingStore(tmp_path) as store:
        async with GenerationEngine(
            engine_deps(store, upstream), max_in_flight=lambda _: 0
        ) as generations:
            store.refuses = True
            attached = await submit(generations, submission(1), work())
            await asyncio.wait_for(store.requested.wait(), 10)
        store.refuses = False
        stored = await store.get("local", attached.record.id)
    assert not upstream.created
    assert stored is not None
    assert stored.attempt.state is AttemptState.QUEUED


async def declared_absent(store: SqliteStore) -> tuple[Callable[[], Awaitable[None]], str]:
    """An attempt of a generation that failed: what settles it as found after all, and its id."""
    record = generation_record("a")
    await store.accept(record, reservation(record), 0)
    absent = replace(record.attempt, state=AttemptState.ABSENT, price=prices.dump_price(PRICE))
    record = replace(record, version=2, state=State.FAILED, attempts=(absent,))
    await store.save(record)
    jobs: list[Callable[[], Awaitable[None]]] = []
    active = ActiveGenerations(10.0, SystemClock(), PredictionClaims(store), ChangeFeed(store))
    overruns = LatePredictions(
        engine_deps(store, AcceptingUpstream()), active, lambda _, act: jobs.append(act)
    )

    def find() -> Awaitable[None]:
        overruns.stop_and_settle(absent, record, "late")
        return jobs.pop()()

    return find, absent.id


async def test_an_overrun_found_twice_is_settled_once(tmp_path: Path) -> None:
    """A sweep may have begun before it was settled, and find it after."""
    async with SqliteStore(tmp_path) as store:
        find, absent_id = await declared_absent(store)
        for _ in range(2):
            await asyncio.wait_for(find(), 10)
        settled = await ledger_entries(store, absent_id)
    assert [line.amount_nanos for line in settled] == [5, 2_000_000]


async def test_settling_an_overrun_stops_when_ownership_is_lost(tmp_path: Path) -> None:
    """It is its new owner's to settle: this process would try every second until it ends."""
    async with UnwillingStore(tmp_path) as store:
        find, absent_id = await declared_absent(store)
        settling = find()
        store.refuses, store.refuses_as = True, StaleOwner()
        with pytest.raises(StaleOwner):
            await asyncio.wait_for(settling, 10)
        assert [line.amount_nanos for line in await ledger_entries(store, absent_id)] == [5]


def test_json_is_published_once_though_its_end_is_written_twice() -> None:
    """The store was away at the first try: what was told then is not told again."""
    shape = {"kind": OutputKind.JSON_TEXT.value, "field": "{}", "media_type": "text/plain"}
    record = generation_record("a", shape=shape)
    end = Prediction("p", PredictionStatus.SUCCEEDED, output=["```json\n", "[1]", "\n```"])
    spec = step_spec(record, record.attempt, None)
    (answer,) = answer_candidates(spec, end)
    assert answer is not None
    text = ""
    for _ in range(2):
        outcome = read_end(
            spec,
            end,
            now=NOON,
            streamed=StreamedText(text, is_complete=False),
            cancel_reason="",
            reading=read_json(answer, "{}"),
        )
        text += outcome.unsent_text
        assert outcome.step.state is State.SUCCEEDED
        assert not outcome.is_broken
    assert text == "[1]"
