"""Stand-ins, choices by quality and inputs of a model's own, through the wire."""

from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct

from mediagate.v1 import generation_pb2, image_pb2, modality_pb2, models_pb2, options_pb2
from mediagate_server.observability import metrics
from tests.builders import image_request, stream_text_request, text_request, video_request
from tests.grpc_errors import reason_of, rpc_error

from .stubs import OpenServer, Stubs


def own(**inputs: Any) -> Struct:
    """Inputs of a model's own."""
    struct = Struct()
    struct.update(inputs)
    return struct


async def test_a_substituted_model_is_reported_on_every_call(sandbox_stubs: Stubs) -> None:
    """In the generation, at the start of a stream, in a plan; and its name is in the catalog."""
    options = options_pb2.GenerationOptions(model="mistral-large")
    request = text_request(prompt="Hi", options=options)
    generation = (await sandbox_stubs.text.GenerateText(request)).generation
    assert generation.state == generation_pb2.Generation.STATE_SUCCEEDED
    assert (generation.requested_model, generation.model) == ("mistral-large", "openai/gpt-4.1")
    assert generation.substitution.requested_model == "mistral-large"
    assert "Mistral" in generation.substitution.reason
    stream = sandbox_stubs.text.StreamText(stream_text_request(prompt="Hi", options=options))
    started = [event.started async for event in stream if event.WhichOneof("event") == "started"]
    assert [each.substitution for each in started] == [generation.substitution]
    request.validate_only = True
    planned = (await sandbox_stubs.text.GenerateText(request)).plan
    assert planned.substitution == generation.substitution
    response = await sandbox_stubs.models.GetModel(
        models_pb2.GetModelRequest(model="Mistral-Large")
    )
    assert response.model.slug == "openai/gpt-4.1"
    names = {stand_in.name: stand_in.reason for stand_in in response.model.stands_in_for}
    assert names["mistral-large"] == generation.substitution.reason


@pytest.mark.parametrize(
    "options",
    [
        options_pb2.GenerationOptions(allow_substitutes=False),
        options_pb2.GenerationOptions(parameter_mode=options_pb2.PARAMETER_MODE_STRICT),
    ],
    ids=["no substitutes", "strict"],
)
async def test_without_substitution_a_retired_model_is_refused(
    sandbox_stubs: Stubs, options: options_pb2.GenerationOptions
) -> None:
    """With the reason and the successor's slug."""
    request_options = options_pb2.GenerationOptions(model="llama-405b")
    request_options.MergeFrom(options)
    error = await rpc_error(
        sandbox_stubs.text.GenerateText(text_request(prompt="Hi", options=request_options))
    )
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(error) == "MODEL_RETIRED"
    assert "meta/llama-4-maverick-instruct" in str(error.trailing_metadata())


async def test_the_cheapest_model_of_a_quality_is_chosen_and_reported(sandbox_stubs: Stubs) -> None:
    """What would have run otherwise, and for how much; the run costs what was said."""
    request = video_request(prompt="A boat", quality=modality_pb2.QUALITY_STANDARD)
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
    generation = (await sandbox_stubs.video.GenerateVideo(request)).generation
    assert (generation.model, generation.requested_model) == (plan.model, "")
    assert generation.choice == plan.choice
    assert generation.cost.usd_nanos == plan.cost.expected_usd_nanos


async def test_no_model_fits(sandbox_stubs: Stubs) -> None:
    """Under strict parameters nobody takes a seed for a text."""
    error = await rpc_error(
        sandbox_stubs.text.GenerateText(
            text_request(
                prompt="Hi",
                seed=1,
                quality=modality_pb2.QUALITY_PREMIUM,
                parameter_mode=options_pb2.PARAMETER_MODE_STRICT,
            )
        )
    )
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(error) == "NO_MODEL_FITS"


async def test_the_operators_default_model_is_chosen(open_server: OpenServer, sandbox: Any) -> None:
    """His default runs where a call names nobody, whatever it may cost; else what fits is taken."""
    plain = image_request(prompt="x", aspect_ratio="16:9", validate_only=True)
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
        error = await rpc_error(stubs.image.GenerateImage(bounded))
        assert reason_of(error) == "MAX_COST_EXCEEDED"
    async with open_server(sandbox.base_url, default_image_model="flux-dev") as (stubs, _):
        answer = (await stubs.image.GenerateImage(plain)).plan
        assert answer.model == dev
        assert not answer.HasField("choice")
        for request in (economy, bounded):
            answer = (await stubs.image.GenerateImage(request)).plan
            assert answer.model == schnell
            assert answer.choice.alternatives


async def test_model_specific_inputs(sandbox_stubs: Stubs) -> None:
    """Sent as whole numbers where they are, told in the report; what is wrong is named."""
    options = options_pb2.GenerationOptions(
        model="flux-dev", model_parameters=own(output_quality=55, go_fast=False)
    )
    request = image_request(prompt="x", options=options)
    generation = (await sandbox_stubs.image.GenerateImage(request)).generation
    assert generation.state == generation_pb2.Generation.STATE_SUCCEEDED
    lines = {line.parameter: line.sent for line in generation.parameters}
    assert lines["options.model_parameters.output_quality"] == "55"
    assert lines["options.model_parameters.go_fast"] == "false"
    options.model_parameters.Clear()
    options.model_parameters.update({"output_quality": 101})
    error = await rpc_error(
        sandbox_stubs.image.GenerateImage(image_request(prompt="x", options=options))
    )
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "options.model_parameters.output_quality" in str(error.details())


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
