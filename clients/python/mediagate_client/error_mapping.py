"""From a status, as gRPC or a generation gives it, to the exception that says it.

Reads google.rpc.Status and its details; knows no rpc and no channel.
"""

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

# gRPC's own words where a connection, not a gate, ended the call. They carry other codes than
# UNAVAILABLE when a proxy resets the stream.
_CUT_WORDS: Final = ("RST_STREAM", "Stream removed")


def from_rpc_error(error: grpc.RpcError) -> MediagateError:
    """Return the typed form of what a stub raised, in either face."""
    words = error.details() or ""
    status = status_pb2.Status(code=error.code().value[0], message=words)
    trailing: Iterable[tuple[str, str | bytes]] = error.trailing_metadata() or ()  # type: ignore[assignment]
    for key, value in trailing:
        if key == _DETAILS_KEY:
            status = _read_status(value, status)
    return from_status(status)


def from_status(status: status_pb2.Status) -> MediagateError:
    """Return the exception that a google.rpc.Status stands for."""
    details = read_details(status)
    kind = _BY_REASON.get(details.reason) or _BY_CODE.get(details.code, errors.InternalError)
    return kind(details)


def from_generation(generation: Generation) -> MediagateError:
    """Return why a generation FAILED or was CANCELLED, with the generation attached."""
    failure = from_status(generation.error)
    failure.generation = generation
    failure.request_id = generation.request_id
    return failure


def read_details(status: status_pb2.Status) -> Details:
    """Return what a status and its details say."""
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
    """Say whether the connection ended the call, so that nobody knows what became of it.

    A gate always gives a reason. CANCELLED without one is what gRPC answers for calls that a
    stopping or flooded server had not taken yet.
    """
    if error.reason:
        return False
    if error.code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN):
        return any(words in error.message for words in _CUT_WORDS)
    return error.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def _read_status(value: str | bytes, fallback: status_pb2.Status) -> status_pb2.Status:
    """Return the status that a gate sent beside gRPC's own, unless it contradicts that one."""
    try:
        status = status_pb2.Status.FromString(value if isinstance(value, bytes) else value.encode())
    except DecodeError:
        return fallback
    return status if status.code == fallback.code else fallback
