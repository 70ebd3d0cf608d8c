"""Bad requests through the whole server: typed errors that name the field; nothing is sent."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import generations_pb2, medium_pb2, options_pb2, text_pb2, video_pb2
from tests.builders import image_request, text_request, video_request
from tests.grpc_errors import fields_of, reason_of, rpc_error

from .scripted_upstream import ScriptedUpstream
from .stubs import Stubs

Options = options_pb2.GenerationOptions
Text = text_pb2.GenerateTextRequest
HELLO = text_pb2.ChatMessage(
    role=text_pb2.ChatMessage.ROLE_USER, parts=[text_pb2.ChatPart(text="Hello")]
)
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def text(request: Text) -> Callable[[Stubs], Any]:
    """Send it to GenerateText."""
    return lambda stubs: stubs.text.GenerateText(request)


def video(request: video_pb2.GenerateVideoRequest) -> Callable[[Stubs], Any]:
    """Send it to GenerateVideo."""
    return lambda stubs: stubs.video.GenerateVideo(request)


def inline(size: int) -> video_pb2.GenerateVideoRequest:
    """A video from a picture of that many bytes."""
    medium = medium_pb2.InlineMedia(data=b"\x89PNG" + bytes(size - 4), media_type="image/png")
    return video_request(prompt="x", first_frame=medium_pb2.MediaInput(inline=medium))


BAD: dict[str, tuple[Callable[[Stubs], Any], grpc.StatusCode, str, str]] = {
    "unknown model": (
        text(text_request(prompt="x", model="gpt-99")),
        grpc.StatusCode.NOT_FOUND,
        "MODEL_NOT_FOUND",
        "options.model",
    ),
    "model of another kind": (
        text(text_request(prompt="x", model="sdxl")),
        grpc.StatusCode.NOT_FOUND,
        "MODEL_NOT_FOUND",
        "options.model",
    ),
    "no prompt": (text(Text()), INVALID, "INVALID_REQUEST", "prompt"),
    "prompt and messages": (
        text(text_request(prompt="x", messages=[HELLO])),
        INVALID,
        "INVALID_REQUEST",
        "prompt",
    ),
    "request_id": (
        text(text_request(prompt="x", request_id="7")),
        INVALID,
        "INVALID_REQUEST",
        "request_id",
    ),
    "negative duration": (
        video(video_request(prompt="x", duration=Duration(seconds=-5))),
        INVALID,
        "INVALID_REQUEST",
        "duration",
    ),
    "unknown enum number": (
        text(text_request(prompt="x", on_disconnect=77)),
        INVALID,
        "INVALID_REQUEST",
        "options.on_disconnect",
    ),
    "large inline medium": (
        video(inline(3_670_016)),
        INVALID,
        "MEDIA_TOO_LARGE",
        "first_frame.inline.data",
    ),
    "too dear": (
        text(text_request(prompt="x", max_cost_usd_nanos=1)),
        grpc.StatusCode.FAILED_PRECONDITION,
        "MAX_COST_EXCEEDED",
        "",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_invalid_input_is_refused_by_field(
    scripted_upstream: ScriptedUpstream, stubs: Stubs, name: str
) -> None:
    """The right code and reason, the field named; upstream never hears of it, the store neither."""
    send, code, reason, field = BAD[name]
    error = await rpc_error(send(stubs))
    assert error.code() is code
    assert reason_of(error) == reason
    if field:
        assert field in fields_of(error)
    assert scripted_upstream.posted == []
    listed = await stubs.generations.ListGenerations(generations_pb2.ListGenerationsRequest())
    assert not listed.generations


async def test_a_message_of_forty_megabytes_is_refused_by_grpc(stubs: Stubs) -> None:
    """Before anything of it is read."""
    error = await rpc_error(stubs.text.GenerateText(text_request(prompt="x" * 40_000_000)))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_strict_mode_refuses_parameters_it_would_change(
    scripted_upstream: ScriptedUpstream, stubs: Stubs
) -> None:
    """Every parameter that cannot be honoured is named at once."""
    request = image_request(
        prompt="x",
        steps=999,
        negative_prompt="y",
        model="flux-dev",
        parameter_mode=options_pb2.PARAMETER_MODE_STRICT,
    )
    error = await rpc_error(stubs.image.GenerateImage(request))
    assert reason_of(error) == "PARAMETER_UNSUPPORTED"
    assert fields_of(error) == {"steps", "negative_prompt"}
    assert scripted_upstream.posted == []
