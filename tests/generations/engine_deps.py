"""What a test of generations runs them in: a store, an upstream that takes all, a small plan."""

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

from mediagate_server.catalog.models.model import OutputKind, OutputShape
from mediagate_server.catalog.planning.plan import Plan
from mediagate_server.catalog.pricing.prices import Estimate, PriceRate, PriceSchedule, Tier
from mediagate_server.catalog.request import Modality
from mediagate_server.errors import StoreUnavailable
from mediagate_server.generations.dependencies import EngineDeps
from mediagate_server.generations.engine import GenerationEngine
from mediagate_server.generations.execution.attachment import Attachment
from mediagate_server.generations.execution.execution_plan import ExecutionPlan
from mediagate_server.generations.submission_request import Submission
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.upstream.port import (
    CreateRequest,
    CreateReservation,
    Prediction,
    PredictionStatus,
)
from tests.generations.fake_upstream import UnexpectedCallUpstream, free_turn
from tests.generations.no_keeper import NoKeeper

PRICE = PriceSchedule(
    (Tier((PriceRate(("predict_time",), Decimal("0.001"), 1),)),), "2026", "a test"
)


class AcceptingUpstream(UnexpectedCallUpstream):
    """Takes everything and runs it for two seconds."""

    def __init__(self) -> None:
        self.created: list[CreateRequest] = []

    def try_admit(self, model: str = "") -> CreateReservation | None:
        return free_turn()

    async def create(
        self, request: CreateRequest, *, model: str, turn: CreateReservation | None
    ) -> Prediction:
        self.created.append(request)
        return await self.get("made", model=model)

    async def get(self, prediction_id: str, *, model: str) -> Prediction:
        return Prediction(
            prediction_id,
            PredictionStatus.SUCCEEDED,
            output=["text"],
            metrics={"predict_time": 2},
        )

    async def cancel(self, prediction_id: str, *, model: str) -> Prediction | None:
        return None


class EndlessUpstream(AcceptingUpstream):
    """What it takes does not end. `admits`: it may be sent at once."""

    def __init__(self, *, admits: bool = True) -> None:
        super().__init__()
        self.admits = admits

    def try_admit(self, model: str = "") -> CreateReservation | None:
        return free_turn() if self.admits else None

    async def admit(self, model: str = "", *, again: bool = False) -> CreateReservation:
        """At once, but not in the accepting commit."""
        return free_turn()

    async def get(self, prediction_id: str, *, model: str) -> Prediction:
        return Prediction("made", PredictionStatus.PROCESSING)


class UnwillingStore(SqliteStore):
    """A store that takes no version of a record until it is told to; `asked` once it was."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.refuses = False
        self.refuses_as: Exception = StoreUnavailable("away", retry_after=1.0)
        self.block: asyncio.Event | None = None
        self.requested = asyncio.Event()

    def save(self, *args: Any, **more: Any) -> "asyncio.Future[int]":
        self.requested.set()
        if not self.refuses and self.block is None:
            return super().save(*args, **more)
        return asyncio.ensure_future(self._save(*args, **more))

    async def _save(self, *args: Any, **more: Any) -> int:
        if self.block:
            await self.block.wait()
            self.block = None
        if self.refuses:
            raise self.refuses_as
        return await super().save(*args, **more)


def engine_deps(store: SqliteStore, upstream: AcceptingUpstream) -> EngineDeps:
    """One account, whose creates are attempted anew by chance of a fixed seed."""
    return EngineDeps(store, upstream, upstream, NoKeeper())


def submission(number: int) -> Submission:
    """A call with a request_id of this number."""
    request_id = f"00000000-0000-4000-8000-{number:012}"
    return Submission("local", "GenerateText", request_id, "f", 60.0)


async def submit(
    generations: GenerationEngine, submission: Submission, plan: ExecutionPlan
) -> Attachment:
    """As the paid rpcs do it."""
    existing = await generations.find_existing(submission)
    return existing or await generations.submit(submission, plan)


def work() -> ExecutionPlan:
    """One text, from a model that is billed by its seconds."""
    return ExecutionPlan.of(
        Plan(
            modality=Modality.TEXT,
            requested_model="a/b",
            slug="a/b",
            target="a/b",
            input={"prompt": "p"},
            report=(),
            seed=None,
            streams=False,
            output=OutputShape(OutputKind.TEXT_CHUNKS, media_type="text/plain"),
            output_count=1,
            price=PRICE,
            estimate=Estimate(0, 1, 10**9),
            max_run=60,
        )
    )
