"""No connection to upstream comes about: callers are told soon, and alike by every rpc."""

from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import (
    generations_pb2,
    image_pb2,
    models_pb2,
    options_pb2,
    safety_pb2,
    text_pb2,
)
from tests.unreachable_addresses import black_hole, refused, silent

from .grpc_errors import reason_of, retry_after
from .stubs import OpenServer, Stubs


async def read(call: Any) -> None:
    """A stream to its end."""
    async for _ in call:
        pass


async def told(call: Any) -> tuple[grpc.StatusCode, str, str, float | None]:
    """How a call is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (read(call) if hasattr(call, "__aiter__") else call)
    error = caught.value
    return error.code(), error.details() or "", reason_of(error), retry_after(error)


def calls(stubs: Stubs) -> list[Any]:
    """One of each kind."""
    run = models_pb2.RunModelRequest(model="black-forest-labs/flux-schnell")
    run.input["prompt"] = "x"
    data = image_pb2.GenerateImageRequest(prompt="x")
    data.options.fallback.mode = options_pb2.FallbackPolicy.MODE_CATALOG
    return [
        stubs.text.StreamText(text_pb2.StreamTextRequest(prompt="x")),
        stubs.text.GenerateText(text_pb2.GenerateTextRequest(prompt="x")),
        stubs.image.GenerateImage(data),
        stubs.models.RunModel(run),
        stubs.safety.CheckSafety(safety_pb2.CheckSafetyRequest(content="x")),
    ]


@pytest.mark.parametrize(
    ("place", "scheme", "connect", "tries"),
    [(refused, "http", 3.0, 3), (black_hole, "http", 1.5, 1), (silent, "https", 1.5, 1)],
)
async def test_every_rpc_says_so_alike(
    open_server: OpenServer, place: Any, scheme: str, connect: float, tries: int
) -> None:
    """A connection that is refused at once is tried for again, one that takes long is not."""
    with place() as address:
        url = f"{scheme}://{address}"
        async with open_server(url, upstream_connect_timeout=connect) as (stubs, _):
            outcomes = [await told(call) for call in calls(stubs)]
            listed = await stubs.generations.ListGenerations(
                generations_pb2.ListGenerationsRequest()
            )
    unavailable = grpc.StatusCode.UNAVAILABLE
    expected = (unavailable, "upstream cannot be reached", "UPSTREAM_UNAVAILABLE", 5.0)
    assert set(outcomes) == {expected}
    assert {len(one.attempts) for one in listed.generations} == {tries}
    assert {one.cost.usd_nanos for one in listed.generations} == {0}


async def test_a_watched_generation_says_the_same(open_server: OpenServer) -> None:
    """It was accepted before anybody knew."""
    with refused() as address:
        async with open_server(f"http://{address}") as (stubs, _):
            request = image_pb2.GenerateImageRequest(prompt="x", wait=Duration())
            begun = (await stubs.image.GenerateImage(request)).generation
            ended = await stubs.generations.WaitGeneration(
                generations_pb2.WaitGenerationRequest(id=begun.id)
            )
    assert ended.generation.error.message == "upstream cannot be reached"
