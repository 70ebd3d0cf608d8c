"""A real grpc.aio server on loopback with the whole inbound chain and tiny servicers behind it."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2_grpc

from mediagate.v1 import media_pb2_grpc, models_pb2_grpc, text_pb2_grpc
from mediagate_server.api.interceptors.admission import (
    AdmissionInterceptor,
    ConcurrencyLimitInterceptor,
    ReceiveLimitInterceptor,
)
from mediagate_server.api.interceptors.authentication import (
    Authenticate,
    AuthInterceptor,
    authenticate_local,
)
from mediagate_server.api.interceptors.cost_trailer import MeteringInterceptor
from mediagate_server.api.interceptors.error_handler import ErrorInterceptor
from mediagate_server.api.interceptors.interceptor_chain import InterceptorChain
from mediagate_server.api.interceptors.metrics_and_access_log import RpcMetricsInterceptor
from mediagate_server.api.interceptors.rate_limit import RateLimitInterceptor
from mediagate_server.api.interceptors.request_validation import ValidationInterceptor
from mediagate_server.runtime.fair_scheduler import FairScheduler

MOST_AT_WORK = 2

REGISTER: dict[type[Any], Callable[[Any, grpc.aio.Server], None]] = {
    text_pb2_grpc.TextServiceServicer: text_pb2_grpc.add_TextServiceServicer_to_server,
    media_pb2_grpc.MediaServiceServicer: media_pb2_grpc.add_MediaServiceServicer_to_server,
    health_pb2_grpc.HealthServicer: health_pb2_grpc.add_HealthServicer_to_server,
    models_pb2_grpc.ModelServiceServicer: models_pb2_grpc.add_ModelServiceServicer_to_server,
}


@dataclass(slots=True)
class InterceptorServer:
    """A running server and what a test wants of it."""

    address: str
    channel: grpc.aio.Channel
    observe: RpcMetricsInterceptor
    admission: AdmissionInterceptor


Start = Callable[..., Awaitable[InterceptorServer]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts a server with some servicers; stops them all after the test."""
    async with AsyncExitStack() as stack:

        async def start_server(
            *servicers: object,
            authenticate: Authenticate = authenticate_local,
            max_open_rpcs: int = 0,
            requests_per_minute: Callable[[], int] = lambda: 0,
            clock: Callable[[], float] = time.time,
            not_built: tuple[str, ...] = (),
            handlers: tuple[grpc.GenericRpcHandler, ...] = (),
            limited: tuple[str, ...] = (),
            receive: ReceiveLimitInterceptor | None = None,
        ) -> InterceptorServer:
            observe = RpcMetricsInterceptor()
            admission = AdmissionInterceptor(lambda: max_open_rpcs)
            chain = InterceptorChain(
                [
                    observe,
                    ErrorInterceptor(),
                    AuthInterceptor(authenticate),
                    admission,
                    RateLimitInterceptor(lambda _: requests_per_minute(), clock),
                    receive or ReceiveLimitInterceptor(FairScheduler()),
                    ConcurrencyLimitInterceptor(FairScheduler(), limited, MOST_AT_WORK),
                    MeteringInterceptor(),
                    ValidationInterceptor(),
                ],
                not_built,
            )
            server = grpc.aio.server(interceptors=[chain])
            for servicer in servicers:
                for kind, register in REGISTER.items():
                    if isinstance(servicer, kind):
                        register(servicer, server)
            server.add_generic_rpc_handlers(handlers)
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            stack.push_async_callback(server.stop, 0)
            address = f"127.0.0.1:{port}"
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
            return InterceptorServer(address, channel, observe, admission)

        yield start_server
