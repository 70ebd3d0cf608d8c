"""No connection to upstream comes about: callers are told soon, and alike by every rpc."""

from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import generations_pb2, options_pb2, safety_pb2
from tests.builders import image_request, run_model_request, stream_text_request, text_request
from tests.grpc_errors import reason_of, retry_after, rpc_error
from tests.unreachable_addresses import black_hole, refused, silent

from .generation_waits import wait_for_end
from .stubs import OpenServer, Stubs


async def error_of(call: Any) -> tuple[grpc.StatusCode, str, str, float | None]:
    """How a call is refused."""
    error = await rpc_error(call)
    return error.code(), error.details() or "", reason_of(error), retry_after(error)


def calls(stubs: Stubs) -> list[Any]:
    """One of each kind."""
    run = run_model_request("black-forest-labs/flux-schnell")
    run.input["prompt"] = "x"
    data = image_request(prompt="x")
    data.options.fallback.mode = options_pb2.FallbackPolicy.MODE_CATALOG
    return [
        stubs.text.StreamText(stream_text_request(prompt="x")),
        stubs.text.GenerateText(text_request(prompt="x")),
        stubs.image.GenerateImage(data),
        stubs.models.RunModel(run),
        stubs.safety.CheckSafety(safety_pb2.CheckSafetyRequest(content="x")),
    ]


@pytest.mark.parametrize(
    ("open_address", "scheme", "connect", "tries"),
    [(refused, "http", 3.0, 3), (black_hole, "http", 1.5, 1), (silent, "https", 1.5, 1)],
)
async def test_every_rpc_returns_the_same_error(
    open_server: OpenServer, open_address: Any, scheme: str, connect: float, tries: int
) -> None:
    """A connection that is refused at once is tried for again, one that takes long is not."""
    with open_address() as address:
        url = f"{scheme}://{address}"
        async with open_server(url, upstream_connect_timeout=connect) as (stubs, _):
            outcomes = [await error_of(call) for call in calls(stubs)]
            listed = await stubs.generations.ListGenerations(
                generations_pb2.ListGenerationsRequest()
            )
    unavailable = grpc.StatusCode.UNAVAILABLE
    expected = (unavailable, "upstream cannot be reached", "UPSTREAM_UNAVAILABLE", 5.0)
    assert set(outcomes) == {expected}
    assert {len(generation.attempts) for generation in listed.generations} == {tries}
    assert {generation.cost.usd_nanos for generation in listed.generations} == {0}


async def test_a_watched_generation_has_the_same_error(open_server: OpenServer) -> None:
    """It was accepted before anybody knew."""
    with refused() as address:
        async with open_server(f"http://{address}") as (stubs, _):
            request = image_request(prompt="x", wait=Duration())
            begun = (await stubs.image.GenerateImage(request)).generation
            generation = await wait_for_end(stubs, begun.id)
    assert generation.error.message == "upstream cannot be reached"
