"""Service registration: every service of the contract, and the servicers of this server.

A new rpc or service begins in `protos/mediagate/v1/`; the steps from there are in
docs/architecture.md. Health and reflection are added in `wiring/api.py`.

Rpcs of the contract that are not implemented yet are data (`UNIMPLEMENTED_METHODS`): the
interceptor chain answers them with NOT_IMPLEMENTED itself, so that they are counted, authenticated
and limited like any other and need no servicer.
"""

from collections.abc import Callable
from typing import Final

import grpc

from mediagate.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    audio_pb2,
    audio_pb2_grpc,
    generations_pb2,
    generations_pb2_grpc,
    image_pb2,
    image_pb2_grpc,
    media_pb2,
    media_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    safety_pb2,
    safety_pb2_grpc,
    text_pb2,
    text_pb2_grpc,
    usage_pb2,
    usage_pb2_grpc,
    video_pb2,
    video_pb2_grpc,
)
from mediagate_server.api.billable_call_handler import BillableCallHandler
from mediagate_server.api.page_tokens import PageTokens
from mediagate_server.api.services.admin import AdminService
from mediagate_server.api.services.audio import AudioService
from mediagate_server.api.services.generations import GenerationService
from mediagate_server.api.services.image import ImageService
from mediagate_server.api.services.media import MediaService
from mediagate_server.api.services.models import ModelService
from mediagate_server.api.services.safety import SafetyService
from mediagate_server.api.services.text import TextService
from mediagate_server.api.services.usage import UsageService
from mediagate_server.api.services.video import VideoService
from mediagate_server.catalog.catalog import Catalog
from mediagate_server.generations.engine import GenerationEngine
from mediagate_server.media.module import MediaModule
from mediagate_server.runtime.fair_scheduler import FairScheduler

_CONTRACT: Final = (
    text_pb2,
    image_pb2,
    video_pb2,
    audio_pb2,
    safety_pb2,
    models_pb2,
    generations_pb2,
    media_pb2,
    usage_pb2,
    admin_pb2,
)
STORE_BOUND_METHODS: Final = tuple(
    f"/mediagate.v1.{method}"
    for method in (
        "GenerationService/GetGeneration",
        "GenerationService/ListGenerations",
        "UsageService/GetUsage",
        "UsageService/ListCharges",
        "UsageService/GetReconciliation",
    )
)
"""Paths of the rpcs that only read, and from the store alone."""
SERVICES: Final = tuple(
    service.full_name for file in _CONTRACT for service in file.DESCRIPTOR.services_by_name.values()
)
"""Full names of all services, implemented or not."""


def register_services(
    server: grpc.aio.Server,
    *,
    catalog: Callable[[], Catalog],
    calls: BillableCallHandler,
    generations: GenerationEngine,
    media: MediaModule,
    usage: UsageService,
    admin: AdminService,
    tokens: PageTokens,
    scheduler: FairScheduler,
) -> None:
    """Register every service that is implemented."""
    text_pb2_grpc.add_TextServiceServicer_to_server(TextService(calls), server)
    image_pb2_grpc.add_ImageServiceServicer_to_server(ImageService(calls), server)
    video_pb2_grpc.add_VideoServiceServicer_to_server(VideoService(calls), server)
    audio_pb2_grpc.add_AudioServiceServicer_to_server(AudioService(calls), server)
    safety_pb2_grpc.add_SafetyServiceServicer_to_server(SafetyService(calls), server)
    models_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(catalog, calls, tokens), server)
    generations_pb2_grpc.add_GenerationServiceServicer_to_server(
        GenerationService(generations, media.links, tokens), server
    )
    media_pb2_grpc.add_MediaServiceServicer_to_server(
        MediaService(generations, media.uploads, media.store, media.links, scheduler), server
    )
    admin_pb2_grpc.add_AdminServiceServicer_to_server(admin, server)
    usage_pb2_grpc.add_UsageServiceServicer_to_server(usage, server)


_ADMIN: Final = (
    "CreateKey",
    "ListKeys",
    "RevokeKey",
)
UNIMPLEMENTED_METHODS: Final = frozenset(
    {
        *(f"/mediagate.v1.AdminService/{name}" for name in _ADMIN),
    }
)
"""Paths of all of them; the changelog lists the same."""
