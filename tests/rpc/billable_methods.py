"""Every paid rpc: a request of each, and an upstream whose runs last."""

from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import ParseDict

from mediagate.v1 import (
    audio_pb2,
    image_pb2,
    models_pb2,
    safety_pb2,
    text_pb2,
    video_pb2,
)

from .scripted_upstream import Answer, ScriptedUpstream, prediction, says
from .test_stream_model import STREAMING

LONG = Duration(seconds=60)
CALLS: dict[str, tuple[str, Any]] = {
    "StreamText": ("text", text_pb2.StreamTextRequest(prompt="x")),
    "GenerateText": ("text", text_pb2.GenerateTextRequest(prompt="x")),
    "GenerateImage": ("image", image_pb2.GenerateImageRequest(prompt="x")),
    "GenerateVideo": ("video", video_pb2.GenerateVideoRequest(prompt="x", wait=LONG)),
    "GenerateAudio": ("audio", audio_pb2.GenerateAudioRequest(prompt="x")),
    "CheckSafety": ("safety", safety_pb2.CheckSafetyRequest(content="x")),
    "RunModel": ("models", ParseDict({"model": "o/n"}, models_pb2.RunModelRequest(wait=LONG))),
    "StreamModel": ("models", models_pb2.StreamModelRequest(model="o/n")),
}
"""Every paid rpc, with the stub that has it and a request that waits."""


def runs(upstream: ScriptedUpstream, *before: Answer) -> None:
    """Whatever is made runs until somebody cancels it; `before` answers the first creates."""
    upstream.models["o/n"] = STREAMING
    upstream.creates = [*before, says(prediction(upstream, "processing"), 201)]
    upstream.gets = [says(prediction(upstream, "processing"))]
    upstream.streams = [says({}, 404)]
