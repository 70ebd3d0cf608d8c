"""Reading a failed call back into what the contract promises of it."""

from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from grpc_status import rpc_status

M = TypeVar("M", bound=Message)


def detail(error: grpc.aio.AioRpcError, kind: type[M]) -> M:
    """The one detail of a kind. Fails where there is none or more."""
    status = rpc_status.from_call(error)
    assert status is not None, error.details()
    found = []
    for packed in status.details:
        message = kind()
        if packed.Unpack(message):
            found.append(message)
    assert len(found) == 1, status
    return found[0]


def reason(error: grpc.aio.AioRpcError) -> str:
    """`ErrorInfo.reason`."""
    info: Any = detail(error, details.ErrorInfo)
    assert info.domain == "mediagate"
    return str(info.reason)


def fields(error: grpc.aio.AioRpcError) -> dict[str, str]:
    """Field and description of each violation."""
    bad: Any = detail(error, details.BadRequest)
    return {violation.field: violation.description for violation in bad.field_violations}


async def failing(call: Any) -> grpc.aio.AioRpcError:
    """The error that a unary call or a stream ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await _ended(call)
    return raised.value


async def _ended(call: Any) -> None:
    if hasattr(call, "__aiter__"):
        async for _ in call:
            pass
    else:
        await call
