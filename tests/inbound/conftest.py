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
from mediagate_server.interceptors.inbound.admission import Admission
from mediagate_server.interceptors.inbound.auth import Auth, Authenticate, local
from mediagate_server.interceptors.inbound.chain import Chain
from mediagate_server.interceptors.inbound.errors import Errors
from mediagate_server.interceptors.inbound.metering import Metering
from mediagate_server.interceptors.inbound.observe import Observe
from mediagate_server.interceptors.inbound.rate_limit import RateLimit
from mediagate_server.interceptors.inbound.receive import Receive
from mediagate_server.interceptors.inbound.validate import Validate
from mediagate_server.interceptors.inbound.work_limit import WorkLimit
from mediagate_server.loop_share import LoopShare

MOST_AT_WORK = 2

REGISTER: dict[type[Any], Callable[[Any, grpc.aio.Server], None]] = {
    text_pb2_grpc.TextServiceServicer: text_pb2_grpc.add_TextServiceServicer_to_server,
    media_pb2_grpc.MediaServiceServicer: media_pb2_grpc.add_MediaServiceServicer_to_server,
    health_pb2_grpc.HealthServicer: health_pb2_grpc.add_HealthServicer_to_server,
    models_pb2_grpc.ModelServiceServicer: models_pb2_grpc.add_ModelServiceServicer_to_server,
}


@dataclass(slots=True)
class Gate:
    """A running server and what a test wants of it."""

    address: str
    channel: grpc.aio.Channel
    observe: Observe
    admission: Admission


Start = Callable[..., Awaitable[Gate]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts a gate with some servicers; stops them all after the test."""
    async with AsyncExitStack() as stack:

        async def start_one(
            *servicers: object,
            authenticate: Authenticate = local,
            max_open_rpcs: int = 0,
            requests_per_minute: Callable[[], int] = lambda: 0,
            clock: Callable[[], float] = time.time,
            not_built: tuple[str, ...] = (),
            handlers: tuple[grpc.GenericRpcHandler, ...] = (),
            limited: tuple[str, ...] = (),
            receive: Receive | None = None,
        ) -> Gate:
            observe = Observe()
            admission = Admission(lambda: max_open_rpcs)
            chain = Chain(
                [
                    observe,
                    Errors(),
                    Auth(authenticate),
                    admission,
                    RateLimit(lambda _: requests_per_minute(), clock),
                    receive or Receive(LoopShare()),
                    WorkLimit(LoopShare(), limited, MOST_AT_WORK),
                    Metering(),
                    Validate(),
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
            return Gate(address, channel, observe, admission)

        yield start_one
