"""Reading the details of a failed rpc."""

from google.rpc import error_details_pb2, status_pb2
from grpc.aio import AioRpcError


def status_of(error: AioRpcError) -> status_pb2.Status:
    """The rich status in the trailers."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            return status_pb2.Status.FromString(value)
    raise AssertionError(f"no details in {error!r}")


def reason_of(error: AioRpcError) -> str:
    """ErrorInfo.reason."""
    return str(_info(error).reason)


def metadata_of(error: AioRpcError) -> dict[str, str]:
    """ErrorInfo.metadata."""
    return dict(_info(error).metadata)


def _info(error: AioRpcError) -> error_details_pb2.ErrorInfo:
    """There is exactly one."""
    infos = [
        error_details_pb2.ErrorInfo.FromString(detail.value)
        for detail in status_of(error).details
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)
    ]
    assert len(infos) == 1
    assert infos[0].domain == "mediagate"
    return infos[0]


def fields_of(error: AioRpcError) -> set[str]:
    """The fields that BadRequest names."""
    found = set()
    for detail in status_of(error).details:
        if detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest.FromString(detail.value)
            found |= {violation.field for violation in bad.field_violations}
    return found


def retry_after(error: AioRpcError) -> float | None:
    """RetryInfo in seconds."""
    for detail in status_of(error).details:
        if detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
            return float(delay.seconds + delay.nanos / 1e9)
    return None
