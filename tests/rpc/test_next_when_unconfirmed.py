"""NEXT: another model is sent while it is in doubt whether one was taken; both are in the cost."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import grpc
import pytest
from aiohttp import web
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import cost_pb2, generation_pb2, generations_pb2, image_pb2, options_pb2
from mediagate_sandbox.server import Sandbox
from mediagate_server.observability import metrics as telemetry
from tests.builders import image_request
from tests.grpc_errors import reason_of, rpc_error

from .generation_waits import QUICK, get_bill, inject_faults, wait_until
from .scripted_upstream import ID, ScriptedUpstream, hangs_up, says
from .stubs import OpenServer, Stubs

State = generation_pb2.Generation
Tried = generation_pb2.Attempt
NEXT = options_pb2.WHEN_UNCONFIRMED_NEXT
PERMITTED: dict[str, Any] = {
    **QUICK,
    "allow_next_when_unconfirmed": True,
    "absent_margin": 3.0,
    "sweep_seconds": 0.2,
}
DOLLAR = 10**9
CHAIN = ["black-forest-labs/flux-1.1-pro", "black-forest-labs/flux-dev", "stability-ai/sdxl"]
"""The first models of flux-pro's chain."""
NO_LIST = {"do": "error", "on": "list", "status": 500, "at": "request"}


def request(**more: Any) -> image_pb2.GenerateImageRequest:
    """A picture by flux-dev, of which sdxl is the next, for at most a dollar."""
    options: dict[str, Any] = {
        "model": "flux-dev",
        "max_cost_usd_nanos": DOLLAR,
        "when_unconfirmed": NEXT,
        **more,
    }
    return image_request(prompt="A cat", request_id=str(uuid4()), **options)


async def settled(stubs: Stubs, generation_id: str) -> generation_pb2.Generation:
    """The generation once none of its attempts is in doubt any more."""

    def is_settled(generation: generation_pb2.Generation) -> bool:
        return all(attempt.state != Tried.STATE_UNCONFIRMED for attempt in generation.attempts)

    return await wait_until(stubs.generations, generation_id, is_settled)


async def test_the_next_model_succeeds_and_the_first_is_absent(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Both holds stay until proof: the cost falls to what was billed."""
    await inject_faults(
        sandbox,
        {"do": "error", "on": "create", "status": 502, "at": "request", "times": 1},
    )
    async with open_server(sandbox.url, **PERMITTED) as (stubs, _):
        plan = (await stubs.image.GenerateImage(_planned())).plan
        done = (await stubs.image.GenerateImage(request())).generation
        assert done.state == State.STATE_SUCCEEDED
        first, second = done.attempts
        assert first.state == Tried.STATE_UNCONFIRMED
        assert second.state == Tried.STATE_SUCCEEDED
        assert done.model == second.model != first.model
        assert done.cost.state == cost_pb2.COST_STATE_ESTIMATED
        reserved_nanos = first.cost.usd_nanos + second.cost.usd_nanos
        assert done.cost.usd_nanos == reserved_nanos
        assert reserved_nanos <= plan.cost.maximum_usd_nanos <= DOLLAR
        end = await settled(stubs, done.id)
        assert end.state == State.STATE_SUCCEEDED
        assert end.attempts[0].state == Tried.STATE_ABSENT
        assert end.cost.usd_nanos == (await get_bill(sandbox))["total_nanos"]


def _planned() -> image_pb2.GenerateImageRequest:
    planned = request()
    planned.validate_only = True
    return planned


async def test_both_attempts_were_made_and_are_settled(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """The list is away: the next model answers; then the first is found, stopped and paid."""
    await inject_faults(sandbox, {"do": "lose_answer", "on": "create", "times": 1}, NO_LIST)
    image_call = request()
    image_call.prompt = "[[run_ms=1500]] A cat"
    async with open_server(sandbox.url, **PERMITTED) as (stubs, _):
        done = (await stubs.image.GenerateImage(image_call)).generation
        assert done.state == State.STATE_SUCCEEDED
        assert [attempt.state for attempt in done.attempts] == [
            Tried.STATE_UNCONFIRMED,
            Tried.STATE_SUCCEEDED,
        ]
        await inject_faults(sandbox)
        end = await settled(stubs, done.id)
        billed = await get_bill(sandbox)
        assert {attempt.prediction_id for attempt in end.attempts} == {
            entry["id"] for entry in billed["entries"]
        }
        assert end.cost.usd_nanos == billed["total_nanos"]
        assert end.images == done.images


@pytest.mark.parametrize("hangs", [True, False])
async def test_the_first_success_wins_for_either_attempt(
    sandbox: Sandbox, open_server: OpenServer, *, hangs: bool
) -> None:
    """Found while the second is sent, or runs, it is not stopped: that one is, and settled."""
    await inject_faults(
        sandbox,
        {"do": "lose_answer", "on": "create", "times": 1},
        {"do": "list_late", "on": "create", "ms": 600, "times": 1},
        *([{"do": "hang", "on": "create", "at": "answer", "after": 1}] if hangs else []),
    )
    image_call = request()
    image_call.prompt = "[[run_ms=900]] A cat"
    async with open_server(sandbox.url, **PERMITTED) as (stubs, _):
        done = (await stubs.image.GenerateImage(image_call)).generation
        end = await settled(stubs, done.id)
        billed = await get_bill(sandbox)
    assert done.state == end.state == State.STATE_SUCCEEDED
    assert len(end.attempts) == 2
    if hangs:
        assert end.model == end.attempts[0].model
        assert end.attempts[0].state == Tried.STATE_SUCCEEDED
    assert end.cost.usd_nanos == billed["total_nanos"]
    assert {attempt.prediction_id for attempt in end.attempts} == {
        entry["id"] for entry in billed["entries"]
    }


async def test_the_first_success_cancels_the_other_attempt(
    scripted_upstream: ScriptedUpstream, open_server: OpenServer
) -> None:
    """The first was taken, is found and would run on: nobody wants it any more, and it is paid."""
    first, followed = "first1", asyncio.Event()
    metrics = {"image_count": 1, "predict_time": 1.0}

    async def create(request: web.Request) -> web.StreamResponse:
        prediction_json = {
            "id": first,
            "status": "processing",
            "created_at": datetime.now(UTC).isoformat(),
        }
        scripted_upstream.listed = [
            {**prediction_json, "input": scripted_upstream.posted[0]["input"]}
        ]
        return await says({"id": ID, "status": "processing"}, 201)(request)

    async def get(request: web.Request) -> web.StreamResponse:
        if request.match_info["id"] == first:
            followed.set()
            status = "canceled" if scripted_upstream.cancelled.is_set() else "processing"
            return await says({"id": first, "status": status, "metrics": metrics})(request)
        status = "succeeded" if followed.is_set() else "processing"
        output = ["data:image/png;base64,iVBORw0KGgo="]
        prediction_json = {"id": ID, "status": status, "output": output, "metrics": metrics}
        return await says(prediction_json)(request)

    async def cancel(request: web.Request) -> web.StreamResponse:
        assert request.match_info["id"] == first
        scripted_upstream.cancelled.set()
        return await says({})(request)

    scripted_upstream.creates, scripted_upstream.gets, scripted_upstream.on_cancel = (
        [hangs_up(), create],
        [get],
        cancel,
    )
    scripted_upstream.listed = []
    async with open_server(scripted_upstream.url, **PERMITTED) as (stubs, _):
        done = (await stubs.image.GenerateImage(request())).generation
        end = await settled(stubs, done.id)
    assert done.state == end.state == State.STATE_SUCCEEDED
    assert [attempt.state for attempt in end.attempts] == [
        Tried.STATE_CANCELLED,
        Tried.STATE_SUCCEEDED,
    ]
    assert [attempt.cost.state for attempt in end.attempts] == [cost_pb2.COST_STATE_SETTLED] * 2
    assert end.cost.usd_nanos == sum(attempt.cost.usd_nanos for attempt in end.attempts)


async def test_waiting_is_the_default_and_next_requires_a_bound_and_permission(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Refused by the field's name, before anything is spent; without it nothing is sent twice."""
    unbound = request()
    unbound.options.ClearField("max_cost_usd_nanos")
    async with open_server(sandbox.url, **PERMITTED) as (stubs, _):
        error = await rpc_error(stubs.image.GenerateImage(unbound))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "options.when_unconfirmed" in str(error)
        await inject_faults(
            sandbox, {"do": "error", "on": "create", "status": 502, "at": "request", "times": 1}
        )
        waits = request(when_unconfirmed=options_pb2.WHEN_UNCONFIRMED_UNSPECIFIED)
        done = (await stubs.image.GenerateImage(waits)).generation
        assert done.attempts[0].state == Tried.STATE_ABSENT
    async with open_server(sandbox.url, **QUICK) as (stubs, _):
        error = await rpc_error(stubs.image.GenerateImage(request()))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert reason_of(error) == "SCOPE_MISSING"
        assert "options.when_unconfirmed" in (error.details() or "")
    assert len((await get_bill(sandbox))["entries"]) == 1


async def test_a_bound_for_one_model_means_waiting(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """The doubled cost does not fit: the next model is no part of the chain."""
    await inject_faults(
        sandbox, {"do": "error", "on": "create", "status": 502, "at": "request", "times": 1}
    )
    async with open_server(sandbox.url, **PERMITTED) as (stubs, _):
        image_call = _planned()
        image_call.options.fallback.mode = options_pb2.FallbackPolicy.MODE_NONE
        alone = (await stubs.image.GenerateImage(image_call)).plan.cost.maximum_usd_nanos
        bound = request(max_cost_usd_nanos=alone)
        done = (await stubs.image.GenerateImage(bound)).generation
    assert [attempt.state for attempt in done.attempts] == [
        Tried.STATE_ABSENT,
        Tried.STATE_SUCCEEDED,
    ]
    assert len({attempt.model for attempt in done.attempts}) == 1


@pytest.mark.parametrize("accepted", [False, True])
async def test_a_failed_second_attempt_is_not_retried(
    sandbox: Sandbox, open_server: OpenServer, *, accepted: bool
) -> None:
    """The bound is over each model once: after the first one's end it is the third one's turn."""
    lost = {"do": "lose_answer"} if accepted else {"do": "error", "status": 502, "at": "request"}
    first = {"on": "create", "model": CHAIN[0], "times": 1}
    await inject_faults(
        sandbox,
        {**lost, **first},
        {"do": "list_late", "ms": 1_000, **first},
        {"do": "fail", "error": "It broke.", **first},
        {"do": "fail", "on": "create", "model": CHAIN[1], "error": "It broke."},
    )
    async with open_server(sandbox.url, **PERMITTED) as (stubs, _):
        done = (await stubs.image.GenerateImage(request(model="flux-pro"))).generation
    assert done.state == State.STATE_SUCCEEDED
    assert [attempt.model for attempt in done.attempts] == CHAIN
    assert done.attempts[0].state == (Tried.STATE_FAILED if accepted else Tried.STATE_ABSENT)
    assert done.cost.usd_nanos == (await get_bill(sandbox))["total_nanos"]


@pytest.mark.parametrize("ends_by", ["a cancel", "its caller, who leaves"])
async def test_the_end_of_a_generation_cancels_its_first_attempt(
    sandbox: Sandbox, open_server: OpenServer, monkeypatch: pytest.MonkeyPatch, ends_by: str
) -> None:
    """Found, and running on, while the second is still in doubt: it is not waited for that."""
    first, second = ({"on": "create", "model": model} for model in CHAIN[:2])
    await inject_faults(
        sandbox,
        {"do": "lose_answer", **first},
        {"do": "list_late", "ms": 1_000, **first},
        {"do": "lose_answer", **second},
        {"do": "list_late", "ms": 3_600_000, **second},
    )
    image_call = request(model="flux-pro", disconnect_grace=Duration())
    image_call.prompt = "[[hang]] A cat"
    image_call.wait.FromSeconds(600)
    settings = {**PERMITTED, "absent_margin": 60.0}
    matched = asyncio.Event()
    monkeypatch.setattr(telemetry.attempts_matched.labels("list"), "inc", matched.set)
    async with open_server(sandbox.url, **settings) as (stubs, _):
        call = stubs.image.GenerateImage(image_call)
        await matched.wait()
        everything = generations_pb2.ListGenerationsRequest()
        (begun,) = (await stubs.generations.ListGenerations(everything)).generations
        if ends_by != "a cancel":
            call.cancel()
        else:
            await stubs.generations.CancelGeneration(
                generations_pb2.CancelGenerationRequest(id=begun.id)
            )
        generation = await wait_until(
            stubs.generations,
            begun.id,
            lambda it: it.attempts[0].state != Tried.STATE_UNCONFIRMED,
        )
    assert [attempt.state for attempt in generation.attempts] == [
        Tried.STATE_CANCELLED,
        Tried.STATE_UNCONFIRMED,
    ]
    (entry,) = (
        entry for entry in (await get_bill(sandbox))["entries"] if entry["model"] == CHAIN[0]
    )
    assert entry["id"] == generation.attempts[0].prediction_id
    assert entry["status"] == "canceled"
