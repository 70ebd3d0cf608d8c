"""What every model is said to cost, what it cost and what is billed: three accounts, one sum."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from mediagate.v1 import (
    audio_pb2_grpc,
    cost_pb2,
    generation_pb2,
    image_pb2_grpc,
    models_pb2_grpc,
    safety_pb2_grpc,
    text_pb2_grpc,
    video_pb2_grpc,
)
from mediagate_server.catalog.models.model import Model, ModelStatus
from mediagate_server.catalog.request import Modality
from tests.catalog.builders import shipped_catalog
from tests.sandbox_process import AT_ONCE, UNLIMITED, running_sandbox
from tests.server_process import running_server

from .priced_requests import Call, calls
from .test_bill_matches_ledger import ABOVE_THE_LOAD

TOGETHER = 24
MODELS = [model for model in shipped_catalog().models() if model.status is ModelStatus.LIVE]


@dataclass(frozen=True, slots=True)
class PaidCall:
    """One call, what it was said to cost, and what became of it."""

    call: Call
    estimate: cost_pb2.CostEstimate
    generation: generation_pb2.Generation


class PricedCallers:
    """All the stubs that a call may need."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._models: Any = models_pb2_grpc.ModelServiceStub(channel)
        self._ways: dict[Modality, Any] = {
            Modality.TEXT: text_pb2_grpc.TextServiceStub(channel).GenerateText,
            Modality.IMAGE: image_pb2_grpc.ImageServiceStub(channel).GenerateImage,
            Modality.VIDEO: video_pb2_grpc.VideoServiceStub(channel).GenerateVideo,
            Modality.AUDIO: audio_pb2_grpc.AudioServiceStub(channel).GenerateAudio,
            Modality.SAFETY: safety_pb2_grpc.SafetyServiceStub(channel).CheckSafety,
        }
        self._room = asyncio.Semaphore(TOGETHER)

    async def pay(self, call: Call) -> PaidCall:
        """Ask what it costs, then have it made."""
        async with self._room:
            estimate = (await self._models.EstimateCost(call.estimated)).plan.cost
            generation = (await self._ways[call.modality](call.request)).generation
        return PaidCall(call, estimate, generation)


def wrong(paid_call: PaidCall, billed: dict[str, Any]) -> str:
    """What does not agree; empty where all of it does."""
    generation, estimate = paid_call.generation, paid_call.estimate
    if generation.state != generation_pb2.Generation.STATE_SUCCEEDED:
        return f"ended {generation.state}: {generation.error.message}"
    [attempt] = generation.attempts
    entry = billed[attempt.prediction_id]
    cost = generation.cost
    if cost.state == cost_pb2.COST_STATE_ASSUMED:
        # A guess for want of a list price, so that nobody bills it.
        return "" if entry["nanos"] is None else "assumed, though it has a price"
    if cost.state == cost_pb2.COST_STATE_UNKNOWN:
        has_amount = cost.HasField("usd_nanos") or estimate.HasField("maximum_usd_nanos")
        return "unknown, with an amount" if has_amount or entry["nanos"] is not None else ""
    if cost.state != cost_pb2.COST_STATE_SETTLED or entry["unmetered"]:
        return f"settled as {cost.state}, not metered {entry['unmetered']}"
    if cost.usd_nanos != entry["nanos"]:
        return f"costs {cost.usd_nanos}, billed {entry['nanos']} for {entry['metrics']}"
    if not estimate.HasField("maximum_usd_nanos"):
        return ""
    if not estimate.low_usd_nanos <= cost.usd_nanos <= estimate.maximum_usd_nanos:
        return f"costs {cost.usd_nanos}, outside of its estimate {estimate}"
    return ""


def is_exact(estimate: cost_pb2.CostEstimate) -> bool:
    """Whether the request alone says what it costs."""
    return (
        estimate.HasField("maximum_usd_nanos")
        and estimate.low_usd_nanos == estimate.maximum_usd_nanos
    )


def priced(model: Model, *metrics: str) -> bool:
    """Whether it is priced by one of these alone."""
    rates = {rate.metrics[0] for tier in model.price.tiers for rate in tier.rates}
    return bool(rates) and rates <= set(metrics)


async def test_every_model_is_settled_within_its_estimate_and_as_billed(tmp_path: Path) -> None:
    """Equal to the nano-dollar where the request says what is used, else between the bounds."""
    all_calls = [call for model in MODELS for call in calls(model)]
    alone = {**ABOVE_THE_LOAD, "MEDIAGATE_USE_FALLBACK": "false"}
    with (
        running_sandbox(tmp_path, *AT_ONCE, *UNLIMITED) as sandbox,
        running_server(tmp_path, **alone, MEDIAGATE_UPSTREAM_URL=sandbox.url) as server,
    ):
        async with grpc.aio.insecure_channel(server.address) as channel:
            callers = PricedCallers(channel)
            paid_calls = await asyncio.gather(*(callers.pay(call) for call in all_calls))
        bill = sandbox.bill()
    billed = {entry["id"]: entry for entry in bill["entries"]}
    assert len(billed) == len(paid_calls)
    differences = {
        (each.call.model, str(each.call.request)): wrong(each, billed) for each in paid_calls
    }
    assert {call: words for call, words in differences.items() if words} == {}
    unknown = {
        each.call.model
        for each in paid_calls
        if each.generation.cost.state == cost_pb2.COST_STATE_UNKNOWN
    }
    assert unknown <= {each.slug for each in MODELS if each.price.partial or not each.price.tiers}
    exact = {each.call.model for each in paid_calls if is_exact(each.estimate)}
    for model in MODELS:
        by_the_piece = priced(model, "image_output_count", "video_output_count")
        if by_the_piece or priced(model, "audio_output_count"):
            assert model.slug in exact, model.slug
    print(
        f"{len(paid_calls)} calls of {len(MODELS)} models; of {len(exact)} the estimate was exact"
    )
