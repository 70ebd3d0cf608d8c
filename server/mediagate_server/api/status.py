"""gRPC status of failures: the one table of codes, and the typed error details.

It knows nothing of rpcs or calls: a generation's stored failure and a refused request look the same
here. The codes are those that the contract writes beside each `ErrorReason`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2
from grpc import StatusCode

from mediagate_server.errors import Failure, Reason

DOMAIN: Final = "mediagate"
"""`ErrorInfo.domain` of every failure."""

CODES: Final[Mapping[Reason, StatusCode]] = MappingProxyType(
    {
        Reason.INVALID_REQUEST: StatusCode.INVALID_ARGUMENT,
        Reason.PARAMETER_UNSUPPORTED: StatusCode.INVALID_ARGUMENT,
        Reason.MEDIA_TOO_LARGE: StatusCode.INVALID_ARGUMENT,
        Reason.INPUT_REJECTED: StatusCode.INVALID_ARGUMENT,
        Reason.NOT_IMPLEMENTED: StatusCode.UNIMPLEMENTED,
        Reason.MODEL_NOT_FOUND: StatusCode.NOT_FOUND,
        Reason.GENERATION_NOT_FOUND: StatusCode.NOT_FOUND,
        Reason.KEY_MISSING: StatusCode.UNAUTHENTICATED,
        Reason.KEY_INVALID: StatusCode.UNAUTHENTICATED,
        Reason.SCOPE_MISSING: StatusCode.PERMISSION_DENIED,
        Reason.MODEL_NOT_ALLOWED: StatusCode.PERMISSION_DENIED,
        Reason.RATE_LIMITED: StatusCode.RESOURCE_EXHAUSTED,
        Reason.TOO_MANY_IN_FLIGHT: StatusCode.RESOURCE_EXHAUSTED,
        Reason.QUEUE_FULL: StatusCode.RESOURCE_EXHAUSTED,
        Reason.BUDGET_EXCEEDED: StatusCode.RESOURCE_EXHAUSTED,
        Reason.MODEL_RETIRED: StatusCode.FAILED_PRECONDITION,
        Reason.NO_MODEL_FITS: StatusCode.FAILED_PRECONDITION,
        Reason.MAX_COST_EXCEEDED: StatusCode.FAILED_PRECONDITION,
        Reason.PRICE_UNKNOWN: StatusCode.FAILED_PRECONDITION,
        Reason.DEADLINE_TOO_SHORT: StatusCode.FAILED_PRECONDITION,
        Reason.CONTENT_BLOCKED: StatusCode.FAILED_PRECONDITION,
        Reason.REQUEST_ID_REUSED: StatusCode.ALREADY_EXISTS,
        Reason.STREAM_EXPIRED: StatusCode.OUT_OF_RANGE,
        Reason.STREAM_INTERRUPTED: StatusCode.DATA_LOSS,
        Reason.UPSTREAM_UNAVAILABLE: StatusCode.UNAVAILABLE,
        Reason.CIRCUIT_OPEN: StatusCode.UNAVAILABLE,
        Reason.UPSTREAM_ACCOUNT: StatusCode.UNAVAILABLE,
        Reason.SUBMIT_UNCONFIRMED: StatusCode.UNAVAILABLE,
        Reason.STORE_UNAVAILABLE: StatusCode.UNAVAILABLE,
        Reason.DRAINING: StatusCode.UNAVAILABLE,
        Reason.RUN_FAILED: StatusCode.FAILED_PRECONDITION,
        Reason.OUTPUT_STORE_FAILED: StatusCode.DATA_LOSS,
        Reason.DEADLINE: StatusCode.DEADLINE_EXCEEDED,
        Reason.CANCELLED: StatusCode.CANCELLED,
        Reason.INTERNAL: StatusCode.INTERNAL,
        Reason.OUTPUT_INVALID: StatusCode.FAILED_PRECONDITION,
        Reason.OUTPUT_TOO_LARGE: StatusCode.DATA_LOSS,
        Reason.QUARANTINED: StatusCode.DATA_LOSS,
        Reason.OUTPUT_LOST: StatusCode.DATA_LOSS,
        Reason.UPLOAD_NOT_FOUND: StatusCode.NOT_FOUND,
    }
)

# A status travels in trailers, and callers drop an rpc whose metadata is over 8 KiB. Base64 makes a
# third more of the details; the message is sent once more outside them, a byte as up to three.
_MESSAGE_BYTES: Final = 512
_METADATA_ENTRIES: Final = 8
_METADATA_BYTES: Final = 128
_FIELD_BYTES: Final = 128
_DESCRIPTION_BYTES: Final = 160
_VIOLATION_BYTES: Final = 1_536


def code_for_reason(reason: Reason) -> StatusCode:
    """The status code that the contract writes beside a reason."""
    return CODES[reason]


def code_for_failure(failure: Failure) -> StatusCode:
    """The status code of a failure: that of its reason, unless the named resource is absent, or a
    precondition of the request does not hold.
    """
    if failure.absent:
        return StatusCode.NOT_FOUND
    return (
        StatusCode.FAILED_PRECONDITION if failure.precondition else code_for_reason(failure.reason)
    )


def to_status(failure: Failure) -> status_pb2.Status:
    """Encode a failure as a gRPC status: code, message, exactly one ErrorInfo, further details.

    Long texts are cut, and violations left out, so that the whole fits into trailers (about 3 KiB).
    """
    return status_pb2.Status(
        code=code_number(code_for_failure(failure)),
        message=_truncate(failure.message, _MESSAGE_BYTES),
        details=[_pack(detail) for detail in _details_of(failure)],
    )


def code_number(code: StatusCode) -> int:
    """The number that `code` has on the wire."""
    value: tuple[int, str] = code.value
    return value[0]


def _details_of(failure: Failure) -> list[Message]:
    metadata = _metadata_of(failure)
    messages: list[Message] = [
        details.ErrorInfo(reason=failure.reason.value, domain=DOMAIN, metadata=metadata)
    ]
    if failure.violations:
        messages.append(_bad_request(failure))
    if failure.retry_after is not None:
        messages.append(details.RetryInfo(retry_delay=_duration(failure.retry_after)))
    if (about := _detail_for_code(failure, metadata)) is not None:
        messages.append(about)
    return messages


def _detail_for_code(failure: Failure, metadata: Mapping[str, str]) -> Message | None:
    """The detail that a code calls for, if there is one."""
    code = code_for_failure(failure)
    description = _truncate(failure.message, _DESCRIPTION_BYTES)
    about: Message | None = None
    if code is StatusCode.RESOURCE_EXHAUSTED:
        quota = details.QuotaFailure.Violation(
            subject=_subject(metadata, "budget", "tenant"), description=description
        )
        about = details.QuotaFailure(violations=[quota])
    elif code is StatusCode.FAILED_PRECONDITION:
        condition = details.PreconditionFailure.Violation(
            type=failure.reason.value, subject=_subject(metadata, "model"), description=description
        )
        about = details.PreconditionFailure(violations=[condition])
    elif failure.reason is Reason.MODEL_NOT_FOUND:
        about = details.ResourceInfo(
            resource_type="mediagate.v1.Model", resource_name=metadata.get("model", "")
        )
    elif failure.reason is Reason.GENERATION_NOT_FOUND:
        about = details.ResourceInfo(
            resource_type="mediagate.v1.Generation", resource_name=metadata.get("id", "")
        )
    return about


def _metadata_of(failure: Failure) -> dict[str, str]:
    """What varies in the message, by name; the fields at fault are among it."""
    metadata = dict(list(failure.metadata.items())[:_METADATA_ENTRIES])
    if failure.violations and "field" not in metadata:
        metadata["field"] = ",".join(violation.field for violation in failure.violations)
    return {key: _truncate(value, _METADATA_BYTES) for key, value in metadata.items()}


def _bad_request(failure: Failure) -> details.BadRequest:
    """The violations, as many as there is room for; at least the first."""
    bad = details.BadRequest()
    for violation in failure.violations:
        bad.field_violations.add(
            field=_truncate(violation.field, _FIELD_BYTES),
            description=_truncate(violation.description, _DESCRIPTION_BYTES),
        )
        if bad.ByteSize() > _VIOLATION_BYTES:
            if len(bad.field_violations) > 1:
                del bad.field_violations[-1]
            break
    return bad


def _subject(metadata: Mapping[str, str], *kinds: str) -> str:
    """`kind:name` of the first kind that the metadata names; empty where it names none."""
    for kind in kinds:
        if kind in metadata:
            return f"{kind}:{metadata[kind]}"
    return ""


def _duration(seconds: float) -> duration_pb2.Duration:
    whole_seconds, millis = divmod(round(max(seconds, 0.0) * 1_000), 1_000)
    return duration_pb2.Duration(seconds=whole_seconds, nanos=millis * 1_000_000)


def _truncate(text: str, size: int) -> str:
    """`text` in at most `size` bytes of UTF-8, whole characters only."""
    if len(text) * 4 <= size or len(encoded := text.encode()) <= size:
        return text
    return encoded[: size - 3].decode(errors="ignore") + "…"


def _pack(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
