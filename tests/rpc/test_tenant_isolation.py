"""What is another tenant's is not there: the answers are byte for byte those of what never was."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf import descriptor_pool

from mediagate.v1 import generations_pb2, image_pb2, media_pb2, medium_pb2, models_pb2, options_pb2
from mediagate_sandbox.server import Sandbox
from mediagate_server.api.service_registration import SERVICES, UNIMPLEMENTED_METHODS
from tests.builders import (
    image_request,
    run_model_request,
    stream_model_request,
    text_request,
    video_request,
)
from tests.grpc_errors import reason_of, rpc_error, status_of

from .media_transfers import read_output, upload
from .stubs import OpenServer, Stubs
from .tenant_keys import channel_of, tenant

FREE = options_pb2.GenerationOptions(model="flux-schnell")


@dataclass(frozen=True)
class TwoTenants:
    """Two tenants of a server; one has made a picture and uploaded it again."""

    mine: Stubs
    other: Stubs
    generation_id: str
    upload_id: str
    request: image_pb2.GenerateImageRequest


@pytest.fixture
async def two_tenants(sandbox: Sandbox, open_server: OpenServer) -> AsyncIterator[TwoTenants]:
    """Both have keys; neither is an admin."""
    async with AsyncExitStack() as stack:
        tenants = (tenant("mine"), tenant("other"))
        _, server = await stack.enter_async_context(open_server(sandbox.url, tenants=tenants))
        mine, other = [
            Stubs.on(await stack.enter_async_context(channel_of(server.grpc_address, name)))
            for name in ("mine", "other")
        ]
        request = image_request(prompt="a canary", request_id=str(uuid4()), options=FREE)
        response = await mine.image.GenerateImage(request)
        _, picture = await read_output(mine, response.generation.id)
        uploaded = await upload(mine, picture)
        yield TwoTenants(mine, other, response.generation.id, uploaded.upload_id, request)


def _output(ref: str) -> medium_pb2.OutputRef:
    return medium_pb2.OutputRef(generation_id=ref)


def _given(ref: str) -> models_pb2.RunModelMedia:
    return models_pb2.RunModelMedia(media=[medium_pb2.MediaInput(output=_output(ref))])


def _picture(medium: medium_pb2.MediaInput) -> image_pb2.GenerateImageRequest:
    return image_request(prompt="x", reference_images=[medium], model="flux-dev")


Ask = Callable[[Stubs, str], Any]
OF_GENERATIONS: dict[str, Ask] = {
    "GenerationService/GetGeneration": lambda stubs, name: stubs.generations.GetGeneration(
        generations_pb2.GetGenerationRequest(id=name)
    ),
    "GenerationService/WaitGeneration": lambda stubs, name: stubs.generations.WaitGeneration(
        generations_pb2.WaitGenerationRequest(id=name)
    ),
    "GenerationService/WatchGeneration": lambda stubs, name: stubs.generations.WatchGeneration(
        generations_pb2.WatchGenerationRequest(id=name)
    ),
    "GenerationService/CancelGeneration": lambda stubs, name: stubs.generations.CancelGeneration(
        generations_pb2.CancelGenerationRequest(id=name)
    ),
    "GenerationService/DeleteGeneration": lambda stubs, name: stubs.generations.DeleteGeneration(
        generations_pb2.DeleteGenerationRequest(id=name)
    ),
    "MediaService/ReadMedia": lambda stubs, name: stubs.media.ReadMedia(
        media_pb2.ReadMediaRequest(output=_output(name))
    ),
    "ImageService/GenerateImage": lambda stubs, name: stubs.image.GenerateImage(
        _picture(medium_pb2.MediaInput(output=_output(name)))
    ),
    "VideoService/GenerateVideo": lambda stubs, name: stubs.video.GenerateVideo(
        video_request(
            prompt="x",
            first_frame=medium_pb2.MediaInput(output=_output(name)),
            model="minimax-video",
        )
    ),
    "ModelService/RunModel": lambda stubs, name: stubs.models.RunModel(
        run_model_request("nightmareai/real-esrgan", media={"image": _given(name)})
    ),
    "ModelService/StreamModel": lambda stubs, name: stubs.models.StreamModel(
        stream_model_request("nightmareai/real-esrgan", media={"image": _given(name)})
    ),
}
OF_UPLOADS: dict[str, Ask] = {
    "read": lambda stubs, name: stubs.media.ReadMedia(media_pb2.ReadMediaRequest(upload_id=name)),
    "use": lambda stubs, name: stubs.image.GenerateImage(
        _picture(medium_pb2.MediaInput(upload_id=name))
    ),
}
WITHOUT_IDS = frozenset(
    {
        # They answer from the caller's own, or name nothing that anybody owns.
        "GenerationService/ListGenerations",
        "GenerationService/WatchGenerations",
        "ModelService/ListModels",
        "ModelService/GetModel",
        "ModelService/EstimateCost",
        "MediaService/UploadMedia",
        # Media in them are resolved by the code that those above go through.
        "TextService/StreamText",
        "TextService/GenerateText",
        "AudioService/GenerateAudio",
        "SafetyService/CheckSafety",
        # Those of an admin name tenants on purpose; others' usage needs an admin.
        "UsageService/GetUsage",
        "UsageService/ListCharges",
        "UsageService/GetReconciliation",
    }
)


def never_was(name: str) -> str:
    """An id like this one, of nothing."""
    return name[:-4] + ("aaaa" if not name.endswith("aaaa") else "bbbb")


def bytes_of(error: grpc.aio.AioRpcError, name: str) -> tuple[Any, str, bytes]:
    """All that a caller can see of an error, but for the id that he sent himself."""
    details = status_of(error).SerializeToString().replace(name.encode(), b"-")
    return error.code(), (error.details() or "").replace(name, "-"), details


def test_every_method_is_listed() -> None:
    """A method that is added to the contract belongs into one of the lists here."""
    pool = descriptor_pool.Default()
    methods = {
        f"{service.rpartition('.')[2]}/{method.name}"
        for service in SERVICES
        if not service.endswith(".AdminService")
        for method in pool.FindServiceByName(service).methods
    }
    assert methods == OF_GENERATIONS.keys() | WITHOUT_IDS


async def test_generations_of_other_tenants_are_not_found(two_tenants: TwoTenants) -> None:
    """In every method that names one."""
    for method, ask in OF_GENERATIONS.items():
        absent = never_was(two_tenants.generation_id)
        foreign = await rpc_error(ask(two_tenants.other, two_tenants.generation_id))
        nothing = await rpc_error(ask(two_tenants.other, absent))
        if f"/mediagate.v1.{method}" not in UNIMPLEMENTED_METHODS:
            assert reason_of(foreign) == "GENERATION_NOT_FOUND", method
        assert bytes_of(foreign, two_tenants.generation_id) == bytes_of(nothing, absent), method


async def test_uploads_of_other_tenants_are_not_found(two_tenants: TwoTenants) -> None:
    """Neither to be read nor to be used."""
    for ask in OF_UPLOADS.values():
        absent = never_was(two_tenants.upload_id)
        foreign = await rpc_error(ask(two_tenants.other, two_tenants.upload_id))
        nothing = await rpc_error(ask(two_tenants.other, absent))
        assert reason_of(foreign) == "UPLOAD_NOT_FOUND"
        assert bytes_of(foreign, two_tenants.upload_id) == bytes_of(nothing, absent)


async def test_request_ids_are_scoped_to_a_tenant(two_tenants: TwoTenants) -> None:
    """The same call of another tenant is another generation; another call is no clash."""
    same = (await two_tenants.other.image.GenerateImage(two_tenants.request)).generation
    assert same.id != two_tenants.generation_id
    reused = text_request(prompt="x", request_id=two_tenants.request.request_id)
    error = await rpc_error(two_tenants.mine.text.GenerateText(reused))
    assert reason_of(error) == "REQUEST_ID_REUSED"
    assert (await two_tenants.mine.image.GenerateImage(two_tenants.request)).replayed


async def test_lists_and_watches_are_scoped_to_a_tenant(two_tenants: TwoTenants) -> None:
    """And so are their page tokens."""
    listing = generations_pb2.ListGenerationsRequest(page_size=1)
    assert not (await two_tenants.other.generations.ListGenerations(listing)).generations
    await two_tenants.mine.image.GenerateImage(image_request(prompt="b", options=FREE))
    page = await two_tenants.mine.generations.ListGenerations(listing)
    assert page.next_page_token
    listing.page_token = page.next_page_token
    assert (await two_tenants.mine.generations.ListGenerations(listing)).generations
    error = await rpc_error(two_tenants.other.generations.ListGenerations(listing))
    assert reason_of(error) == "INVALID_REQUEST"

    watch: Any = two_tenants.other.generations.WatchGenerations(
        generations_pb2.WatchGenerationsRequest()
    )
    await watch.initial_metadata()
    await two_tenants.mine.image.GenerateImage(image_request(prompt="c", options=FREE))
    own = await two_tenants.other.image.GenerateImage(image_request(prompt="d", options=FREE))
    first = await anext(aiter(watch))
    assert first.generation.id == own.generation.id
    watch.cancel()
