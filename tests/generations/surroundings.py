"""What a test of generations runs them in: a store, an upstream that takes all, a small plan."""

import asyncio
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

from mediagate_server.catalog.plan import OutputKind, OutputShape, Plan
from mediagate_server.catalog.prices import Estimate, PriceSchedule, Rate, Tier
from mediagate_server.catalog.request import Modality
from mediagate_server.errors import StoreUnavailable
from mediagate_server.generations.doors import Surroundings
from mediagate_server.generations.submission import Submission
from mediagate_server.generations.work import Work
from mediagate_server.interceptors.outbound.create_policy import CreatePolicy
from mediagate_server.interceptors.outbound.turn import Turn
from mediagate_server.replicate.port import CreateRequest, Prediction, PredictionStatus
from mediagate_server.store.sqlite import SqliteStore
from tests.generations.no_keeper import NoKeeper
from tests.generations.upstreams import NoUpstream, free_turn

PRICE = PriceSchedule((Tier((Rate(("predict_time",), Decimal("0.001"), 1),)),), "2026", "a test")


class Upstream(NoUpstream):
    """Takes everything and runs it for two seconds."""

    def __init__(self) -> None:
        self.created: list[CreateRequest] = []

    def try_admit(self, model: str) -> Turn | None:
        return free_turn()

    async def create(self, request: CreateRequest, *, model: str, turn: Turn | None) -> Prediction:
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


class Endless(Upstream):
    """What it takes does not end. `admits`: it may be sent at once."""

    def __init__(self, *, admits: bool = True) -> None:
        super().__init__()
        self.admits = admits

    def try_admit(self, model: str) -> Turn | None:
        return free_turn() if self.admits else None

    async def admit(self, model: str, *, again: bool = False) -> Turn:
        """At once, but not in the accepting commit."""
        return free_turn()

    async def get(self, prediction_id: str, *, model: str) -> Prediction:
        return Prediction("made", PredictionStatus.PROCESSING)


class Unwilling(SqliteStore):
    """A store that takes no version of a record until it is told to; `asked` once it was."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.refuses = False
        self.refuses_as: Exception = StoreUnavailable("away", retry_after=1.0)
        self.held: asyncio.Event | None = None
        self.asked = asyncio.Event()

    def save(self, *args: Any, **more: Any) -> "asyncio.Future[int]":
        self.asked.set()
        if not self.refuses and self.held is None:
            return super().save(*args, **more)
        return asyncio.ensure_future(self._save(*args, **more))

    async def _save(self, *args: Any, **more: Any) -> int:
        if self.held:
            await self.held.wait()
            self.held = None
        if self.refuses:
            raise self.refuses_as
        return await super().save(*args, **more)


def around(store: SqliteStore, upstream: Upstream) -> Surroundings:
    """One account, whose creates are attempted anew by chance of a fixed seed."""
    return Surroundings(store, upstream, CreatePolicy(Random(1)), NoKeeper())


def submission(number: int) -> Submission:
    """A call with a request_id of this number."""
    request_id = f"00000000-0000-4000-8000-{number:012}"
    return Submission("local", "GenerateText", request_id, "f", 60.0)


async def work() -> Work:
    """One text, from a model that is billed by its seconds."""
    return Work.of(
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
