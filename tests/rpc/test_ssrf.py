"""Whoever gives a URL, a caller or upstream: the server opens none that leads inside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct

from mediagate.v1 import image_pb2, medium_pb2, models_pb2, options_pb2, text_pb2, video_pb2
from mediagate_sandbox.server import Sandbox
from tests.builders import audio_request, image_request, run_model_request, stream_text_request
from tests.grpc_errors import fields_of, rpc_error
from tests.media.file_server import moved
from tests.webhooks.private_hosts import HOSTS, OF_OTHER_SCRIPTS, listening_everywhere

from .scripted_upstream import ID, ScriptedUpstream, says
from .stubs import OpenServer, Stubs

EVERY_HOST = (*HOSTS, *OF_OTHER_SCRIPTS)
Options = options_pb2.GenerationOptions
FLUX = Options(model="flux-dev")
ANYBODYS = "ip6-localhost"
"""A name like any other: whose it is is seen by whoever resolves it, which is a model."""


@pytest.fixture
async def listening() -> AsyncIterator[tuple[int, list[object]]]:
    """One port on every address of this machine, and who came there."""
    async with listening_everywhere() as opened:
        yield opened


def calls_with(stubs: Stubs, link: str) -> dict[str, tuple[Any, Any]]:
    """A call for each kind of field that takes a URL."""
    medium = medium_pb2.MediaInput(uri=link)
    picture, film = image_pb2.GenerateImageRequest, video_pb2.GenerateVideoRequest
    chat = text_pb2.ChatMessage(
        role=text_pb2.ChatMessage.ROLE_USER, parts=[text_pb2.ChatPart(image=medium)]
    )
    raw = {"image": models_pb2.RunModelMedia(media=[medium])}
    esrgan = "nightmareai/real-esrgan"
    hooked = Options(model="flux-dev", webhook_url=link)
    return {
        "options.webhook_url": (stubs.image.GenerateImage, picture(prompt="x", options=hooked)),
        "reference_images[0].uri": (
            stubs.image.GenerateImage,
            picture(prompt="x", reference_images=[medium], options=FLUX),
        ),
        "mask.uri": (
            stubs.image.GenerateImage,
            picture(prompt="x", reference_images=[medium], mask=medium, options=FLUX),
        ),
        "loras[0].uri": (
            stubs.image.GenerateImage,
            picture(prompt="x", loras=[image_pb2.Lora(uri=link)], options=FLUX),
        ),
        "first_frame.uri": (stubs.video.GenerateVideo, film(prompt="x", first_frame=medium)),
        "last_frame.uri": (stubs.video.GenerateVideo, film(prompt="x", last_frame=medium)),
        "source_video.uri": (stubs.video.GenerateVideo, film(prompt="x", source_video=medium)),
        "source_audio.uri": (stubs.video.GenerateVideo, film(prompt="x", source_audio=medium)),
        "continue_from.uri": (
            stubs.audio.GenerateAudio,
            audio_request(prompt="x", continue_from=medium),
        ),
        "reference_audio.uri": (
            stubs.audio.GenerateAudio,
            audio_request(prompt="x", reference_audio=medium),
        ),
        "messages[0].parts[0].image.uri": (
            stubs.text.GenerateText,
            text_pb2.GenerateTextRequest(messages=[chat]),
        ),
        'media["image"].media[0].uri': (
            stubs.models.RunModel,
            run_model_request(esrgan, media=raw),
        ),
    }


async def test_no_caller_url_is_fetched(
    sandbox: Sandbox, open_server: OpenServer, listening: tuple[int, list[object]]
) -> None:
    """Each is refused, and the field named."""
    port, came = listening
    async with open_server(sandbox.url) as (stubs, _):
        for host in set(EVERY_HOST) - {ANYBODYS}:
            for field, (call, request) in calls_with(stubs, f"https://{host}:{port}/x").items():
                error = await rpc_error(call(request))
                assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, (host, field)
                assert field in fields_of(error), host
    assert came == []


async def test_model_specific_inputs_are_not_fetched(
    sandbox: Sandbox, open_server: OpenServer, listening: tuple[int, list[object]]
) -> None:
    """Inputs of a model's own may be any text: the server hands them on, and no more."""
    port, came = listening
    async with open_server(sandbox.url) as (stubs, _):
        for host in ("127.0.0.1", "localhost", "2130706433", "[::1]", "[::ffff:127.0.0.1]"):
            given = Struct()
            given.update({"image": f"http://{host}:{port}/x.png"})
            response = await stubs.models.RunModel(
                run_model_request("nightmareai/real-esrgan", input=given)
            )
            assert response.generation.id
    assert came == []


async def test_no_internal_upstream_url_is_fetched(
    scripted_upstream: ScriptedUpstream,
    open_server: OpenServer,
    listening: tuple[int, list[object]],
) -> None:
    """Outputs in every form, and links to get, cancel and stream: paid, and told as not kept."""
    port, came = listening
    links = [
        f"{scheme}://{host}:{port}/a.png" for host in EVERY_HOST for scheme in ("https", "http")
    ]
    links.append(scripted_upstream.files.put("/moved.png", moved(f"http://127.0.0.1:{port}/a.png")))
    elsewhere = f"http://127.0.0.1:{port}/v1/predictions/{ID}"
    urls = {"get": elsewhere, "cancel": f"{elsewhere}/cancel", "stream": f"{elsewhere}/stream"}
    begun = {"id": ID, "status": "processing", "urls": urls}
    async with open_server(scripted_upstream.url) as (stubs, _):
        scripted_upstream.creates = [says(begun, 201)]
        metrics = {"image_count": len(links)}
        scripted_upstream.gets = [
            says({**begun, "status": "succeeded", "output": links, "metrics": metrics})
        ]
        response = await stubs.image.GenerateImage(image_request(prompt="x", model="flux-schnell"))
        images = response.generation.images.images
        assert len(images) == len(links)
        assert all(
            "OUTPUT_STORE_FAILED" in str(medium.error) and not medium.id for medium in images
        )
        said = {"status": "succeeded", "output": ["Hello"], "metrics": {"token_output_count": 1}}
        scripted_upstream.gets = [says({**begun, **said})]
        call = stubs.text.StreamText(stream_text_request(prompt="x"))
        assert [event async for event in call][-1].HasField("completed")
    assert came == []
