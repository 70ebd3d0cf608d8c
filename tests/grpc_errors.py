"""gRPC errors: waits for the error of an rpc and reads the details of its status."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Final, TypeVar

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2
from grpc_status import rpc_status

M = TypeVar("M", bound=Message)

LOST_STATUS: Final = "Internal error from Core"
"""Details of the status that gRPC's asyncio client makes up where a message could not be sent any
more, although the server's status is on its way: seen now and then."""


async def rpc_error(call: Any) -> grpc.aio.AioRpcError:
    """The error that a call, a stream or a coroutine ends with. Fails where it ends well."""
    try:
        await _read_to_end(call)
    except grpc.aio.AioRpcError as error:
        return error.with_traceback(None)  # Its frames hold the call: no cycle is left of it.
    pytest.fail("the rpc ended well")


async def upload_error(
    upload: Callable[[AsyncIterator[Any]], Any], requests: Callable[[], AsyncIterator[Any]]
) -> grpc.aio.AioRpcError:
    """The error that a request stream is refused with, while it is still being sent.

    Sent again where gRPC's client has lost it.
    """
    for _ in range(10):
        error = await rpc_error(upload(requests()))
        if error.details() != LOST_STATUS:
            return error
    pytest.fail("gRPC's client lost the status ten times in a row")


async def _read_to_end(call: Any) -> None:
    if hasattr(call, "__aiter__"):
        async for _ in call:
            pass
    else:
        await call


def status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    """`google.rpc.Status` of the trailers."""
    status = rpc_status.from_call(error)
    assert status is not None, error
    return status


def details_of(error: grpc.aio.AioRpcError, kind: type[M]) -> list[M]:
    """All details of a kind."""
    packed = [any_ for any_ in status_of(error).details if any_.Is(kind.DESCRIPTOR)]
    return [kind.FromString(any_.value) for any_ in packed]


def detail_of(error: grpc.aio.AioRpcError, kind: type[M]) -> M:
    """The one detail of a kind. Fails where there is none or more."""
    (detail,) = details_of(error, kind)
    return detail


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """`ErrorInfo.reason`."""
    return str(_error_info(error).reason)


def metadata_of(error: grpc.aio.AioRpcError) -> dict[str, str]:
    """`ErrorInfo.metadata`."""
    return dict(_error_info(error).metadata)


def _error_info(error: grpc.aio.AioRpcError) -> details.ErrorInfo:
    info = detail_of(error, details.ErrorInfo)
    assert info.domain == "mediagate"
    return info


def violations_of(error: grpc.aio.AioRpcError) -> dict[str, str]:
    """`BadRequest.field_violations`: description by field."""
    return {
        violation.field: violation.description
        for bad_request in details_of(error, details.BadRequest)
        for violation in bad_request.field_violations
    }


def fields_of(error: grpc.aio.AioRpcError) -> set[str]:
    """The fields of `BadRequest.field_violations`."""
    return set(violations_of(error))


def retry_after(error: grpc.aio.AioRpcError) -> float | None:
    """`RetryInfo.retry_delay` in seconds."""
    for info in details_of(error, details.RetryInfo):
        return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
    return None
