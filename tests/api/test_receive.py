"""Request messages that come late, in part or not at all; and who waits for them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mediagate.v1 import models_pb2, models_pb2_grpc
from mediagate_server.api.interceptors.admission import ReceiveLimitInterceptor
from mediagate_server.api.interceptors.rpc_call import RpcCall
from mediagate_server.errors import ApiKeyMissing
from mediagate_server.rpc_context import Caller
from mediagate_server.runtime.fair_scheduler import FairScheduler
from tests.builders import text_request
from tests.grpc_errors import rpc_error

from .conftest import InterceptorServer, Start
from .fake_servicers import Context, Texts

METHOD = "/mediagate.v1.TextService/GenerateText"
MESSAGE = text_request(prompt="Hello").SerializeToString()


async def _get_model(
    self: object, request: models_pb2.GetModelRequest, context: Context
) -> models_pb2.GetModelResponse:
    return models_pb2.GetModelResponse()


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        return health_pb2.HealthCheckResponse()


async def by_metadata(call: RpcCall) -> Caller:
    """Whoever the caller says it is."""
    return Caller(str(call.metadata("tenant")))


def call(
    server: InterceptorServer, tenant: str, *messages: bytes, more: asyncio.Event | None = None
) -> Any:
    """An rpc that sends these, and ends its half only once `more` is set."""

    async def requests() -> AsyncIterator[bytes]:
        for message in messages:
            yield message
        if more:
            await more.wait()

    stub: Any = server.channel.stream_unary(METHOD)
    return stub(requests(), metadata=(("tenant", tenant),))


async def test_a_call_without_a_message(start: Start) -> None:
    error = await rpc_error(call(await start(Texts()), "a"))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "request: must be sent" in str(error.details())


async def test_a_message_that_never_arrives(start: Start) -> None:
    server = await start(
        Texts(), receive=ReceiveLimitInterceptor(FairScheduler(), seconds=lambda: 0.05)
    )
    error = await rpc_error(call(server, "a", more=asyncio.Event()))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "request: must come whole within 0.05 s" in str(error.details())


async def test_a_call_without_half_close_is_served(start: Start) -> None:
    """As some clients leave it."""
    server = await start(Texts())
    await call(server, "a", MESSAGE, more=asyncio.Event())


async def test_data_after_the_message_is_not_read(start: Start) -> None:
    await call(await start(Texts()), "a", MESSAGE, MESSAGE, MESSAGE)


async def test_late_messages_delay_only_their_own_tenant(start: Start) -> None:
    server = await start(
        Texts(), authenticate=by_metadata, receive=ReceiveLimitInterceptor(FairScheduler(), limit=2)
    )
    more = asyncio.Event()
    late = [call(server, "late", more=more) for _ in range(2)]
    for rpc in late:
        await rpc.wait_for_connection()
    behind = asyncio.ensure_future(call(server, "late", MESSAGE))
    await call(server, "other", MESSAGE)
    assert not behind.done()
    late.pop().cancel()  # Its place is given back.
    await behind
    more.set()
    assert (await rpc_error(late.pop())).code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_unauthenticated_messages_are_not_read(start: Start) -> None:
    async def nobody(_: RpcCall) -> Caller:
        raise ApiKeyMissing("no key")

    server = await start(Texts(), authenticate=nobody)
    error = await rpc_error(call(server, "a", more=asyncio.Event()))
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_slow_messages_do_not_block_short_calls(start: Start) -> None:
    """A cancel, a look and a return have places of their own."""
    models: Any = type("Models", (models_pb2_grpc.ModelServiceServicer,), {"GetModel": _get_model})
    server = await start(
        Texts(), models(), receive=ReceiveLimitInterceptor(FairScheduler(), limit=1)
    )
    more = asyncio.Event()
    late = call(server, "a", more=more)
    await late.wait_for_connection()
    stub: Any = models_pb2_grpc.ModelServiceStub(server.channel)
    await stub.GetModel(models_pb2.GetModelRequest(model="flux-dev"))
    more.set()
    await rpc_error(late)


async def test_messages_without_a_key_are_size_limited(start: Start) -> None:
    """It is counted and decoded for anybody."""
    server = await start(Health())
    check: Any = server.channel.unary_unary("/grpc.health.v1.Health/Check")
    await check(b"\x0a\x00" * 2_000)
    assert "at most 4,096 bytes" in str((await rpc_error(check(b"\x0a\x00" * 60_000))).details())
