"""A step on a store and a scripted upstream, without the run that it would belong to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mediagate_server.catalog.pricing import prices
from mediagate_server.generations.execution.attached_callers import AttachedCallers
from mediagate_server.generations.execution.execution_plan import ExecutionPlan
from mediagate_server.generations.execution.log_progress import RunProgress
from mediagate_server.generations.execution.prediction_claims import PredictionClaims
from mediagate_server.generations.execution.quarantine import Quarantine
from mediagate_server.generations.execution.run_context import ProcessState, RunContext
from mediagate_server.generations.execution.step import Step
from mediagate_server.generations.execution.step_result import NeverAccepted, PredictionEnded
from mediagate_server.generations.execution.versioned_record import VersionedRecord
from mediagate_server.generations.queue_positions import QueuePositions
from mediagate_server.generations.streaming.generated_text import GeneratedText
from mediagate_server.generations.transitions import attempts, settlement, step_results
from mediagate_server.generations.transitions.outcome import StreamedText
from mediagate_server.runtime.cancellation import CancelToken
from mediagate_server.runtime.notifier import Notifier
from mediagate_server.store.records import AttemptState, LedgerEntry, LedgerEntryKind
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.structs import replace
from mediagate_server.upstream.port import (
    CreateRequest,
    CreateReservation,
    Prediction,
    PredictionStatus,
    RefusalReason,
    RequestRefused,
)
from tests.generations.engine_deps import PRICE, EndlessUpstream, engine_deps, work
from tests.store.records import generation_record

WITHIN = 10


class ScriptedUpstream(EndlessUpstream):
    """Its predictions stand as the test has put them; one that is cancelled ends so."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses: dict[str, PredictionStatus] = {}
        self.requested = Notifier()
        self.refuses = False

    async def create(
        self, request: CreateRequest, *, model: str, turn: CreateReservation | None
    ) -> Prediction:
        if self.refuses:
            raise RequestRefused(RefusalReason.INPUT)
        return await super().create(request, model=model, turn=turn)

    async def get(self, prediction_id: str, *, model: str) -> Prediction:
        status = self.statuses.get(prediction_id, PredictionStatus.PROCESSING)
        self.requested.notify()
        return Prediction(prediction_id, status, output="text", metrics={"predict_time": 2})

    async def cancel(self, prediction_id: str, *, model: str) -> Prediction | None:
        self.statuses[prediction_id] = PredictionStatus.CANCELED
        return None


@dataclass
class StepWithoutRun:
    """One step of one text, and what it shares with the run that is not there."""

    upstream: ScriptedUpstream
    context: RunContext
    step: Step

    async def result(self) -> PredictionEnded | NeverAccepted | None:
        """What it returns, in time."""
        return await asyncio.wait_for(self.step.run(), WITHIN)

    async def apply(self, result: PredictionEnded | NeverAccepted) -> None:
        """What the run does with it."""
        now = self.context.deps.clock.now()
        if isinstance(result, NeverAccepted):
            settled = step_results.never_accepted(
                result.closed, result.released, result.failure, cancelled=False, now=now
            )
        else:
            settled = settlement.settle_prediction(
                self.context.step_spec(result.attempt),
                result.end.prediction,
                result.price,
                now=now,
                streamed=StreamedText("", is_complete=False),
                cancel_reason="",
            )
        await self.context.record.commit(
            "settle",
            lambda record: step_results.add_step_result(record, settled),
            lambda record: step_results.settlement_entries(record, settled),
        )


@asynccontextmanager
async def step_without_run(
    folder: Path, *changes: dict[str, Any], plan: ExecutionPlan | None = None
) -> AsyncIterator[StepWithoutRun]:
    """A step whose attempts differ from one that waits for its slot by these."""
    upstream, now, plan = ScriptedUpstream(), datetime.now(UTC), plan or work()
    record = generation_record(
        "a",
        shape=dict(attempts.shape_of_plan(plan.chain[0])),
        created_at=now,
        deadline_at=now + timedelta(minutes=10),
    )
    waiting = replace(
        record.attempt,
        state=AttemptState.QUEUED,
        created_at=now,
        price=prices.dump_price(PRICE),
    )
    opened = tuple(
        replace(waiting, id=f"att_{number}", ordinal=number, **change)
        for number, change in enumerate(changes or ({},), 1)
    )
    record = attempts.with_attempt(replace(record, attempts=()), *opened)
    reservations = tuple(
        LedgerEntry(attempt.id, LedgerEntryKind.RESERVE, 5, record.cost.state, "2026")
        for attempt in opened
    )
    async with SqliteStore(folder) as store:
        await store.accept(record, reservations, 0)
        deps, changed = engine_deps(store, upstream), Notifier()
        context = RunContext(
            deps,
            ProcessState(PredictionClaims(store), QueuePositions(deps.clock), lambda _: None),
            VersionedRecord(store, deps.clock, record, changed.notify, lambda: None),
            plan,
            CancelToken(),
            AttachedCallers(deps.clock, lambda: None),
            GeneratedText(store, deps.clock, record.id, changed),
            RunProgress(),
            Notifier(),
            Quarantine(record.id),
        )
        context.screened.notify()
        key = attempts.FIRST_OUTPUT
        step = Step(context, key, plan.plans(key), lambda *_: None, lambda *_: None)
        yield StepWithoutRun(upstream, context, step)
