"""Error mapping: gRPC status or failed generation -> exception, by google.rpc.Status."""

from collections.abc import Iterable
from typing import Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from mediagate.v1.generation_pb2 import Generation
from mediagate_client import errors
from mediagate_client.errors import Details, MediagateError, Violation

DOMAIN: Final = "mediagate"
_DETAILS_KEY: Final = "grpc-status-details-bin"
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}

_BY_CODE: Final[dict[grpc.StatusCode, type[MediagateError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.RequestIdReused,
    grpc.StatusCode.FAILED_PRECONDITION: errors.PreconditionFailed,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ResourceExhausted,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.CANCELLED: errors.GenerationCancelled,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.OUT_OF_RANGE: errors.StreamLost,
    grpc.StatusCode.DATA_LOSS: errors.DataLost,
    grpc.StatusCode.UNIMPLEMENTED: errors.NotBuilt,
}

_BY_REASON: Final[dict[str, type[MediagateError]]] = {
    "MEDIA_TOO_LARGE": errors.MediaTooLarge,
    "CONTENT_BLOCKED": errors.ContentBlocked,
    "RATE_LIMITED": errors.RateLimited,
    "TOO_MANY_IN_FLIGHT": errors.RateLimited,
    "QUEUE_FULL": errors.RateLimited,
    "BUDGET_EXCEEDED": errors.QuotaExceeded,
    "STREAM_INTERRUPTED": errors.StreamLost,
    "RUN_FAILED": errors.RunFailed,
    "OUTPUT_INVALID": errors.RunFailed,
}

# Messages of gRPC where a connection, not the server, ended the call: a proxy that resets the
# stream causes other codes than UNAVAILABLE, and asyncio's client has a status of its own for a
# message that it could not send, even where the server's status is on its way.
_RESET_MESSAGES: Final = ("RST_STREAM", "Stream removed", "Internal error from Core")


def from_rpc_error(error: grpc.RpcError) -> MediagateError:
    """Return the typed error of a stub's RpcError, blocking or asyncio."""
    message = error.details() or ""
    status = status_pb2.Status(code=error.code().value[0], message=message)
    trailing: Iterable[tuple[str, str | bytes]] = error.trailing_metadata() or ()  # type: ignore[assignment]
    for key, value in trailing:
        if key == _DETAILS_KEY:
            status = _parse_status(value, status)
    return from_status(status)


def from_status(status: status_pb2.Status) -> MediagateError:
    """Return the exception of a google.rpc.Status."""
    details = parse_details(status)
    kind = _BY_REASON.get(details.reason) or _BY_CODE.get(details.code, errors.InternalError)
    return kind(details)


def from_generation(generation: Generation) -> MediagateError:
    """Return the exception of a FAILED or CANCELLED generation, with it attached."""
    failure = from_status(generation.error)
    failure.generation = generation
    failure.request_id = generation.request_id
    return failure


def parse_details(status: status_pb2.Status) -> Details:
    """Parse a status and its error details."""
    reason = ""
    metadata: dict[str, str] = {}
    violations: list[Violation] = []
    retry_after = None
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    bad_request = error_details_pb2.BadRequest()
    quota = error_details_pb2.QuotaFailure()
    precondition = error_details_pb2.PreconditionFailure()
    for detail in status.details:
        if detail.Unpack(info) and info.domain == DOMAIN:
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToTimedelta().total_seconds()
        elif detail.Unpack(bad_request):
            violations += (Violation(v.field, v.description) for v in bad_request.field_violations)
        elif detail.Unpack(quota):
            violations += (Violation(v.subject, v.description) for v in quota.violations)
        elif detail.Unpack(precondition):
            violations += (Violation(v.subject, v.description) for v in precondition.violations)
    return Details(
        code=_CODES.get(status.code, grpc.StatusCode.UNKNOWN),
        message=status.message,
        reason=reason,
        metadata=metadata,
        violations=tuple(violations),
        retry_after=retry_after,
    )


def is_interrupted(error: MediagateError) -> bool:
    """Whether the connection ended the call, so that its outcome is unknown.

    The server always gives a reason. CANCELLED without one is what gRPC answers for calls that a
    stopping or overloaded server had not accepted yet.
    """
    if error.reason:
        return False
    if error.code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN):
        return any(words in error.message for words in _RESET_MESSAGES)
    return error.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def _parse_status(value: str | bytes, fallback: status_pb2.Status) -> status_pb2.Status:
    """Parse the status in the trailers; `fallback` if it is malformed or of another code."""
    try:
        status = status_pb2.Status.FromString(value if isinstance(value, bytes) else value.encode())
    except DecodeError:
        return fallback
    return status if status.code == fallback.code else fallback
