"""Nobody but health and reflection gets past auth without a caller."""

from typing import Any

import grpc
import pytest

from mediagate_server.api.interceptors.authentication import AuthInterceptor
from mediagate_server.api.interceptors.rpc_call import Implementation, RpcCall, RpcMethod
from mediagate_server.errors import ApiKeyMissing
from mediagate_server.rpc_context import Caller


async def nobody(call: RpcCall) -> Caller:
    """Refuses everyone."""
    raise ApiKeyMissing("no key")


async def serve(call: RpcCall) -> bytes:
    """The handler."""
    return b"served"


def call_of(path: str) -> RpcCall:
    """A call of a method that exists."""
    handler: Any = grpc.unary_unary_rpc_method_handler(serve)
    context: Any = None
    return RpcCall(RpcMethod.of(path, handler, Implementation.IMPLEMENTED), context)


@pytest.mark.parametrize(
    "path",
    [
        "/mediagate.v1.TextService/GenerateText",
        "/mediagate.v1.AdminService/CreateKey",
        "/grpc.channelz.v1.Channelz/GetServers",
        "/grpc.health.v1.Healthy/Check",
        "/x/grpc.health.v1.Health/Check",
        "//grpc.health.v1.Health/Check",
        "/GRPC.HEALTH.V1.HEALTH/Check",
        "/grpc.health.v1.Health",
        "grpc.health.v1.Health",
        "/",
        "",
    ],
)
async def test_methods_require_authentication_by_default(path: str) -> None:
    """Whatever is not on the short list needs a caller, however it is written."""
    with pytest.raises(ApiKeyMissing):
        await AuthInterceptor(nobody).intercept(call_of(path), serve)


@pytest.mark.parametrize(
    "path",
    [
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
async def test_methods_without_authentication(path: str) -> None:
    """Health and reflection."""
    assert await AuthInterceptor(nobody).intercept(call_of(path), serve) == b"served"
