"""A burst of calls and a flood of streams, against a server as it is put together."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from mediagate.v1 import generations_pb2, generations_pb2_grpc
from mediagate_sandbox.server import Sandbox
from mediagate_server.app import Server
from tests.builders import stream_text_request
from tests.grpc_errors import reason_of, rpc_error

from .stubs import OpenServer

_REFUSED_STREAM = "RST_STREAM with error code 7"
_UNKNOWN = generations_pb2.GetGenerationRequest(id="gen_01KAAAAAAAAAAAAAAAAAAAAAAA")
_ENDLESS = stream_text_request(
    prompt="[[tokens=4000 interval_ms=1000 first_ms=1]] hello", disconnect_grace=Duration()
)


async def _metrics(server: Server) -> dict[str, float]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{server.operations_address}/metrics") as answer,
    ):
        lines = (await answer.text()).splitlines()
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))
    }


@pytest.mark.parametrize("connections", [1, 40])
async def test_every_call_of_a_burst_is_answered_and_counted(
    sandbox: Sandbox, open_server: OpenServer, connections: int
) -> None:
    """4,000 at once; what is asked for is not there, which each of them is told.

    Where many processes share a core, a connection frees its ended streams too slowly and refuses
    new ones. HTTP/2 says that a refused call was never looked at: it is sent again, and the server
    has counted it once.
    """
    name = (
        'grpc_server_handled_total{grpc_code="NOT_FOUND",grpc_method="GetGeneration",'
        'grpc_service="mediagate.v1.GenerationService",grpc_type="unary"}'
    )
    async with open_server(sandbox.url) as (_, server), AsyncExitStack() as stack:
        before = (await _metrics(server)).get(name, 0)
        stubs: list[Any] = []
        for _ in range(connections):
            channel = grpc.aio.insecure_channel(
                server.grpc_address, options=(("grpc.use_local_subchannel_pool", 1),)
            )
            stubs.append(
                generations_pb2_grpc.GenerationServiceStub(await stack.enter_async_context(channel))
            )

        async def ask(number: int) -> str:
            while True:
                error = await rpc_error(stubs[number % connections].GetGeneration(_UNKNOWN))
                if _REFUSED_STREAM not in str(error.details()):
                    return error.code().name

        assert Counter(await asyncio.gather(*map(ask, range(4_000)))) == {"NOT_FOUND": 4_000}
        assert (await _metrics(server))[name] == before + 4_000


async def test_streams_beyond_the_limit_are_refused(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """With a reason, and counted; nothing is accepted or spent for them."""
    async with open_server(sandbox.url, max_open_rpcs=4) as (stubs, server):
        open_streams = [stubs.text.StreamText(_ENDLESS) for _ in range(2)]
        for call in open_streams:
            await call.read()
        before = (await _metrics(server))["mediagate_rpcs_refused_total"]
        error = await rpc_error(stubs.text.StreamText(_ENDLESS).read())
        assert (error.code(), reason_of(error)) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "QUEUE_FULL",
        )
        metrics = await _metrics(server)
        assert metrics["mediagate_rpcs_refused_total"] == before + 1
        assert metrics["mediagate_rpcs_open"] == 2
        for call in open_streams:
            call.cancel()


def _unreachable_streams(metrics: Mapping[str, float]) -> float:
    """Openings of streams that count against upstream."""
    return sum(
        value
        for name, value in metrics.items()
        if name.startswith("mediagate_upstream_requests_total")
        and 'endpoint="stream"' in name
        and 'outcome="unreachable"' in name
    )


async def test_a_text_beyond_the_open_streams_is_polled(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """It is told, counted and made whole; once there is room it is streamed again."""
    async with open_server(sandbox.url, upstream_max_streams=1) as (stubs, server):
        open_stream: Any = stubs.text.StreamText(_ENDLESS)
        while not (await open_stream.read()).delta.text:
            pass
        earlier = await _metrics(server)
        before = earlier["mediagate_upstream_streams_not_opened_total"]
        beyond = stubs.text.StreamText(stream_text_request(prompt="[[say=whole]] hello"))
        events = [event async for event in beyond]
        assert any(event.status.polled for event in events)
        assert "".join(event.delta.text for event in events) == "whole"
        metrics = await _metrics(server)
        assert metrics["mediagate_upstream_streams_not_opened_total"] > before
        assert metrics["mediagate_upstream_streams_open"] == 1
        assert _unreachable_streams(metrics) == _unreachable_streams(earlier)
        waits: Any = stubs.text.StreamText(_ENDLESS)
        while not (await waits.read()).status.polled:
            pass
        open_stream.cancel()
        while not (event := await waits.read()).delta.text:
            # It may be told again while there is no room, and of nothing but that.
            assert event.HasField("status")
        waits.cancel()
