"""What can go wrong with a call, as exceptions. How a status becomes one of them: error_mapping.py.

MediagateError
├── InvalidRequest             it can never work; `violations` name the fields
│   └── MediaTooLarge          an inline medium is over 3 MiB
├── RequestTooLarge            the message is over 4 MiB; refused here, nothing was sent
├── Unauthenticated            no API key, or one that is not valid
├── PermissionDenied           the key may not do this
├── NotFound                   no such model, generation or file
├── RequestIdReused            the request_id is bound to another request
├── PreconditionFailed         retired model, price over the bound, ...
│   └── ContentBlocked         the content was refused
├── ResourceExhausted
│   ├── RateLimited            too many requests or runs: `retry_after` says when to come back
│   └── QuotaExceeded          a budget is used up
├── Unavailable                the gate or its upstream cannot be had now
├── RunFailed                  the model ran and failed
├── GenerationCancelled        somebody cancelled it
├── DeadlineExceeded           time was over (a TimeoutError too)
├── StreamLost                 a stream that cannot be continued
├── DataLost                   an output that was made cannot be had whole
├── NotBuilt                   the contract has it, this gate does not yet
└── InternalError              a bug of the gate's
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import grpc

from mediagate.v1.generation_pb2 import Generation


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that was wrong, and what about it."""

    field: str
    """The field of the request, or what a budget or a precondition is about."""
    description: str
    """What is wrong with it, in a sentence."""


@dataclass(frozen=True, slots=True)
class Details:
    """Everything that a failure says beyond its class."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    """A name of the contract's ErrorReason without its prefix. Empty: not said by a gate."""
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    violations: tuple[Violation, ...] = ()
    retry_after: float | None = None
    """Seconds until it is worth while to try again."""


class MediagateError(Exception):
    """A call that did not succeed.

    `generation` is set where it was accepted and then ended badly: it says what was paid. With
    DeadlineExceeded it may not be over yet.
    `request_id` names the paid call: the same call with it never starts a second run.
    """

    def __init__(self, details: Details) -> None:
        """Make the error that `details` describe."""
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
        """Why, in a word that programs can compare: a name of the contract's ErrorReason."""
        return self.details.reason

    @property
    def message(self) -> str:
        """Why, in a sentence for people."""
        return self.details.message

    @property
    def metadata(self) -> Mapping[str, str]:
        """What varies in the message, by name."""
        return self.details.metadata

    @property
    def violations(self) -> tuple[Violation, ...]:
        """What was wrong, field by field or budget by budget."""
        return self.details.violations

    @property
    def retry_after(self) -> float | None:
        """Seconds until it is worth while to try again. None: not said."""
        return self.details.retry_after

    def __str__(self) -> str:
        """Return the message with its reason."""
        return f"{self.message} ({self.reason or self.code.name})"


class InvalidRequest(MediagateError):
    """The request can never work; `violations` name the fields."""


class MediaTooLarge(InvalidRequest):
    """An inline medium is over 3 MiB: give a URL or an output of an earlier generation."""


class RequestTooLarge(MediagateError):
    """The message is over what a gate takes. It was refused here; nothing was sent."""

    def __init__(self, size: int, limit: int) -> None:
        """Say how large it is and how large it may be, in bytes."""
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
    """Something else must change first: see `reason`."""


class ContentBlocked(PreconditionFailed):
    """The content was refused, by the screening or by the model."""


class ResourceExhausted(MediagateError):
    """Something is used up: see `reason`."""


class RateLimited(ResourceExhausted):
    """Too many requests, or runs at once: `retry_after` says when to come back."""


class QuotaExceeded(ResourceExhausted):
    """A budget is used up; `violations` say which."""


class Unavailable(MediagateError):
    """The gate, or what it depends on, cannot be had now. The same call may work later."""


class RunFailed(MediagateError):
    """The model ran and failed; `generation.cost` says what it cost."""


class GenerationCancelled(MediagateError):
    """It was cancelled; `generation.cost` says what ran until then."""


class DeadlineExceeded(MediagateError, TimeoutError):
    """The time was over before the end."""


class StreamLost(MediagateError):
    """The stream cannot be continued from where it stood. The generation may have the whole."""


class DataLost(MediagateError):
    """An output was made but cannot be had whole."""


class NotBuilt(MediagateError):
    """The contract has it, this gate does not yet."""


class InternalError(MediagateError):
    """A bug of the gate's, or a failure that says no more."""


def local_invalid_request(field_name: str, description: str) -> InvalidRequest:
    """Return the error for a request that this client can see is wrong; nothing was sent."""
    return InvalidRequest(
        Details(
            code=grpc.StatusCode.INVALID_ARGUMENT,
            message=f"{field_name}: {description}",
            reason="INVALID_REQUEST",
            violations=(Violation(field_name, description),),
        )
    )


def deadline_exceeded(message: str) -> DeadlineExceeded:
    """Return the error for a deadline that passed on this side."""
    return DeadlineExceeded(Details(grpc.StatusCode.DEADLINE_EXCEEDED, message))


def still_running(generation: Generation) -> DeadlineExceeded:
    """Return the error for a call that was over before its generation, which goes on."""
    error = deadline_exceeded(
        f"the time given to this call is over, the generation goes on: {generation.id}"
    )
    error.generation = generation
    error.request_id = generation.request_id
    return error
