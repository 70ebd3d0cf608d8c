"""Statuses as a server sends them."""

from collections.abc import Sequence

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

DETAILS_KEY = "grpc-status-details-bin"


def status(
    code: grpc.StatusCode,
    reason: str = "",
    message: str = "no",
    *,
    retry_after: float | None = None,
    fields: Sequence[str] = (),
    metadata: dict[str, str] | None = None,
    more: Sequence[Message] = (),
) -> status_pb2.Status:
    rpc_status = status_pb2.Status(code=code.value[0], message=message)
    details: list[Message] = [*more]
    if reason:
        details.append(
            error_details_pb2.ErrorInfo(reason=reason, domain="mediagate", metadata=metadata or {})
        )
    if retry_after is not None:
        info = error_details_pb2.RetryInfo()
        info.retry_delay.FromMilliseconds(round(retry_after * 1000))
        details.append(info)
    if fields:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=field, description="is wrong")
            for field in fields
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    for detail in details:
        rpc_status.details.add().Pack(detail)
    return rpc_status


def trailing(rpc_status: status_pb2.Status) -> tuple[tuple[str, bytes], ...]:
    return ((DETAILS_KEY, rpc_status.SerializeToString()),)


class Refusal(grpc.RpcError):
    """What a stub raises, made by hand."""

    def __init__(self, code: grpc.StatusCode, words: str = "no", metadata: object = None) -> None:
        super().__init__(words)
        self._code = code
        self._words = words
        self._metadata = metadata

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._words

    def trailing_metadata(self) -> object:  # type: ignore[override]
        return self._metadata
