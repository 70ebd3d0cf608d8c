"""Addresses with hosts and paths that are not ASCII: handled alike wherever one is given."""

from typing import Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict

from mediagate.v1 import image_pb2, medium_pb2, models_pb2, text_pb2
from mediagate_server.webhooks.http_client import WebhookHttpClient
from tests.builders import image_request, run_model_request, text_request
from tests.grpc_errors import fields_of, rpc_error
from tests.webhooks.manual_clock_dispatcher import LOOPBACK

from .scripted_upstream import ID, ScriptedUpstream, says
from .stubs import OpenServer, Stubs
from .test_url_preservation import raw_server

GIVEN = "https://bücher.example/ä b/%2C~?q=ü&s=%2F"
LINKS = [
    (GIVEN.replace(" ", "+"), "https://xn--bcher-kva.example/%C3%A4+b/%2C~?q=%C3%BC&s=%2F"),
    ("https://例え.テスト/画像.png", "https://xn--r8jz45g.xn--zckzah/%E7%94%BB%E5%83%8F.png"),
    ("https://example.com/é%C3%A9", "https://example.com/%C3%A9%C3%A9"),
    ("https://münchen.example:8443", "https://xn--mnchen-3ya.example:8443/"),
    ("https://example.com/a%2Cb?c=%2F~", "https://example.com/a%2Cb?c=%2F~"),
]
NO_HOSTS = ["https://" + "ü" * 80 + ".example/a", "https://ü..example/a"]
INSIDE = [
    "https://\u24dbocalhost/a",
    "https://\uff11\uff12\uff17.0.0.1/a",
    "https://127\u30020\u30020\u30021/ä",
    "https://\uff11\uff16\uff19.254.169.254/ä",
    "https://\uff4cocalhost/ä",
    "https://\u2460\u2461\u2466.0.0.1/a",
    "https://loc\u00adalhost/a",
    "https://127.0.0.1\u200b/a",
    "https://127.0.0\u2024\u0031/a",
    "https://[::ffff:127.0.0.1]/ä",
]
LINK = {"type": "string", "format": "uri"}
PROPERTIES = {
    "prompt": {"type": "string"},
    "image": LINK,
    "images": {"type": "array", "items": LINK},
    "deep": {"type": "object", "additionalProperties": {"type": "array", "items": LINK}},
}
MODEL = {
    "owner": "o",
    "name": "n",
    "is_official": True,
    "latest_version": {
        "id": "v",
        "openapi_schema": {
            "components": {
                "schemas": {
                    "Input": {"type": "object", "properties": PROPERTIES},
                    "Output": {"type": "string"},
                }
            }
        },
    },
}


@pytest.fixture
def upstream(scripted_upstream: ScriptedUpstream) -> ScriptedUpstream:
    """Takes all that comes."""
    scripted_upstream.models["o/n"] = MODEL

    async def create(request: Any) -> Any:
        return await says({"id": ID, "status": "succeeded", "output": "x", "metrics": {}}, 201)(
            request
        )

    scripted_upstream.creates = [create]
    return scripted_upstream


def image(uri: str) -> image_pb2.GenerateImageRequest:
    """A picture made from another."""
    request = image_request(prompt="x", model="flux-kontext")
    request.reference_images.add(uri=uri)
    return request


@pytest.mark.parametrize(("given", "sent"), LINKS)
async def test_media_urls_are_encoded_alike_in_every_field(
    upstream: ScriptedUpstream, stubs: Stubs, given: str, sent: str
) -> None:
    """IDNA and percent-encoded; what is ASCII stays letter for letter, and so does a prompt."""
    await stubs.image.GenerateImage(image(given))
    assert sent in upstream.posted[-1]["input"].values()
    medium = medium_pb2.MediaInput(uri=given)
    parts = [{"text": given}, {"image": {"uri": given}}]
    chat = ParseDict(
        {"messages": [{"role": "ROLE_USER", "parts": parts}], "options": {"model": "gpt-4.1"}},
        text_pb2.GenerateTextRequest(),
    )
    await stubs.text.GenerateText(chat)
    assert sent in str(upstream.posted[-1]["input"])
    assert given in str(upstream.posted[-1]["input"])
    by_media = run_model_request("o/n")
    by_media.media["image"].media.append(medium)
    await stubs.models.RunModel(by_media)
    assert upstream.posted[-1]["input"] == {"image": sent}
    own = {"prompt": given, "image": given, "images": [given], "deep": {"a": [given]}}
    await stubs.models.RunModel(
        ParseDict({"model": "o/n", "input": own}, models_pb2.RunModelRequest())
    )
    assert upstream.posted[-1]["input"] == {
        "prompt": given,
        "image": sent,
        "images": [sent],
        "deep": {"a": [sent]},
    }


@pytest.mark.parametrize("uri", [*NO_HOSTS, *INSIDE])
async def test_invalid_and_internal_urls_are_refused_alike(
    upstream: ScriptedUpstream, stubs: Stubs, uri: str
) -> None:
    """By its field, before anything is spent; as a webhook, too."""
    run = run_model_request("o/n")
    run.media["image"].media.append(medium_pb2.MediaInput(uri=uri))
    hook = image_request(prompt="x", webhook_url=uri)
    for call, field in (
        (stubs.image.GenerateImage(image(uri)), "reference_images[0].uri"),
        (stubs.models.RunModel(run), 'media["image"].media[0].uri'),
        (stubs.image.GenerateImage(hook), "options.webhook_url"),
    ):
        error = await rpc_error(call)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert fields_of(error) == {field}
    assert not upstream.posted


async def test_an_international_webhook_url_is_accepted(
    upstream: ScriptedUpstream, open_server: OpenServer
) -> None:
    """Accepted, as its medium would be."""
    async with open_server(upstream.url) as (stubs, _):
        await stubs.text.GenerateText(text_request(prompt="x", webhook_url=LINKS[0][0]))
    assert len(upstream.posted) == 1


async def test_a_webhooks_path_is_percent_encoded() -> None:
    """To the very place."""
    async with raw_server() as raw, WebhookHttpClient(LOOPBACK) as poster:
        assert await poster.post(f"{raw.url}/ä%2C?ü=~", {}, b"{}") == 200
    assert raw.lines == ["/%C3%A4%2C?%C3%BC=~"]
