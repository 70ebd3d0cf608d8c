"""Exceptions of the client. The mapping from a status: error_mapping.py.

MediagateError
├── InvalidRequest             it can never work; `violations` name the fields
│   ├── MediaTooLarge          an inline medium is over 3 MiB
│   └── UnknownArgument        a keyword that is no field (also a TypeError)
├── RequestTooLarge            the message is over 4 MiB; nothing was sent
├── Unauthenticated            no API key, or one that is not valid
├── PermissionDenied           the key may not do this
├── NotFound                   no such model, generation or file
├── RequestIdReused            the request_id is bound to another request
├── PreconditionFailed         retired model, price over the bound, ...
│   ├── ContentBlocked         the content was refused
│   └── ClientNotUsable        the client is closed, or there is no event loop
├── ResourceExhausted
│   ├── RateLimited            too many requests or runs: retry after `retry_after`
│   └── QuotaExceeded          a budget is used up
├── Unavailable                the server or its upstream is unavailable
├── RunFailed                  the model ran and failed
├── GenerationCancelled        the generation was cancelled
├── DeadlineExceeded           the deadline passed (also a TimeoutError)
├── StreamLost                 a stream that cannot be continued
├── DataLost                   an output cannot be read completely
├── NotBuilt                   the contract has it, this server does not yet
├── WebhookNotVerified         not a webhook of the server, or not a recent one
└── InternalError              a bug of the server

All of them can be copied and pickled, so that they pass through process pools.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc

from mediagate.v1.generation_pb2 import Generation


@dataclass(frozen=True, slots=True)
class Violation:
    """One violation: of a field, a budget or a precondition."""

    field: str
    """The field of the request, or what a budget or a precondition is about."""
    description: str
    """What is wrong with it, in a sentence."""


@dataclass(frozen=True, slots=True)
class Details:
    """Details of an error beyond its class."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    """A name of the contract's ErrorReason without its prefix. Empty: not the server's error."""
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)
    violations: tuple[Violation, ...] = ()
    retry_after: float | None = None
    """Seconds until a retry may succeed."""


class MediagateError(Exception):
    """A failed call.

    `generation` is set where one was accepted and then failed: its `cost` is what was paid. With
    DeadlineExceeded it may still run.
    `request_id` is that of a billable call: a retry with it never starts a second run.
    """

    def __init__(self, details: Details) -> None:
        """Create the error of these details."""
        super().__init__(details.message)
        self.details = details
        self.generation: Generation | None = None
        self.request_id = ""

    @property
    def code(self) -> grpc.StatusCode:
        """The gRPC status code."""
        return self.details.code

    @property
    def reason(self) -> str:
        """Reason for programs: a name of the contract's ErrorReason without its prefix."""
        return self.details.reason

    @property
    def message(self) -> str:
        """Message for people."""
        return self.details.message

    @property
    def metadata(self) -> Mapping[str, str]:
        """Variables of the message, by name."""
        return self.details.metadata

    @property
    def violations(self) -> tuple[Violation, ...]:
        """Violations, by field or budget."""
        return self.details.violations

    @property
    def retry_after(self) -> float | None:
        """Seconds until a retry may succeed. None: unknown."""
        return self.details.retry_after

    def __str__(self) -> str:
        """Return the message with its reason, on one line."""
        return f"{' '.join(self.message.split())} ({self.reason or self.code.name})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy without `__init__`, which subclasses may change.

        `__cause__` is kept, which Python's own pickling drops; but not gRPC's errors: they hold
        locks, and all that they say is in `details`.
        """
        cause = None if isinstance(self.__cause__, grpc.RpcError) else self.__cause__
        return _restore_error, (type(self), self.args), (self.__dict__, cause)

    def __setstate__(self, state: tuple[dict[str, Any], BaseException | None] | None) -> None:  # type: ignore[override]
        """Restore what `__reduce__` returned."""
        if state is not None:
            attributes, cause = state
            self.__dict__.update(attributes)
            if cause is not None:
                self.__cause__ = cause


class InvalidRequest(MediagateError):
    """The request can never work; `violations` name the fields."""


class MediaTooLarge(InvalidRequest):
    """An inline medium is over 3 MiB: give a URL or an output of an earlier generation."""


class UnknownArgument(InvalidRequest, TypeError):
    """A keyword is no field of the request; nothing was sent."""


class RequestTooLarge(MediagateError):
    """The message is over the server's limit; nothing was sent."""

    def __init__(self, size: int, limit: int) -> None:
        """Create the error; both sizes in bytes."""
        message = f"the request is {size:,} bytes, a message may have {limit:,}"
        facts = {"size_bytes": str(size), "limit_bytes": str(limit)}
        super().__init__(Details(grpc.StatusCode.RESOURCE_EXHAUSTED, message, metadata=facts))


class Unauthenticated(MediagateError):
    """No API key was sent, or it is not valid."""


class PermissionDenied(MediagateError):
    """The API key may not do this."""


class NotFound(MediagateError):
    """There is no such model, generation or file."""


class RequestIdReused(MediagateError):
    """The request_id is bound to another request or method."""


class PreconditionFailed(MediagateError):
    """A precondition is not met: see `reason`."""


class ContentBlocked(PreconditionFailed):
    """The content was refused by the safety check or by the model."""


class ClientNotUsable(PreconditionFailed):
    """The client is closed, or is used where no event loop runs; nothing was sent."""

    def __init__(self, message: str) -> None:
        """Create the error."""
        super().__init__(Details(grpc.StatusCode.FAILED_PRECONDITION, message))


class ResourceExhausted(MediagateError):
    """A limit is reached: see `reason`."""


class RateLimited(ResourceExhausted):
    """Too many requests, or runs at once: retry after `retry_after` seconds."""


class QuotaExceeded(ResourceExhausted):
    """A budget is used up; `violations` name it."""


class Unavailable(MediagateError):
    """The server, or what it depends on, is unavailable now. The call may be retried."""


class RunFailed(MediagateError):
    """The model ran and failed; `generation.cost` is its cost."""


class GenerationCancelled(MediagateError):
    """The generation was cancelled; `generation.cost` is the cost until then."""


class DeadlineExceeded(MediagateError, TimeoutError):
    """The deadline passed before the end."""


class StreamLost(MediagateError):
    """The stream cannot be resumed. The generation may have the full text."""


class DataLost(MediagateError):
    """An output was generated but cannot be read completely."""


class NotBuilt(MediagateError):
    """The contract has it, this server does not yet."""


class InternalError(MediagateError):
    """A bug of the server, or an error without a reason."""


class WebhookNotVerified(MediagateError):
    """Not a webhook of the server, or not a recent one. Answer 401, and ignore its body."""

    def __init__(self, message: str) -> None:
        """Create the error."""
        super().__init__(Details(grpc.StatusCode.UNAUTHENTICATED, message))


def local_invalid_request(field_name: str, description: str) -> InvalidRequest:
    """Return the error for a request that the client found invalid; nothing was sent."""
    return InvalidRequest(_invalid_field(field_name, description))


def unknown_argument(name: str, description: str) -> UnknownArgument:
    """Return the error for a keyword that is no field."""
    return UnknownArgument(_invalid_field(name, description))


def invalid_api_key(description: str) -> Unauthenticated:
    """Return the error for an API key that no metadata can carry. Its text is not in it."""
    return Unauthenticated(
        Details(grpc.StatusCode.UNAUTHENTICATED, f"api_key: {description}", "KEY_INVALID")
    )


def printable(text: object) -> str:
    """Return the text as one that can be written as UTF-8: lone surrogates are escaped."""
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8")


def _invalid_field(name: str, description: str) -> Details:
    name, description = printable(name), printable(description)
    return Details(
        code=grpc.StatusCode.INVALID_ARGUMENT,
        message=f"{name}: {description}",
        reason="INVALID_REQUEST",
        violations=(Violation(name, description),),
    )


def _restore_error(kind: type[MediagateError], args: tuple[object, ...]) -> MediagateError:
    """Create an error without its `__init__`: `__setstate__` fills it."""
    error = kind.__new__(kind, *args)
    error.args = args
    return error


def deadline_exceeded(message: str) -> DeadlineExceeded:
    """Return the error for a deadline of the client that passed."""
    return DeadlineExceeded(Details(grpc.StatusCode.DEADLINE_EXCEEDED, message))


def still_running(generation: Generation) -> DeadlineExceeded:
    """Return the error for a call that ended before its generation, which continues."""
    error = deadline_exceeded(
        f"the time given to this call is over, the generation goes on: {generation.id}"
    )
    error.generation = generation
    error.request_id = generation.request_id
    return error
