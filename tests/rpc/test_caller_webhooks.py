"""Callers' webhooks through the whole server: whoever asked is told of the end, and nobody else."""

from typing import Any
from uuid import uuid4

import grpc
from google.protobuf import json_format

from mediagate.v1 import image_pb2
from mediagate.v1.generation_pb2 import Generation
from mediagate.v1.generations_pb2 import CancelGenerationRequest
from mediagate.v1.webhook_pb2 import WebhookEvent, WebhookEventType
from mediagate_sandbox.server import Sandbox
from tests.builders import image_request, stream_text_request, video_request
from tests.grpc_errors import reason_of, rpc_error
from tests.rpc.stubs import OpenServer, Stubs
from tests.webhooks.webhook_receiver import receiving

INSIDE: dict[str, Any] = {"webhook_networks": ("127.0.0.0/8",)}


def image(url: str, **fields: Any) -> image_pb2.GenerateImageRequest:
    """A request for a picture of whose end somebody is to be told."""
    return image_request(prompt="A lighthouse", webhook_url=url, **fields)


def read(body: bytes) -> WebhookEvent:
    """The event in a body."""
    return json_format.Parse(body, WebhookEvent())


async def test_a_webhook_is_sent_once_with_the_generation(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """The generation as GetGeneration shows it; the same call again tells nobody anew."""
    async with receiving() as receiver, open_server(sandbox.url, **INSIDE) as (stubs, _):
        request = image(receiver.url, request_id=str(uuid4()))
        answer = await stubs.image.GenerateImage(request)
        assert (await stubs.image.GenerateImage(request)).replayed
        (got,) = await receiver.received(1)
        event = read(got.body)
        assert event.type == WebhookEventType.WEBHOOK_EVENT_TYPE_GENERATION_SUCCEEDED
        assert event.generation.id == answer.generation.id
        assert event.generation.state == Generation.State.STATE_SUCCEEDED
        assert event.generation.images.images[0].sha256
        assert event.time == event.generation.complete_time
        assert event.generation.cost.usd_nanos == answer.generation.cost.usd_nanos
        streamed = stubs.text.StreamText(
            stream_text_request(prompt="Hello", webhook_url=receiver.url)
        )
        assert [event async for event in streamed]
        got = (await receiver.received(2))[1]
        assert read(got.body).generation.text.text
        assert len(receiver.all) == 2


async def test_cancellation_has_its_own_event_type(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """By its own name."""
    async with receiving() as receiver, open_server(sandbox.url, **INSIDE) as (stubs, _):
        response = await stubs.video.GenerateVideo(
            video_request(prompt="A train [[hang]]", webhook_url=receiver.url)
        )
        await cancel(stubs, response.generation.id)
        (got,) = await receiver.received(1)
        event = read(got.body)
        assert event.type == WebhookEventType.WEBHOOK_EVENT_TYPE_GENERATION_CANCELLED
        assert event.generation.id == response.generation.id


async def cancel(stubs: Stubs, generation_id: str) -> None:
    """Ask for the end."""
    await stubs.generations.CancelGeneration(CancelGenerationRequest(id=generation_id))


async def test_internal_webhook_urls_are_refused(sandbox: Sandbox, open_server: OpenServer) -> None:
    """Unless the operator lets it: refused by name, before anything is stored or spent."""
    async with receiving() as receiver, open_server(sandbox.url) as (stubs, _):
        for url in (receiver.url, receiver.url.replace("http", "https")):
            error = await rpc_error(stubs.image.GenerateImage(image(url)))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert reason_of(error) == "INVALID_REQUEST"
        assert not receiver.all
