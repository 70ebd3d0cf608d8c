"""The fast upstream has Replicate's shape: the SDK and our own adapter read it."""

import asyncio

import httpx
import pytest
from replicate.client import Client

from bench.upstream_control import UpstreamControl
from bench.upstream_responses import MODEL, ResponseScript
from mediagate_server.upstream.port import CreateRequest, OutputEvent, PredictionStatus
from mediagate_server.upstream.replicate.client import ReplicateClient
from mediagate_server.upstream.settings import ReplicateSettings
from tests.sse_batches import collect_batches

INPUT = {"prompt": "Why?"}


async def test_the_sdk_runs_and_streams_a_model(control: UpstreamControl) -> None:
    control.follow(ResponseScript(succeeded=False, tokens=25))
    sdk = Client(api_token="any", base_url=control.url)
    prediction = await sdk.models.predictions.async_create(model=MODEL, input=INPUT)
    statuses = [str(prediction.status)]
    await prediction.async_reload()
    statuses.append(str(prediction.status))
    assert statuses == ["processing", "succeeded"]
    streamed = [
        event.data
        async for event in await sdk.async_stream(MODEL, input=INPUT)
        if event.event.value == "output"
    ]
    assert prediction.output == streamed == list(ResponseScript(tokens=25).words())
    counts = control.counts()
    assert (counts["creates"], counts["gets"], counts["streams"]) == (2, 1, 1)


@pytest.mark.parametrize("interval", [0.0, 0.001])
async def test_our_adapter_reads_its_streams(control: UpstreamControl, interval: float) -> None:
    script = ResponseScript(
        succeeded=False, tokens=3_000 if not interval else 30, interval=interval
    )
    control.follow(script)
    async with ReplicateClient(ReplicateSettings(base_url=control.url)) as client:
        prediction = await client.create(CreateRequest(MODEL, INPUT, cancel_after=5))
        assert prediction.stream_url
        async with client.stream(prediction.stream_url) as stream:
            events = (await collect_batches(stream)).events
    text = "".join(event.text for event in events if isinstance(event, OutputEvent))
    assert text == "".join(script.words())
    assert len(text) == script.text_bytes()
    assert control.counts()["tokens"] == script.tokens


async def test_creates_can_be_answered_with_a_terminal_prediction(control: UpstreamControl) -> None:
    control.follow(ResponseScript(succeeded=True, tokens=4))
    async with ReplicateClient(ReplicateSettings(base_url=control.url)) as client:
        first = await client.create(CreateRequest(MODEL, INPUT, cancel_after=5))
        second = await client.create(CreateRequest(MODEL, INPUT, cancel_after=5))
        cancelled = await client.cancel(first.id)
    assert first.status is second.status is PredictionStatus.SUCCEEDED
    assert first.id != second.id
    assert (first.metrics or {})["token_output_count"] == 4
    assert cancelled is not None
    assert cancelled.status is PredictionStatus.CANCELED


async def test_held_streams_wait_until_released(control: UpstreamControl) -> None:
    control.follow(ResponseScript(succeeded=False, tokens=5, held=True))
    async with httpx.AsyncClient() as client:

        async def read() -> str:
            return (await client.get(f"{control.url}/stream/any")).text

        reading = asyncio.ensure_future(read())
        assert await asyncio.to_thread(control.wait_for_streams, 1, 10.0) == 1
        assert control.counts()["tokens"] == 0
        control.go()
        assert "event: done" in await reading
    assert control.counts()["tokens"] == 5


def test_a_chunked_request_is_answered_once(control: UpstreamControl) -> None:
    def pieces() -> list[bytes]:
        return [b'{"input":', b'{"prompt":', b'"x"}}']

    content = b"".join(pieces())
    answer = httpx.post(
        f"{control.url}/v1/models/{MODEL}/predictions",
        content=iter(pieces()),
        headers={"Content-Length": str(len(content))},
    )
    assert answer.status_code == 201
    assert control.counts()["creates"] == 1
