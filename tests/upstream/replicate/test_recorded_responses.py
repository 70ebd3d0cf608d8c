"""Whole answers in the shapes that were recorded of Replicate, over the wire."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web

from mediagate_server.upstream.port import CreateRequest, Prediction, PredictionStatus
from mediagate_server.upstream.replicate.client import ReplicateClient
from mediagate_server.upstream.settings import ReplicateSettings

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]

ID = "gm3qorzdhgbfurvjtvhg6dckhu"
URLS = {"get": f"https://api.replicate.com/v1/predictions/{ID}", "cancel": "https://x/cancel"}


async def created(serve: Serve, body: dict[str, Any], status: int = 201) -> Prediction:
    """What the adapter makes of this answer to a create."""

    async def upstream(_: web.BaseRequest) -> web.Response:
        return web.Response(
            status=status, text=json.dumps(body), headers={"Preference-Applied": "wait=10"}
        )

    async with ReplicateClient(ReplicateSettings(base_url=await serve(upstream))) as client:
        return await client.create(CreateRequest("meta/llama", {}, cancel_after=60))


@pytest.mark.parametrize("status", [200, 201, 202])
async def test_a_sync_create_with_all_its_output(serve: Serve, status: int) -> None:
    """Says processing, has no metrics and no end: all of the output, and still no proof."""
    prediction = await created(
        serve,
        {
            "id": ID,
            "model": "replicate-internal/llama-3-8b-instruct-int8-triton",
            "version": "hidden",
            "input": {"prompt": "Hello"},
            "logs": "",
            "output": ["Hi", " there"],
            "data_removed": False,
            "error": None,
            "status": "processing",
            "created_at": "2024-10-29T16:30:01.123Z",
            "urls": URLS | {"stream": "https://stream.replicate.com/v1/files/abc"},
        },
        status,
    )
    assert prediction.status is PredictionStatus.PROCESSING
    assert prediction.output == ["Hi", " there"]
    assert prediction.metrics == {}
    assert prediction.completed_at is None
    assert prediction.stream_url == "https://stream.replicate.com/v1/files/abc"


async def test_a_sync_create_with_an_inline_image(serve: Serve) -> None:
    """400 kB of data URI in one answer."""
    picture = "data:image/png;base64," + "A" * 400_000
    prediction = await created(serve, {"id": ID, "status": "processing", "output": [picture]})
    assert prediction.output == [picture]


async def test_a_create_response_of_the_early_api(serve: Serve) -> None:
    """No output, data_removed, metrics, times or web link: the keys are simply not there."""
    prediction = await created(
        serve,
        {
            "id": ID,
            "model": "replicate/lifeboat-70b",
            "version": "d-cdf1ba8f9c2d1a1c9bd1d8f5cba3a4f8",
            "input": {"prompt": "Hello"},
            "logs": None,
            "error": None,
            "status": "starting",
            "created_at": "2023-11-27T19:36:28.58541892Z",
            "urls": URLS,
        },
    )
    assert prediction == Prediction(
        id=ID,
        status=PredictionStatus.STARTING,
        model="replicate/lifeboat-70b",
        input={"prompt": "Hello"},
        created_at=datetime(2023, 11, 27, 19, 36, 28, 585_418, tzinfo=UTC),
    )


async def test_a_finished_language_model(serve: Serve) -> None:
    """Counts as integers, times as the digits that were written."""

    async def upstream(_: web.BaseRequest) -> web.Response:
        return web.Response(
            body=b'{"id":"x","status":"succeeded","output":["a"],"started_at":"2024-04-18T19:01:22.6Z",'
            b'"completed_at":"2024-04-18T19:01:23.123456789Z","metrics":{"input_token_count":14,'
            b'"output_token_count":512,"predict_time":4.938,"predict_time_share":1.50,'
            b'"time_to_first_token":0.086,"tokens_per_second":103.683072,"total_time":4.97}}'
        )

    async with ReplicateClient(ReplicateSettings(base_url=await serve(upstream))) as client:
        prediction = await client.get("x")
    assert {key: str(value) for key, value in (prediction.metrics or {}).items()} == {
        "input_token_count": "14",
        "output_token_count": "512",
        "predict_time": "4.938",
        "predict_time_share": "1.50",
        "time_to_first_token": "0.086",
        "tokens_per_second": "103.683072",
        "total_time": "4.97",
    }
    assert (prediction.metrics or {})["predict_time"] == Decimal("4.938")
    assert prediction.started_at == datetime(2024, 4, 18, 19, 1, 22, 600_000, tzinfo=UTC)
    assert prediction.completed_at == datetime(2024, 4, 18, 19, 1, 23, 123_456, tzinfo=UTC)
