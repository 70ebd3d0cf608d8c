"""Every paid rpc: a request of each, and an upstream whose runs last."""

from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import ParseDict

from mediagate.v1 import models_pb2, safety_pb2
from tests.builders import (
    audio_request,
    image_request,
    stream_model_request,
    stream_text_request,
    text_request,
    video_request,
)

from .scripted_upstream import Answer, ScriptedUpstream, prediction, says
from .test_stream_model import STREAMING

LONG = Duration(seconds=60)
CALLS: dict[str, tuple[str, Any]] = {
    "StreamText": ("text", stream_text_request(prompt="x")),
    "GenerateText": ("text", text_request(prompt="x")),
    "GenerateImage": ("image", image_request(prompt="x")),
    "GenerateVideo": ("video", video_request(prompt="x", wait=LONG)),
    "GenerateAudio": ("audio", audio_request(prompt="x")),
    "CheckSafety": ("safety", safety_pb2.CheckSafetyRequest(content="x")),
    "RunModel": ("models", ParseDict({"model": "o/n"}, models_pb2.RunModelRequest(wait=LONG))),
    "StreamModel": ("models", stream_model_request("o/n")),
}
"""Every paid rpc, with the stub that has it and a request that waits."""


def runs(upstream: ScriptedUpstream, *before: Answer) -> None:
    """Whatever is made runs until somebody cancels it; `before` answers the first creates."""
    upstream.models["o/n"] = STREAMING
    upstream.creates = [*before, says(prediction(upstream, "processing"), 201)]
    upstream.gets = [says(prediction(upstream, "processing"))]
    upstream.streams = [says({}, 404)]
