"""Interceptor interface and the state of one rpc. It knows gRPC, and no rpc's meaning."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol

import grpc
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError

from mediagate_server.api.validation.entry_limit import (
    MAX_ENTRIES,
    MalformedMessage,
    find_oversized_field,
    request_type,
)
from mediagate_server.errors import InvalidRequest
from mediagate_server.rpc_context import Caller, CallSummary
from mediagate_server.runtime.fair_scheduler import FairScheduler

Context = grpc.aio.ServicerContext[Any, Any]

PUBLIC_SERVICES: Final = frozenset(
    {
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
)
"""What anybody may call, and as often as they like: the only services that need no caller."""


_KINDS: Final = {
    (False, False): "unary",
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}


class Implementation(Enum):
    """Whether a method is implemented, known to the contract alone, or unknown."""

    IMPLEMENTED = "implemented"
    UNIMPLEMENTED = "unimplemented"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class RpcMethod:
    """One rpc method: made once, used by every call of it.

    `service` and `name` are parsed from `path`, by which gRPC routes. `public`: health and
    reflection, which are on nobody's account. `kind` is `grpc_type` in the words of dashboards.
    """

    path: str
    service: str
    name: str
    public: bool
    kind: str
    request_streaming: bool
    response_streaming: bool
    implementation: Implementation
    decode: Callable[[bytes], Any] | None
    encode: Callable[[Any], bytes] | None
    request_type: Descriptor | None
    is_billable: bool
    """Whether its request is one that can spend, or holds one: those may be large."""

    @classmethod
    def of(
        cls,
        path: str,
        handler: "grpc.RpcMethodHandler[Any, Any] | None",
        implementation: Implementation,
    ) -> "RpcMethod":
        """The method at `path` (`/package.Service/Name`); without a handler, one that is unknown.

        An unknown one counts as streaming both ways, which answers callers of any kind.
        """
        service, _, name = path.removeprefix("/").rpartition("/")
        requests = handler is None or handler.request_streaming
        responses = handler is None or handler.response_streaming
        return cls(
            path,
            service,
            name,
            public=service in PUBLIC_SERVICES,
            kind=_KINDS[requests, responses],
            request_streaming=requests,
            response_streaming=responses,
            implementation=implementation,
            decode=handler.request_deserializer if handler else None,
            encode=handler.response_serializer if handler else None,
            request_type=(kind := request_type(service, name) if handler else None),
            is_billable=kind is not None and _has_options(kind),
        )


def _has_options(kind: Descriptor) -> bool:
    """Whether a request has options, or is about one that has (EstimateCost)."""
    inner = (field.message_type for field in kind.fields if field.message_type is not None)
    return "options" in kind.fields_by_name or any(
        "options" in message.fields_by_name for message in inner
    )


class RpcCall:
    """One rpc being served. But for the counters, each field is set once, by one interceptor."""

    __slots__ = (
        "_raw",
        "_request",
        "caller",
        "check",
        "context",
        "method",
        "reason",
        "received",
        "scheduler",
        "sent",
        "summary",
    )

    def __init__(self, method: RpcMethod, context: Context) -> None:
        self.method = method
        self.context = context
        self._raw: bytes | None = None
        self._request: Any = None
        self.received = 0
        self.sent = 0
        self.caller: Caller | None = None
        """The caller: set by AuthInterceptor."""
        self.summary: CallSummary | None = None
        """The summary of the rpc: set by MeteringInterceptor."""
        self.reason = ""
        """The ErrorReason of a refusal: set by ErrorInterceptor."""
        self.scheduler: FairScheduler | None = None
        """The scheduler of large messages of a request stream: set by ReceiveLimitInterceptor."""
        self.check: Callable[[Any], None] | None = None
        """The check of each message of a request stream: set by ValidationInterceptor."""

    def receive(self, raw: bytes) -> None:
        """Store the bytes of the request: of a call that has just one."""
        self._raw = raw
        self.received += 1

    @property
    def request(self) -> Any:
        """The request of a call that has just one, decoded at its first use; else None.

        Decoding is left until somebody needs it, so that callers who may not call cost nothing.
        Raises InvalidRequest where the bytes are not such a message.
        """
        self.decode()
        return self._request

    def decode(self) -> None:
        """Decode the request now. Raises InvalidRequest where the bytes are not such a message."""
        if self._raw is not None:
            raw, self._raw = self._raw, None
            self._request = decode_request(self.method, raw)

    def pass_request(self) -> Any:
        """The request, for the handler, and from now on its alone: it is held for a stream's life.

        Raises InvalidRequest likewise.
        """
        request, self._request = self.request, None
        return request

    def metadata(self, key: str) -> str | bytes | None:
        """The first value that the caller sent under `key` (lower case)."""
        for name, value in self.context.invocation_metadata() or ():
            if name == key:
                return value
        return None

    def add_trailer(self, key: str, value: str | bytes) -> None:
        """Send `key` with the status, beside what is already to be sent."""
        self.context.set_trailing_metadata((*self.context.trailing_metadata(), (key, value)))


MAX_PUBLIC_MESSAGE_BYTES: Final = 4_096
"""Bytes of a message to a service that needs no key: it is counted and decoded for anybody."""
_TOO_MANY_ENTRIES: Final = (
    f"must be smaller: a request has at most {MAX_ENTRIES:,} entries, at all depths"
)

CallNext = Callable[[RpcCall], Awaitable[bytes | None]]
"""The rest of the chain: further interceptors, then the handler. Gives a unary reply's bytes."""


class Interceptor(Protocol):
    """An interceptor: what is done around every rpc."""

    def intercept(self, call: RpcCall, call_next: CallNext) -> Awaitable[bytes | None]:
        """Act around `await call_next(call)`, or act first and return `call_next(call)`.

        Where there is nothing to do afterwards the second keeps no frame for as long as a stream.
        """


def decode_request(method: RpcMethod, raw: bytes) -> Any:
    """Decode a request message.

    Raises InvalidRequest where it is none, or holds more entries than may be looked at.
    """
    if method.public and len(raw) > MAX_PUBLIC_MESSAGE_BYTES:
        raise InvalidRequest.of("request", f"must have at most {MAX_PUBLIC_MESSAGE_BYTES:,} bytes")
    if method.decode is None:
        return raw
    try:
        kind = method.request_type
        if kind is not None and (oversized := find_oversized_field(raw, kind)) is not None:
            raise InvalidRequest.of(oversized, _TOO_MANY_ENTRIES)
        return method.decode(raw)
    except (DecodeError, MalformedMessage):
        raise InvalidRequest.of("request", "is not a message of this method") from None
