"""Prices that nobody publishes are assumed: they bound calls and budgets, and settle as ASSUMED."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import (
    audio_pb2,
    cost_pb2,
    generation_pb2,
    medium_pb2,
    modality_pb2,
    models_pb2,
    options_pb2,
    safety_pb2,
)
from mediagate_sandbox.server import Sandbox
from mediagate_server.catalog.models.model import Model, ModelStatus
from mediagate_server.catalog.request import Modality
from mediagate_server.config.tenants import Budget
from tests.builders import audio_request
from tests.catalog.builders import shipped_catalog
from tests.grpc_errors import reason_of, rpc_error
from tests.sandbox_process import INSTANT

from .stubs import OpenServer, Stubs
from .tenant_keys import channel_of, tenant
from .test_input_completeness import KINDS

ASSUMED = [
    model
    for model in shipped_catalog().models()
    if model.price.assumed and model.status is ModelStatus.LIVE
]


def call_of(model: Model, **options: Any) -> tuple[str, str, Any]:
    """Its kind, its rpc, and a request that it takes."""
    alone = options_pb2.FallbackPolicy(mode=options_pb2.FallbackPolicy.MODE_NONE)
    alone_options = options_pb2.GenerationOptions(model=model.slug, fallback=alone, **options)
    if model.modality is Modality.SAFETY:
        request = safety_pb2.CheckSafetyRequest(content="Hello", options=alone_options)
        return "safety", "CheckSafety", request
    kind = model.modality.value
    request_class, method, _ = KINDS[kind]
    parameters: dict[str, Any] = {}
    if "text" in model.map:
        parameters["text"] = "Good evening"
    elif model.chat or "prompt" in model.map:
        parameters["prompt"] = "a slow waltz"
    for field in ("first_frame", "source_video"):
        if field in model.map:
            parameters[field] = medium_pb2.MediaInput(uri="https://example.com/a.png")
    if kind != "text":
        parameters["wait"] = Duration(seconds=60)
    return kind, method, request_class(**parameters, options=alone_options)


def test_some_models_have_assumed_prices() -> None:
    """The default model of sounds among them; and of what can be called none has no price."""
    assert "meta/musicgen" in [model.slug for model in ASSUMED]
    live = [model for model in shipped_catalog().models() if model.status is ModelStatus.LIVE]
    assert [model.slug for model in live if not model.price.tiers] == []
    assert all("assumed" in model.price.source for model in ASSUMED)


async def test_assumed_prices_are_estimated_reserved_and_settled(open_server: OpenServer) -> None:
    """Told in the estimate, enough for a bound, and what it settles is no more than was held."""
    async with Sandbox(INSTANT) as sandbox, open_server(sandbox.url) as (stubs, _):
        for model in ASSUMED:
            kind, method, request = call_of(model)
            estimate_request = models_pb2.EstimateCostRequest(**{kind: request})
            cost = (await stubs.models.EstimateCost(estimate_request)).plan.cost
            assert cost.state == cost_pb2.COST_STATE_ASSUMED, model.slug
            assert "assumed" in cost.price_source
            assert 0 <= cost.low_usd_nanos <= cost.expected_usd_nanos <= cost.maximum_usd_nanos
            request.options.max_cost_usd_nanos = cost.maximum_usd_nanos
            answer = await getattr(getattr(stubs, kind), method)(request)
            generation: generation_pb2.Generation = answer.generation
            assert generation.state == generation_pb2.Generation.STATE_SUCCEEDED, (
                model.slug,
                generation.error,
            )
            assert generation.cost.state == cost_pb2.COST_STATE_ASSUMED, (
                model.slug,
                generation.cost,
            )
            assert cost.low_usd_nanos <= generation.cost.usd_nanos <= cost.maximum_usd_nanos
            request.options.max_cost_usd_nanos = cost.maximum_usd_nanos - 1
            error = await rpc_error(getattr(getattr(stubs, kind), method)(request))
            assert reason_of(error) == "MAX_COST_EXCEEDED"
            response = await stubs.models.GetModel(models_pb2.GetModelRequest(model=model.slug))
            assert response.model.price.assumed
            assert response.model.price.source == cost.price_source


async def test_a_listed_price_is_not_assumed(sandbox_stubs: Stubs) -> None:
    """The estimate says so; a fallback or a check whose price is assumed makes it one."""
    kind, _, request = call_of(shipped_catalog().find(Modality.IMAGE, "flux-pro"))
    estimate_request = models_pb2.EstimateCostRequest(**{kind: request})
    assert (await sandbox_stubs.models.EstimateCost(estimate_request)).plan.cost.state == (
        cost_pb2.COST_STATE_ESTIMATED
    )
    estimate_request.image.options.screen_prompt = True
    assert (await sandbox_stubs.models.EstimateCost(estimate_request)).plan.cost.state == (
        cost_pb2.COST_STATE_ASSUMED
    )


async def test_assumed_prices_can_be_disabled(sandbox: Sandbox, open_server: OpenServer) -> None:
    """For all, or for one tenant: then what has a bound is refused, and the rest costs UNKNOWN."""
    song = audio_request(prompt="rain", model="musicgen")
    bounded = audio_pb2.GenerateAudioRequest()
    bounded.CopyFrom(song)
    bounded.options.max_cost_usd_nanos = 10**9
    tenants = (
        tenant("plain"),
        tenant("trusting", allow_assumed_prices=True),
        tenant("saving", budgets=(Budget(name="b", period="month", limit_usd=10),)),  # type: ignore[arg-type]
    )
    for for_all in (True, False):
        settings = {"tenants": tenants, "allow_assumed_prices": for_all}
        async with open_server(sandbox.url, **settings) as (_, server):
            answers = {}
            for each in tenants:
                async with channel_of(server.grpc_address, each.id) as channel:
                    audio = Stubs.on(channel).audio
                    if for_all or each.id == "trusting":
                        generation = (await audio.GenerateAudio(bounded)).generation
                        answers[each.id] = generation.cost.state
                    elif each.id == "plain":
                        assert (
                            reason_of(await rpc_error(audio.GenerateAudio(bounded)))
                            == "PRICE_UNKNOWN"
                        )
                        generation = (await audio.GenerateAudio(song)).generation
                        assert generation.cost.state == cost_pb2.COST_STATE_UNKNOWN
                    else:
                        assert (
                            reason_of(await rpc_error(audio.GenerateAudio(song))) == "PRICE_UNKNOWN"
                        )
            assert set(answers.values()) == {cost_pb2.COST_STATE_ASSUMED}


@pytest.mark.parametrize("quality", ["ECONOMY", "STANDARD", "PREMIUM"])
async def test_audio_has_a_default_model_of_each_quality(
    sandbox_stubs: Stubs, quality: str
) -> None:
    """And its cost is known before."""
    quality_value = modality_pb2.Quality.Value(f"QUALITY_{quality}")
    plan = (
        await sandbox_stubs.audio.GenerateAudio(
            audio_request(prompt="a waltz", validate_only=True, quality=quality_value)
        )
    ).plan
    assert plan.model
    assert plan.cost.HasField("maximum_usd_nanos")
