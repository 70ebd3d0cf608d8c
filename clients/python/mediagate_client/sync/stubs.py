# Generated from aio/stubs.py by `make generate`. Do not edit.
"""Stubs of the services, blocking."""

from __future__ import annotations

import grpc

from mediagate.v1.admin_pb2_grpc import AdminServiceStub
from mediagate.v1.audio_pb2_grpc import AudioServiceStub
from mediagate.v1.generations_pb2_grpc import GenerationServiceStub
from mediagate.v1.image_pb2_grpc import ImageServiceStub
from mediagate.v1.media_pb2_grpc import MediaServiceStub
from mediagate.v1.models_pb2_grpc import ModelServiceStub
from mediagate.v1.safety_pb2_grpc import SafetyServiceStub
from mediagate.v1.text_pb2_grpc import TextServiceStub
from mediagate.v1.usage_pb2_grpc import UsageServiceStub
from mediagate.v1.video_pb2_grpc import VideoServiceStub
from mediagate_client.channel import Channels


class Stubs:
    """Stubs of all services over the channels of one client."""

    def __init__(self, channels: Channels[grpc.Channel]) -> None:
        """Create the stubs."""
        self.channels = channels
        self.texts = TextServiceStub(channels.billable)
        self.images = ImageServiceStub(channels.billable)
        self.videos = VideoServiceStub(channels.billable)
        self.audios = AudioServiceStub(channels.billable)
        self.models = ModelServiceStub(channels.billable)
        self.safety = SafetyServiceStub(channels.billable)
        self.media = MediaServiceStub(channels.billable)
        self.waits = GenerationServiceStub(channels.waits)
        self.generations = GenerationServiceStub(channels.control)
        self.catalog = ModelServiceStub(channels.control)
        self.usage = UsageServiceStub(channels.control)
        self.admin = AdminServiceStub(channels.control)
