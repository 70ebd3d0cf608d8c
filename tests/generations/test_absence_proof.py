"""When a create in doubt is proven absent, in virtual time: to the second, from its answer on."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from mediagate_server.catalog.request import MediaInput, Modality, ModelRequest
from mediagate_server.generations.engine import GenerationEngine
from mediagate_server.generations.execution.execution_plan import ExecutionPlan
from mediagate_server.generations.submission_request import Submission
from mediagate_server.store.records import AttemptState, Generation, State
from mediagate_server.structs import replace
from mediagate_server.upstream.port import (
    CreateRequest,
    CreateReservation,
    NoResponse,
    Prediction,
    PredictionPage,
    PredictionStatus,
)
from tests.catalog.builders import shipped_catalog
from tests.faults.simulation.simulated_store import DiskStore
from tests.faults.simulation.simulated_upstream import BEGIN
from tests.generations.engine_deps import submit
from tests.generations.engine_in_virtual_time import memory_store, run_in_virtual_time
from tests.generations.fake_upstream import UnexpectedCallUpstream, free_turn

CATALOG = shipped_catalog()
FRAME = MediaInput("https://example.com/a.png")
CHAINS: dict[str, tuple[ModelRequest, float]] = {
    "text": (ModelRequest(Modality.TEXT, "llama-405b", {"prompt": "x"}), 600.0),
    "image": (ModelRequest(Modality.IMAGE, "flux-pro", {"prompt": "x"}), 300.0),
    "video": (
        ModelRequest(Modality.VIDEO, "minimax-video", {"prompt": "x", "first_frame": FRAME}),
        1_800.0,
    ),
    "audio": (ModelRequest(Modality.AUDIO, "suno", {"prompt": "x", "kind": "music"}), 300.0),
}
"""The brief's chains, with the timeouts that a request has which names none."""

ANSWERS: dict[str, tuple[float, bool, float]] = {
    "500": (0.2, True, 20.2),
    "a slow 503": (25.0, True, 45.0),
    "504": (29.0, False, 91.0),
    "reset": (0.1, False, 91.0),
    "lost": (30.0, False, 91.0),
}
"""After how many seconds it comes, whether the API wrote it, and how long the doubt lasts."""


class LosingUpstream(UnexpectedCallUpstream):
    """Its API fails for the first creates and takes the next; lists show `listed`."""

    def __init__(self, failures: int, answer: tuple[float, bool, float]) -> None:
        self.failures = failures
        self.after, self.by_api, _ = answer
        self.created: list[float] = []
        self.lists: list[float] = []
        self.unread = False

    def try_admit(self, model: str = "") -> CreateReservation | None:
        return free_turn()

    async def admit(self, *_: Any, **__: Any) -> CreateReservation:
        return free_turn()

    async def create(
        self, request: CreateRequest, *, model: str, turn: CreateReservation | None
    ) -> Prediction:
        self.created.append(asyncio.get_running_loop().time())
        if len(self.created) <= self.failures:
            await asyncio.sleep(self.after)
            raise NoResponse("no", api_error=self.by_api)
        return Prediction(
            f"p{len(self.created)}",
            PredictionStatus.SUCCEEDED,
            output=["https://files.example/a.bin"],
            metrics={"predict_time": 1},
            created_at=BEGIN + timedelta(seconds=self.created[-1]),
        )

    async def list_predictions(
        self,
        *,
        cursor: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> PredictionPage:
        self.lists.append(asyncio.get_running_loop().time())
        if self.unread:
            raise NoResponse("no list")
        return PredictionPage((), None)


async def ended(upstream: LosingUpstream, kind: str) -> Generation:
    """The generation that this kind of request makes, at its end."""
    return (await all_ended(upstream, kind, 0.0))[0]


async def all_ended(upstream: LosingUpstream, kind: str, *starts: float) -> list[Generation]:
    """The same of equal requests that come so many seconds from now."""
    request, seconds = CHAINS[kind]
    plans = CATALOG.plan_with_fallbacks(request).plans  # Once: they have a seed that is drawn.
    async with (
        memory_store(DiskStore, upstream) as (_, deps),
        GenerationEngine(deps, max_in_flight=lambda _: 0) as generations,
    ):

        async def run_one(start: float) -> Generation:
            await asyncio.sleep(start)
            submission = Submission("local", "Generate", f"r{start}", "f", seconds)
            async with await submit(
                generations, submission, ExecutionPlan.of(*plans)
            ) as attachment:
                return await attachment.wait(None)

        return await asyncio.gather(*map(run_one, starts))


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("kind", CHAINS)
def test_every_fallback_chain_reaches_its_last_model_in_time(kind: str, answer: str) -> None:
    """With every wait as it really is; each model is sent to once."""
    plans = CATALOG.plan_with_fallbacks(CHAINS[kind][0]).plans
    upstream = LosingUpstream(len(plans) - 1, ANSWERS[answer])
    done = run_in_virtual_time(ended(upstream, kind))
    assert [attempt.model for attempt in done.attempts] == [plan.slug for plan in plans]
    assert done.state is State.SUCCEEDED
    assert {attempt.state for attempt in done.attempts[:-1]} == {AttemptState.ABSENT}
    for before, after in pairwise(upstream.created):
        assert ANSWERS[answer][2] <= after - before < ANSWERS[answer][2] + 1.0


@pytest.mark.parametrize("readable_for", [0, 2])
def test_an_unreadable_list_proves_nothing_and_is_not_polled_faster(
    readable_for: int,
) -> None:
    """The doubt lasts until the list is there again; meanwhile it is asked for twice a minute."""
    upstream = LosingUpstream(1, ANSWERS["500"])

    async def heal() -> Generation:
        upstream.unread = not readable_for
        making = asyncio.create_task(ended(upstream, "video"))
        await asyncio.sleep(readable_for)
        upstream.unread = True
        await asyncio.sleep(600 - readable_for)
        assert len(upstream.created) == 1
        assert len(upstream.lists) < 40
        upstream.unread = False
        return await making

    done = run_in_virtual_time(heal())
    assert done.state is State.SUCCEEDED
    assert 600 < upstream.created[1] < 635


class OneOfTwo(LosingUpstream):
    """Its API fails for one create; the answer to the next is lost, and the list shows it late."""

    async def create(
        self, request: CreateRequest, *, model: str, turn: CreateReservation | None
    ) -> Prediction:
        prediction = await super().create(request, model=model, turn=turn)
        if len(self.created) != 2:
            return prediction
        self.late_prediction = replace(
            prediction, id="late", model=request.target, input=request.input
        )
        raise NoResponse("reset")

    async def get(self, prediction_id: str, *, model: str) -> Prediction:
        return self.late_prediction

    async def list_predictions(self, **filters: Any) -> PredictionPage:
        page = await super().list_predictions(**filters)
        return PredictionPage((self.late_prediction,), None) if self.lists[-1] > 10 else page


def test_possibly_swapped_predictions_need_two_late_lists() -> None:
    """The one that is listed may be the one that failed: the other may be to come, until 95 s."""
    upstream = OneOfTwo(1, ANSWERS["500"])
    run_in_virtual_time(all_ended(upstream, "image", 0.0, 5.0))
    late = [at for at in upstream.lists if at >= 95]
    assert len(late) == 2
    assert upstream.created[2] > late[1]
