"""How many rpcs may be open at once: one caller's flood leaves room for the next one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as details
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mediagate.v1 import text_pb2, text_pb2_grpc
from mediagate_server.api.interceptors.rpc_call import RpcCall
from mediagate_server.errors import CircuitOpen
from mediagate_server.observability import metrics
from mediagate_server.rpc_context import Caller
from tests.builders import stream_text_request
from tests.grpc_errors import detail_of, reason_of, rpc_error

from .conftest import InterceptorServer, Start
from .fake_servicers import Texts, delta


class HeldStream(Texts):
    """Streams one delta, and ends when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = asyncio.Event()

    async def StreamText(
        self, request: text_pb2.StreamTextRequest, context: Any
    ) -> AsyncIterator[text_pb2.StreamTextResponse]:
        yield delta("x")
        await self.let_go.wait()
        if request.prompt == "fail":
            raise CircuitOpen("down", retry_after=1)


async def by_metadata(call: RpcCall) -> Caller:
    """Whoever the caller says it is."""
    return Caller(str(call.metadata("tenant")))


def stream(server: InterceptorServer, tenant: str, prompt: str = "x") -> Any:
    """A stream that stays open."""
    stub: Any = text_pb2_grpc.TextServiceStub(server.channel)
    return stub.StreamText(stream_text_request(prompt=prompt), metadata=(("tenant", tenant),))


async def opened(server: InterceptorServer, tenant: str, prompt: str = "x") -> Any:
    """One that is known to be admitted."""
    call = stream(server, tenant, prompt)
    assert (await call.read()).delta.text == "x"
    return call


async def test_a_caller_over_its_share_is_refused(start: Start) -> None:
    """RESOURCE_EXHAUSTED, counted, and when to come again; others are still served."""
    server = await start(HeldStream(), authenticate=by_metadata, max_open_rpcs=8)
    before = metrics.rpcs_refused._value.get()
    streams = [await opened(server, "flood") for _ in range(4)]
    error = await rpc_error(stream(server, "flood").read())
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    retry: Any = detail_of(error, details.RetryInfo)
    assert retry.retry_delay.seconds == 1
    quota: Any = detail_of(error, details.QuotaFailure)
    assert quota.violations[0].subject == "tenant:flood"
    assert metrics.rpcs_refused._value.get() == before + 1
    streams += [await opened(server, "other") for _ in range(2)]
    assert server.admission.open == 6
    for call in streams:
        call.cancel()


@pytest.mark.parametrize("attackers", range(1, 9))
async def test_greedy_callers_leave_room_for_others(start: Start, attackers: int) -> None:
    """Each takes all that it gets, in turns; one who comes then is admitted."""
    server = await start(HeldStream(), authenticate=by_metadata, max_open_rpcs=32)
    streams, refused = [], set[str]()
    names = [f"t{number}" for number in range(attackers)]
    while len(refused) < attackers:
        for name in names:
            try:
                streams.append(await opened(server, name))
            except grpc.aio.AioRpcError:
                refused.add(name)
    streams.append(await opened(server, "innocent"))
    for call in streams:
        call.cancel()


@pytest.mark.parametrize("end", ["success", "failure", "cancel"])
async def test_a_slot_is_released(start: Start, end: str) -> None:
    """However the rpc ends."""
    servicer = HeldStream()
    server = await start(servicer, authenticate=by_metadata, max_open_rpcs=2)
    call = await opened(server, "a", "fail" if end == "failure" else "x")
    await rpc_error(stream(server, "a").read())
    if end == "cancel":
        call.cancel()
    else:
        servicer.let_go.set()
        with contextlib.suppress(grpc.aio.AioRpcError):
            assert await call.read() is grpc.aio.EOF
    await server.observe.wait_until_idle()
    assert server.admission.open == 0
    assert server.admission._open_by_tenant == {}
    (await opened(server, "a")).cancel()


async def test_a_health_check_is_never_refused(start: Start) -> None:
    """Watches that nobody has to show a key for are bounded, and keep no tenant out."""
    server = await start(
        HeldStream(), health.aio.HealthServicer(), authenticate=by_metadata, max_open_rpcs=4
    )
    stub: Any = health_pb2_grpc.HealthStub(server.channel)
    watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(2)]
    for watch in watches:
        await watch.read()
    error = await rpc_error(stub.Watch(health_pb2.HealthCheckRequest()).read())
    assert reason_of(error) == "QUEUE_FULL"
    await stub.Check(health_pb2.HealthCheckRequest())
    (await opened(server, "a")).cancel()
    for watch in watches:
        watch.cancel()
