"""EstimateCost through the whole server: what would be run and what it would cost, for nothing."""

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import (
    cost_pb2,
    generations_pb2,
    image_pb2,
    models_pb2,
    options_pb2,
    safety_pb2,
    text_pb2,
)
from tests.builders import audio_request, image_request, text_request, video_request
from tests.grpc_errors import fields_of, reason_of, rpc_error

from .scripted_upstream import ScriptedUpstream
from .stubs import Stubs

Estimate = models_pb2.EstimateCostRequest
Options = options_pb2.GenerationOptions
TEXT = text_pb2.GenerateTextRequest
IMAGE = image_pb2.GenerateImageRequest


def check_cost(cost: cost_pb2.CostEstimate) -> None:
    """Dated and in order; the most is unknown where that of one that may take over is."""
    if not cost.HasField("low_usd_nanos"):
        assert not cost.ListFields()
        return
    assert cost.price_date
    if not cost.HasField("maximum_usd_nanos"):
        assert 0 <= cost.low_usd_nanos <= cost.expected_usd_nanos
        return
    assert 0 <= cost.low_usd_nanos <= cost.expected_usd_nanos <= cost.maximum_usd_nanos


async def test_every_kind_of_request_has_its_estimate(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """The same plan as under validate_only; nothing is sent and nothing is stored."""
    text = text_request(prompt="Hello", max_output_tokens=100, validate_only=True)
    image = image_request(prompt="a cat", count=2, validate_only=True)
    video = video_request(prompt="a cat", validate_only=True)
    audio = audio_request(prompt="a song", validate_only=True)
    safety = safety_pb2.CheckSafetyRequest(content="Hello", validate_only=True)
    plans = {
        "text": (await stubs.text.GenerateText(text)).plan,
        "image": (await stubs.image.GenerateImage(image)).plan,
        "video": (await stubs.video.GenerateVideo(video)).plan,
        "audio": (await stubs.audio.GenerateAudio(audio)).plan,
        "safety": (await stubs.safety.CheckSafety(safety)).plan,
    }
    requests = [
        Estimate(text=text),
        Estimate(image=image),
        Estimate(video=video),
        Estimate(audio=audio),
        Estimate(safety=safety),
    ]
    for request in requests:
        kind = request.WhichOneof("request")
        assert kind
        estimated = (await stubs.models.EstimateCost(request)).plan
        for line in (*estimated.parameters, *plans[kind].parameters):
            if line.parameter == "seed":
                line.sent = ""  # drawn anew each time
        assert estimated == plans[kind]
        assert estimated.model
        assert estimated.target.startswith(estimated.model)
        check_cost(estimated.cost)
    assert scripted_upstream.posted == []
    listed = await stubs.generations.ListGenerations(generations_pb2.ListGenerationsRequest())
    assert not listed.generations


async def test_the_estimate_is_reserved_and_bounds_the_settlement(
    sandbox_stubs: Stubs,
) -> None:
    """Exact where the request determines the usage; between low and maximum elsewhere."""
    alone = options_pb2.FallbackPolicy(mode=options_pb2.FallbackPolicy.MODE_NONE)
    image = image_request(prompt="a cat", count=2, model="flux-schnell", fallback=alone)
    cost = (await sandbox_stubs.models.EstimateCost(Estimate(image=image))).plan.cost
    generation = (await sandbox_stubs.image.GenerateImage(image)).generation
    assert cost.low_usd_nanos == cost.maximum_usd_nanos == generation.cost.usd_nanos == 6_000_000
    text = text_request(prompt="Hello", max_output_tokens=50, model="llama-70b", fallback=alone)
    cost = (await sandbox_stubs.models.EstimateCost(Estimate(text=text))).plan.cost
    written = (await sandbox_stubs.text.GenerateText(text)).generation
    assert cost.low_usd_nanos <= written.cost.usd_nanos <= cost.maximum_usd_nanos
    assert written.cost.price_date == cost.price_date


@pytest.mark.parametrize(
    ("request_", "code", "reason", "field"),
    [
        (Estimate(), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", "request"),
        (
            Estimate(text=TEXT()),
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_REQUEST",
            "text.prompt",
        ),
        (
            Estimate(text=text_request(prompt="x", model="gpt-99")),
            grpc.StatusCode.NOT_FOUND,
            "MODEL_NOT_FOUND",
            "text.options.model",
        ),
        (
            Estimate(
                image=image_request(
                    prompt="x",
                    steps=999,
                    model="flux-dev",
                    parameter_mode=options_pb2.PARAMETER_MODE_STRICT,
                )
            ),
            grpc.StatusCode.INVALID_ARGUMENT,
            "PARAMETER_UNSUPPORTED",
            "image.steps",
        ),
        (
            Estimate(image=image_request(prompt="x", max_cost_usd_nanos=1)),
            grpc.StatusCode.FAILED_PRECONDITION,
            "MAX_COST_EXCEEDED",
            "",
        ),
        (
            Estimate(image=image_request(prompt="x", timeout=Duration(seconds=1))),
            grpc.StatusCode.FAILED_PRECONDITION,
            "DEADLINE_TOO_SHORT",
            "",
        ),
    ],
)
async def test_estimates_refuse_what_the_call_would_refuse(
    stubs: Stubs, request_: Estimate, code: grpc.StatusCode, reason: str, field: str
) -> None:
    """With the same code and reason; the field's path begins at the estimate."""
    error = await rpc_error(stubs.models.EstimateCost(request_))
    assert (error.code(), reason_of(error)) == (code, reason)
    if field:
        assert fields_of(error) == {field}
