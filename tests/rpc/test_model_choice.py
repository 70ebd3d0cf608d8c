"""Stand-ins, choices by quality and inputs of a model's own, through the wire."""

from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct

from mediagate.v1 import (
    generation_pb2,
    image_pb2,
    modality_pb2,
    models_pb2,
    options_pb2,
    text_pb2,
    video_pb2,
)
from mediagate_server.observability import metrics

from .grpc_errors import reason_of
from .stubs import OpenServer, Stubs


def own(**inputs: Any) -> Struct:
    """Inputs of a model's own."""
    made = Struct()
    made.update(inputs)
    return made


async def test_a_stand_in_is_told_on_every_call(sandbox_stubs: Stubs) -> None:
    """In the generation, at the start of a stream, in a plan; and its name is in the catalog."""
    options = options_pb2.GenerationOptions(model="mistral-large")
    request = text_pb2.GenerateTextRequest(prompt="Hi", options=options)
    made = (await sandbox_stubs.text.GenerateText(request)).generation
    assert made.state == generation_pb2.Generation.STATE_SUCCEEDED
    assert (made.requested_model, made.model) == ("mistral-large", "openai/gpt-4.1")
    assert made.substitution.requested_model == "mistral-large"
    assert "Mistral" in made.substitution.reason
    stream = sandbox_stubs.text.StreamText(text_pb2.StreamTextRequest(prompt="Hi", options=options))
    started = [event.started async for event in stream if event.WhichOneof("event") == "started"]
    assert [each.substitution for each in started] == [made.substitution]
    request.validate_only = True
    planned = (await sandbox_stubs.text.GenerateText(request)).plan
    assert planned.substitution == made.substitution
    shown = await sandbox_stubs.models.GetModel(models_pb2.GetModelRequest(model="Mistral-Large"))
    assert shown.model.slug == "openai/gpt-4.1"
    names = {stand_in.name: stand_in.reason for stand_in in shown.model.stands_in_for}
    assert names["mistral-large"] == made.substitution.reason


@pytest.mark.parametrize(
    "options",
    [
        options_pb2.GenerationOptions(allow_substitutes=False),
        options_pb2.GenerationOptions(parameter_mode=options_pb2.PARAMETER_MODE_STRICT),
    ],
    ids=["no substitutes", "strict"],
)
async def test_where_none_may_stand_in_the_call_is_refused(
    sandbox_stubs: Stubs, options: options_pb2.GenerationOptions
) -> None:
    """With the reason and the successor's slug."""
    asked = options_pb2.GenerationOptions(model="llama-405b")
    asked.MergeFrom(options)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await sandbox_stubs.text.GenerateText(
            text_pb2.GenerateTextRequest(prompt="Hi", options=asked)
        )
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(refused.value) == "MODEL_RETIRED"
    assert "meta/llama-4-maverick-instruct" in str(refused.value.trailing_metadata())


async def test_the_cheapest_of_a_quality_with_its_receipt(sandbox_stubs: Stubs) -> None:
    """What would have run otherwise, and for how much; the run costs what was said."""
    options = options_pb2.GenerationOptions(quality=modality_pb2.QUALITY_STANDARD)
    request = video_pb2.GenerateVideoRequest(prompt="A boat", options=options)
    estimate = await sandbox_stubs.models.EstimateCost(
        models_pb2.EstimateCostRequest(video=request)
    )
    plan = estimate.plan
    assert plan.choice.reason.startswith("the cheapest of quality standard")
    others = {other.model: other for other in plan.choice.alternatives}
    assert others["minimax/video-01"].cost.expected_usd_nanos == 500_000_000
    assert others["minimax/video-01"].reason == "costs more"
    priced = [other.cost for other in others.values() if other.cost.HasField("expected_usd_nanos")]
    assert all(cost.expected_usd_nanos >= plan.cost.expected_usd_nanos for cost in priced)
    request.wait.seconds = 60
    made = (await sandbox_stubs.video.GenerateVideo(request)).generation
    assert (made.model, made.requested_model) == (plan.model, "")
    assert made.choice == plan.choice
    assert made.cost.usd_nanos == plan.cost.expected_usd_nanos


async def test_no_model_fits(sandbox_stubs: Stubs) -> None:
    """Under strict parameters nobody takes a seed for a text."""
    options = options_pb2.GenerationOptions(
        quality=modality_pb2.QUALITY_PREMIUM, parameter_mode=options_pb2.PARAMETER_MODE_STRICT
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await sandbox_stubs.text.GenerateText(
            text_pb2.GenerateTextRequest(prompt="Hi", seed=1, options=options)
        )
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(refused.value) == "NO_MODEL_FITS"


async def test_the_operator_may_not_want_the_cheapest(
    open_server: OpenServer, sandbox: Any
) -> None:
    """His default runs where a call names nobody, whatever it may cost; else what fits is taken."""
    plain = image_pb2.GenerateImageRequest(prompt="x", aspect_ratio="16:9", validate_only=True)
    economy = image_pb2.GenerateImageRequest()
    economy.CopyFrom(plain)
    economy.options.quality = modality_pb2.QUALITY_ECONOMY
    bounded = image_pb2.GenerateImageRequest()
    bounded.CopyFrom(plain)
    bounded.options.max_cost_usd_nanos = 10_000_000
    bounded.options.fallback.mode = options_pb2.FallbackPolicy.MODE_NONE
    dev, schnell = "black-forest-labs/flux-dev", "black-forest-labs/flux-schnell"
    async with open_server(
        sandbox.base_url, default_image_model="flux-dev", enable_cost_optimization=False
    ) as (stubs, _):
        for request in (plain, economy):
            assert (await stubs.image.GenerateImage(request)).plan.model == dev
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stubs.image.GenerateImage(bounded)
        assert reason_of(refused.value) == "MAX_COST_EXCEEDED"
    async with open_server(sandbox.base_url, default_image_model="flux-dev") as (stubs, _):
        answer = (await stubs.image.GenerateImage(plain)).plan
        assert answer.model == dev
        assert not answer.HasField("choice")
        for request in (economy, bounded):
            answer = (await stubs.image.GenerateImage(request)).plan
            assert answer.model == schnell
            assert answer.choice.alternatives


async def test_inputs_of_a_models_own(sandbox_stubs: Stubs) -> None:
    """Sent as whole numbers where they are, told in the report; what is wrong is named."""
    options = options_pb2.GenerationOptions(
        model="flux-dev", model_parameters=own(output_quality=55, go_fast=False)
    )
    request = image_pb2.GenerateImageRequest(prompt="x", options=options)
    made = (await sandbox_stubs.image.GenerateImage(request)).generation
    assert made.state == generation_pb2.Generation.STATE_SUCCEEDED
    lines = {line.parameter: line.sent for line in made.parameters}
    assert lines["options.model_parameters.output_quality"] == "55"
    assert lines["options.model_parameters.go_fast"] == "false"
    options.model_parameters.Clear()
    options.model_parameters.update({"output_quality": 101})
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await sandbox_stubs.image.GenerateImage(
            image_pb2.GenerateImageRequest(prompt="x", options=options)
        )
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "options.model_parameters.output_quality" in str(refused.value.details())


async def test_old_and_unknown_prices_are_counted(sandbox_stubs: Stubs) -> None:
    """In the metrics, as of now: an operator is warned without asking."""
    listed = await sandbox_stubs.models.ListModels(models_pb2.ListModelsRequest(page_size=1_000))
    live = [model for model in listed.models if model.status == models_pb2.Model.STATUS_LIVE]
    unknown = sum(not model.price.tiers for model in live)
    registry = metrics.REGISTRY
    assert registry.get_sample_value("mediagate_catalog_unknown_prices") == unknown
    old = registry.get_sample_value("mediagate_catalog_old_prices")
    assert old is not None
    assert 0 < old <= len(live) - unknown
