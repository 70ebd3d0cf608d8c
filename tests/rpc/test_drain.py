"""Drain: every call is sent away with DRAINING, none is cancelled, which says "my wish"."""

import asyncio
import resource
from collections import Counter
from typing import Any
from uuid import uuid4

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mediagate.v1 import generations_pb2, media_pb2, text_pb2
from mediagate_sandbox.server import Sandbox
from mediagate_server.app import Server
from tests.builders import stream_text_request, text_request
from tests.grpc_errors import metadata_of, reason_of, rpc_error

from .generation_waits import get_bill, wait_for_end
from .media_transfers import until
from .stubs import OpenServer, Stubs

OWN = (("grpc.use_local_subchannel_pool", 1),)
CALLERS = 12


async def ended(server: Server) -> None:
    """End a server while its callers are still there."""
    await server.__aexit__(None, None, None)


async def ask_until(over: asyncio.Event, address: str, number: int, seen: Counter[str]) -> None:
    """One raw stub that calls again and again on a connection of its own, and how that ended."""
    async with grpc.aio.insecure_channel(address, options=OWN) as channel:
        stubs = Stubs.on(channel)
        while not over.is_set():
            try:
                match number % 3:
                    case 0:
                        await stubs.generations.ListGenerations(
                            generations_pb2.ListGenerationsRequest(page_size=1)
                        )
                    case 1:
                        await stubs.text.GenerateText(text_request(prompt="[[tokens=2]] x"))
                    case _:
                        request = stream_text_request(prompt="[[tokens=3 interval_ms=5]] x")
                        async for _ in stubs.text.StreamText(request):
                            pass
            except grpc.aio.AioRpcError as error:
                seen[error.code().name] += 1
                has_details = "grpc-status-details-bin" in dict(error.trailing_metadata() or ())
                if error.code() is grpc.StatusCode.UNAVAILABLE and not has_details:
                    return  # The connection is closed: the server has gone.
                seen[reason_of(error)] += 1
                await asyncio.sleep(0)
            else:
                seen["OK"] += 1


@pytest.mark.parametrize("again", range(3))
async def test_draining_a_busy_server_cancels_no_call(
    sandbox: Sandbox, open_server: OpenServer, again: int
) -> None:
    """Whatever a call's place is when the server ends: under way, within gRPC, on the wire."""
    del again
    seen: Counter[str] = Counter()
    over = asyncio.Event()
    async with open_server(sandbox.url, creates_per_minute=60_000) as (_, server):
        callers = [
            asyncio.create_task(ask_until(over, server.grpc_address, number, seen))
            for number in range(CALLERS)
        ]
        await until(lambda: seen["OK"] > 100)
        await ended(server)
        over.set()
        await asyncio.gather(*callers)
    assert set(seen) <= {"OK", "UNAVAILABLE", "DRAINING"}
    assert seen["DRAINING"] > 0


async def test_calls_that_ignore_the_drain_end_with_it(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """An upload that stands still, and whoever watches the server's health."""
    async with open_server(sandbox.url) as (stubs, server):
        upload = stubs.media.UploadMedia()
        await upload.write(
            media_pb2.UploadMediaRequest(metadata=media_pb2.UploadMetadata(media_type="text/plain"))
        )
        watch = health_pb2_grpc.HealthStub(stubs.channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        await until(lambda: bool(server._api.rpc_metrics.in_flight))
        await ended(server)
        for rest in (upload, _rest(watch)):
            error = await rpc_error(rest)
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert reason_of(error) == "DRAINING"


def start_call(kind: str, stubs: Stubs, request_id: str = "") -> Any:
    """A text that takes a while, by a unary call or a stream, as one that ends with its last."""
    fields: dict[str, Any] = {"prompt": "[[tokens=40 interval_ms=20]] x", "request_id": request_id}
    if kind == "unary":
        return stubs.text.GenerateText(text_pb2.GenerateTextRequest(**fields))
    return _rest(stubs.text.StreamText(text_pb2.StreamTextRequest(**fields)))


@pytest.mark.parametrize("kind", ["unary", "stream"])
@pytest.mark.parametrize("by", ["its own wait", "force"])
async def test_a_generated_request_id_is_returned_on_drain(
    sandbox: Sandbox, open_server: OpenServer, kind: str, by: str
) -> None:
    """Else an accepted call that is sent again would be made, and paid, twice."""
    async with open_server(sandbox.url) as (stubs, server):
        call = asyncio.ensure_future(start_call(kind, stubs))
        while not (await get_bill(sandbox))["entries"]:
            pass
        if by == "force":
            server._api.errors.end_all()
        else:
            await ended(server)
        error = await rpc_error(call)
        assert reason_of(error) == "DRAINING"
        metadata = metadata_of(error)
    async with open_server(sandbox.url) as (stubs, _):
        await start_call(kind, stubs, metadata["request_id"])
        listed = await stubs.generations.ListGenerations(generations_pb2.ListGenerationsRequest())
        assert [generation.id for generation in listed.generations] == [metadata["generation_id"]]
    assert len((await get_bill(sandbox))["entries"]) == 1


async def test_unaccepted_calls_get_no_request_id_on_drain(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """It has begun nothing, and its request_id is free."""
    async with open_server(sandbox.url) as (stubs, server):
        server._api.errors.end_all()
        error = await rpc_error(start_call("unary", stubs, str(uuid4())))
        assert reason_of(error) == "DRAINING"
        assert metadata_of(error) == {}


async def test_draining_works_without_free_file_descriptors(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """Whether anybody is there cannot be found out then, and the server is stopped in any case."""
    _, most = allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with open_server(sandbox.url) as (stubs, server):
        watch = health_pb2_grpc.HealthStub(stubs.channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        # What is open stays open; nothing more can be opened. Not 0: poll() of another thread needs
        # room for what it looks at.
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, most))
        ending = asyncio.create_task(ended(server))
        try:
            error = await rpc_error(_rest(watch))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, allowed)
        assert reason_of(error) == "DRAINING"
        await ending


async def _rest(call: grpc.aio.UnaryStreamCall[Any, Any]) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


async def test_draining_a_waiting_call_is_not_a_disconnect(
    sandbox: Sandbox, open_server: OpenServer
) -> None:
    """It is sent away, and what it began is cancelled by nobody, also with no grace at all."""
    request = text_request(prompt="[[tokens=40 interval_ms=20]] x")
    request.options.disconnect_grace.FromSeconds(0)
    async with open_server(sandbox.url) as (stubs, server):
        call = stubs.text.GenerateText(request)
        while not (await get_bill(sandbox))["entries"]:
            pass
        await ended(server)
        error = await rpc_error(call)
        assert reason_of(error) == "DRAINING"
    async with open_server(sandbox.url) as (stubs, _):
        listed = await stubs.generations.ListGenerations(generations_pb2.ListGenerationsRequest())
        generation = await wait_for_end(stubs, listed.generations[0].id)
    assert generation.text.text
    (entry,) = (await get_bill(sandbox))["entries"]
    assert entry["status"] == "succeeded"
