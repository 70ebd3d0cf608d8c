"""A running server and the stubs to call it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import grpc

from mediagate.v1 import (
    admin_pb2_grpc,
    audio_pb2_grpc,
    generations_pb2_grpc,
    image_pb2_grpc,
    media_pb2_grpc,
    models_pb2_grpc,
    safety_pb2_grpc,
    text_pb2_grpc,
    usage_pb2_grpc,
    video_pb2_grpc,
)
from mediagate_server.app import Server


@dataclass(frozen=True)
class Stubs:
    """One stub a service, on one channel."""

    text: text_pb2_grpc.TextServiceAsyncStub
    image: image_pb2_grpc.ImageServiceAsyncStub
    video: video_pb2_grpc.VideoServiceAsyncStub
    audio: audio_pb2_grpc.AudioServiceAsyncStub
    generations: generations_pb2_grpc.GenerationServiceAsyncStub
    models: models_pb2_grpc.ModelServiceAsyncStub
    safety: safety_pb2_grpc.SafetyServiceAsyncStub
    media: media_pb2_grpc.MediaServiceAsyncStub
    admin: admin_pb2_grpc.AdminServiceAsyncStub
    usage: usage_pb2_grpc.UsageServiceAsyncStub
    channel: grpc.aio.Channel

    @classmethod
    def on(cls, channel: grpc.aio.Channel) -> Stubs:
        """The stubs on a channel."""
        return cls(
            text_pb2_grpc.TextServiceStub(channel),
            image_pb2_grpc.ImageServiceStub(channel),
            video_pb2_grpc.VideoServiceStub(channel),
            audio_pb2_grpc.AudioServiceStub(channel),
            generations_pb2_grpc.GenerationServiceStub(channel),
            models_pb2_grpc.ModelServiceStub(channel),
            safety_pb2_grpc.SafetyServiceStub(channel),
            media_pb2_grpc.MediaServiceStub(channel),
            admin_pb2_grpc.AdminServiceStub(channel),
            usage_pb2_grpc.UsageServiceStub(channel),
            channel,
        )


OpenServer = Callable[..., AbstractAsyncContextManager[tuple[Stubs, Server]]]
"""Opens a server in front of the upstream at a URL, with more settings by name.

Within a test it is always the same data folder.
"""
