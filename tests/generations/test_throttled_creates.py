"""A create that is answered 429: the call waits, and ends as what it is where that was in vain."""

import asyncio
from collections.abc import Callable
from dataclasses import replace as replace_fields
from pathlib import Path

import pytest

from mediagate_server.errors import Reason, StoredFailure
from mediagate_server.generations.engine import GenerationEngine
from mediagate_server.runtime.clock import SystemClock, Timer
from mediagate_server.store.records import AttemptState, State
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.structs import replace
from mediagate_server.upstream.port import (
    CreateRequest,
    CreateReservation,
    Prediction,
    RefusalReason,
    RequestRefused,
)
from tests.generations.engine_deps import AcceptingUpstream, engine_deps, submission, submit, work
from tests.generations.fake_upstream import free_turn


class Hasty(SystemClock):
    """Its timeouts are over soon."""

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        return super().call_later(min(seconds, 0.3), callback)


class Throttled(AcceptingUpstream):
    """Answers 429 so many times, or refuses otherwise; `held` is what it asks to wait for."""

    def __init__(
        self, *refusals: RefusalReason, hold_seconds: float = 0.0, admits: bool = True
    ) -> None:
        super().__init__()
        self.refusals = list(refusals)
        self.hold_seconds = hold_seconds
        self.admits = admits
        self.again: list[bool] = []

    @property
    def backoff_seconds(self) -> float:
        return self.hold_seconds

    async def admit(self, model: str = "", *, again: bool = False) -> CreateReservation:
        self.again.append(again)
        if not self.admits:
            await asyncio.Event().wait()
        return free_turn()

    async def create(
        self, request: CreateRequest, *, model: str, turn: CreateReservation | None
    ) -> Prediction:
        if self.refusals:
            raise RequestRefused(self.refusals.pop(0), http_status=429, retry_after=7.0)
        return await super().create(request, model=model, turn=turn)


async def test_any_number_of_throttled_creates_is_retried(tmp_path: Path) -> None:
    """They do not count to the six creates, and each closes its attempt at no cost."""
    upstream = Throttled(*[RefusalReason.THROTTLED] * 20)
    async with (
        SqliteStore(tmp_path) as store,
        GenerationEngine(engine_deps(store, upstream), max_in_flight=lambda _: 0) as generations,
    ):
        attached = await submit(generations, submission(1), work())
        record = await attached.wait(None)
    assert record.state is State.SUCCEEDED
    *refused, last = record.attempts
    assert len(refused) == 20
    assert {(attempt.state, attempt.reason) for attempt in refused} == {
        (AttemptState.REFUSED, "throttled")
    }
    assert {attempt.cost.nanos for attempt in refused if attempt.cost} == {0}
    assert last.ordinal == 21
    assert len(upstream.created) == 1
    assert upstream.again == [True] * 20


async def test_other_refusals_count_as_attempts(tmp_path: Path) -> None:
    """429s between them do not make more of the three tries at an upstream that is not there."""
    limit, away = RefusalReason.THROTTLED, RefusalReason.UNREACHABLE
    upstream = Throttled(limit, away, limit, limit, away, limit, away)
    async with (
        SqliteStore(tmp_path) as store,
        GenerationEngine(engine_deps(store, upstream), max_in_flight=lambda _: 0) as generations,
    ):
        attached = await submit(generations, submission(1), work())
        with pytest.raises(StoredFailure) as caught:
            await attached.wait(None)
    assert caught.value.failure.reason is Reason.UPSTREAM_UNAVAILABLE
    assert not upstream.refusals
    assert upstream.created == []


@pytest.mark.parametrize("hold_seconds", [30.0, 60.0])
async def test_a_wait_beyond_the_timeout_is_refused_at_once(
    tmp_path: Path, hold_seconds: float
) -> None:
    """It helps nobody: the caller is told at once when to come again, and nothing is bound."""
    upstream = Throttled(RefusalReason.THROTTLED, hold_seconds=hold_seconds)
    request = replace(submission(1), timeout=30.0)
    async with (
        SqliteStore(tmp_path) as store,
        GenerationEngine(engine_deps(store, upstream), max_in_flight=lambda _: 0) as generations,
    ):
        attached = await submit(generations, request, work())
        async with asyncio.timeout(20.0):
            with pytest.raises(StoredFailure) as caught:
                await attached.wait(None)
        assert await store.find_binding(request.tenant, request.request_id) is None
    failure = caught.value.failure
    assert (failure.reason, failure.retry_after) == (Reason.UPSTREAM_UNAVAILABLE, 7.0)


async def test_a_timeout_during_the_wait_is_reported_as_throttling(tmp_path: Path) -> None:
    """Upstream takes no more, with the time to come again: no bare DEADLINE."""
    upstream = Throttled(RefusalReason.THROTTLED, hold_seconds=0.1, admits=False)
    async with (
        SqliteStore(tmp_path) as store,
        GenerationEngine(
            replace_fields(engine_deps(store, upstream), clock=Hasty()), max_in_flight=lambda _: 0
        ) as generations,
    ):
        attached = await submit(generations, submission(1), work())
        with pytest.raises(StoredFailure) as caught:
            await attached.wait(None)
    failure = caught.value.failure
    assert (failure.reason, failure.retry_after) == (Reason.UPSTREAM_UNAVAILABLE, 0.1)


async def test_a_cancel_during_the_wait_is_cancelled(tmp_path: Path) -> None:
    """Nothing was sent after the 429, and nothing is paid."""
    upstream = Throttled(RefusalReason.THROTTLED, hold_seconds=0.1, admits=False)
    async with (
        SqliteStore(tmp_path) as store,
        GenerationEngine(engine_deps(store, upstream), max_in_flight=lambda _: 0) as generations,
    ):
        attached = await submit(generations, submission(1), work())
        async with asyncio.timeout(10):
            while attached.record.queue_position is None:  # noqa: ASYNC110 - it is reckoned when asked for
                await asyncio.sleep(0)
        position = attached.record.queue_position
        assert position.position == 1
        assert 0.1 < position.seconds <= 0.3
        await generations.cancel("local", attached.record.id)
        record = await generations.wait("local", attached.record.id, None)
    assert record.state is State.CANCELLED
    assert record.cost.nanos == 0
