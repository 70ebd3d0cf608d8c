"""The `replicate` package works against the sandbox as it does against Replicate."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from replicate.client import Client
from replicate.exceptions import ReplicateError
from replicate.webhook import InvalidSignatureError, Webhooks

from .sandbox_client import LLAMA, SCHNELL, SandboxClient
from .webhook_receiver import receiving

DEV = "black-forest-labs/flux-dev"
SDXL = "stability-ai/sdxl:7762fd07cf82c948538e41f63f77d685e02b063e37e496e96eefd46c929f9bdc"


@pytest.fixture
async def client(sandbox_client: SandboxClient) -> AsyncIterator[Client]:
    """The package's client, pointed at the sandbox."""
    client = Client(
        api_token="any",
        base_url=sandbox_client.sandbox.url,
        transport=httpx.AsyncHTTPTransport(),
    )
    client.poll_interval = 0.005
    yield client
    await client._async_client.aclose()


async def test_run_text(client: Client) -> None:
    """`async_run` of an official model that streams gives its tokens."""
    output: Any = await client.async_run(LLAMA, input={"prompt": "Hello"})
    assert "".join(output).startswith(f"[sandbox {LLAMA}]")


async def test_run_pictures(client: Client, sandbox_client: SandboxClient) -> None:
    """`async_run` by slug and by version gives links, as the package only wraps https ones."""
    for ref, given in ((SCHNELL, {"num_outputs": 2}), (SDXL, {"width": 64, "height": 64})):
        links: Any = await client.async_run(ref, input={"prompt": "a boat", **given})
        assert len(links) == given.get("num_outputs", 1)
        assert len((await sandbox_client.get(links[0])).body) > 500


async def test_stream(client: Client) -> None:
    """`async_stream` yields every token and ends with done."""
    given = {"prompt": "x [[tokens=30]]"}
    events = [each async for each in await client.async_stream(LLAMA, input=given)]
    assert [each.event.value for each in events] == ["output"] * 30 + ["done"]
    with pytest.raises(RuntimeError, match="broken"):
        async for _ in await client.async_stream(LLAMA, input={"prompt": "[[fail=broken]]"}):
            pass


async def test_predictions(client: Client) -> None:
    """Create, get, wait, list and cancel."""
    prediction = await client.predictions.async_create(version=LLAMA, input={"prompt": "x"})
    seen = [prediction.status]
    await prediction.async_wait()
    assert [*seen, prediction.status] == ["starting", "succeeded"]
    assert prediction.metrics
    hanging = await client.models.predictions.async_create(SCHNELL, {"prompt": "x [[hang]]"})
    await hanging.async_cancel()
    assert hanging.status == "canceled"
    page = await client.predictions.async_list()
    assert [each.id for each in page.results] == [hanging.id, prediction.id]
    again = await client.predictions.async_get(prediction.id)
    assert again.output == prediction.output


async def test_a_synchronous_create(client: Client) -> None:
    """`wait` brings the whole output while the status says processing."""
    prediction = await client.models.predictions.async_create(SCHNELL, {"prompt": "x"}, wait=10)
    assert prediction.status == "processing"
    assert len(prediction.output or ()) == 1


async def test_deployments(client: Client) -> None:
    """Create by deployment."""
    prediction = await client.deployments.predictions.async_create("sandbox/image", {"prompt": "x"})
    assert prediction.model == SCHNELL


async def test_models_and_versions(client: Client) -> None:
    """Get a model and list its versions; list all models; the account and the hardware."""
    model = await client.models.async_get(SCHNELL)
    (version,) = (await model.versions.async_list()).results
    assert version.openapi_schema["components"]["schemas"]["Input"]["required"] == ["prompt"]
    assert (await model.versions.async_get(version.id)).id == version.id
    assert len((await client.models.async_list()).results) >= 20
    assert (await client.models.async_search("flux schnell")).results[0].id == SCHNELL
    shelf = await client.collections.async_get("text-to-image")
    assert shelf.slug in [each.slug for each in (await client.collections.async_list()).results]
    assert SCHNELL in [each.id for each in shelf]
    deployment = await client.deployments.async_get("sandbox/image")
    assert deployment.id in [each.id for each in (await client.deployments.async_list()).results]
    assert (await client.accounts.async_current()).username == "sandbox"
    assert (await client.hardware.async_list())[0].sku == "cpu"


async def test_files(client: Client, tmp_path: Path) -> None:
    """Create from a path and from an open file, get, list, delete; and give one to a model."""
    picture = tmp_path / "boat.png"
    picture.write_bytes(b"not a picture, but nobody looks")
    first = await client.files.async_create(picture, metadata={"order": 7})
    second = await client.files.async_create(io.BytesIO(b"second"))
    assert (first.name, first.content_type) == ("boat.png", "image/png")
    assert (first.size, first.metadata) == (31, {"order": 7})
    assert [each.id for each in await client.files.async_list()] == [second.id, first.id]
    assert (await client.files.async_get(first.id)).checksums == first.checksums
    with picture.open("rb") as content:
        given: dict[str, Any] = {"prompt": "x", "image": content}
        prediction = await client.models.predictions.async_create(DEV, given)
    assert prediction.input is not None
    third = (await client.files.async_list())[0]
    assert prediction.input["image"] == third.urls["get"]
    assert await client.files.async_delete(second.id)
    with pytest.raises(ReplicateError, match="File not found"):
        await client.files.async_get(second.id)


async def test_webhooks(client: Client) -> None:
    """`webhooks.validate` takes what was delivered, and nothing that was touched on the way."""
    secret = await client.webhooks.default.async_secret()
    async with receiving() as receiver:
        prediction = await client.predictions.async_create(
            version=LLAMA,
            input={"prompt": "x"},
            webhook=receiver.url,
            webhook_events_filter=["start", "completed"],
        )
        await prediction.async_wait()
        for got in await receiver.until("succeeded"):
            headers, body = dict(got.headers), got.body.decode()
            Webhooks.validate(headers=headers, body=body, secret=secret, tolerance=300)
            with pytest.raises(InvalidSignatureError):
                Webhooks.validate(headers=headers, body=body + " ", secret=secret)
    assert receiver.all[-1].json["id"] == prediction.id
    assert receiver.all[-1].json["output"] == prediction.output


async def test_refusals(client: Client) -> None:
    """ReplicateError with the status and detail that was sent."""
    with pytest.raises(ReplicateError) as refusal:
        await client.predictions.async_create(version=SCHNELL, input={})
    assert refusal.value.status == 422
    assert refusal.value.title == "Input validation failed"


async def test_the_synchronous_client(sandbox_client: SandboxClient, tmp_path: Path) -> None:
    """Its blocking face works as well: run, stream, predictions, files, the webhook secret."""
    client = Client(
        api_token="any",
        base_url=sandbox_client.sandbox.url,
        transport=httpx.HTTPTransport(),
    )
    client.poll_interval = 0.005
    picture = tmp_path / "boat.png"
    picture.write_bytes(b"not a picture")

    def work() -> None:
        with client._client:
            assert "".join(client.run(LLAMA, input={"prompt": "Hello"})).startswith("[sandbox ")
            links: Any = client.run(SCHNELL, input={"prompt": "a boat"})
            assert links[0].startswith(sandbox_client.sandbox.url)
            events = list(client.stream(LLAMA, input={"prompt": "x [[tokens=30]]"}))
            assert [each.event.value for each in events] == ["output"] * 30 + ["done"]
            prediction = client.predictions.create(version=LLAMA, input={"prompt": "x"})
            prediction.wait()
            assert prediction.status == "succeeded"
            hanging = client.models.predictions.create(SCHNELL, {"prompt": "x [[hang]]"})
            hanging.cancel()
            assert hanging.status == "canceled"
            assert client.predictions.get(prediction.id).output == prediction.output
            assert client.predictions.list().results[0].id == hanging.id
            file = client.files.create(picture)
            assert client.files.get(file.id).size == 13
            assert client.files.delete(file.id)
            assert client.webhooks.default.secret().key.startswith("whsec_")

    await asyncio.to_thread(work)
