"""Errors: the exception tree, and failures as records. gRPC codes are in `api/status.py`."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import ClassVar

from msgspec import Struct, field

from mediagate_server.structs import replace


class Reason(StrEnum):
    """`ErrorInfo.reason`, one per error that a program may want to handle.

    The contract's `ErrorReason` enum holds the same names; a test compares the two.
    """

    INVALID_REQUEST = "INVALID_REQUEST"
    PARAMETER_UNSUPPORTED = "PARAMETER_UNSUPPORTED"
    MEDIA_TOO_LARGE = "MEDIA_TOO_LARGE"
    INPUT_REJECTED = "INPUT_REJECTED"
    NOT_IMPLEMENTED = "NOT_IMPLEMENTED"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    GENERATION_NOT_FOUND = "GENERATION_NOT_FOUND"
    KEY_MISSING = "KEY_MISSING"
    KEY_INVALID = "KEY_INVALID"
    SCOPE_MISSING = "SCOPE_MISSING"
    MODEL_NOT_ALLOWED = "MODEL_NOT_ALLOWED"
    RATE_LIMITED = "RATE_LIMITED"
    TOO_MANY_IN_FLIGHT = "TOO_MANY_IN_FLIGHT"
    QUEUE_FULL = "QUEUE_FULL"
    BUDGET_EXCEEDED = "BUDGET_EXCEEDED"
    MODEL_RETIRED = "MODEL_RETIRED"
    NO_MODEL_FITS = "NO_MODEL_FITS"
    MAX_COST_EXCEEDED = "MAX_COST_EXCEEDED"
    PRICE_UNKNOWN = "PRICE_UNKNOWN"
    DEADLINE_TOO_SHORT = "DEADLINE_TOO_SHORT"
    CONTENT_BLOCKED = "CONTENT_BLOCKED"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    STREAM_EXPIRED = "STREAM_EXPIRED"
    STREAM_INTERRUPTED = "STREAM_INTERRUPTED"
    UPSTREAM_UNAVAILABLE = "UPSTREAM_UNAVAILABLE"
    CIRCUIT_OPEN = "CIRCUIT_OPEN"
    UPSTREAM_ACCOUNT = "UPSTREAM_ACCOUNT"
    SUBMIT_UNCONFIRMED = "SUBMIT_UNCONFIRMED"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    DRAINING = "DRAINING"
    RUN_FAILED = "RUN_FAILED"
    OUTPUT_STORE_FAILED = "OUTPUT_STORE_FAILED"
    DEADLINE = "DEADLINE"
    CANCELLED = "CANCELLED"
    INTERNAL = "INTERNAL"
    OUTPUT_INVALID = "OUTPUT_INVALID"
    OUTPUT_TOO_LARGE = "OUTPUT_TOO_LARGE"
    QUARANTINED = "QUARANTINED"
    OUTPUT_LOST = "OUTPUT_LOST"
    UPLOAD_NOT_FOUND = "UPLOAD_NOT_FOUND"


class Violation(Struct, frozen=True):
    """An invalid field: its path in the request (`options.labels`, `messages[2].parts`) and why."""

    field: str
    description: str


class Failure(Struct, frozen=True):
    """A failure as a record: stored with a generation, and converted to a status by the API.

    `retry_after` is in seconds; None: a retry of the same request will not help. `absent`: the
    request is valid, but what it names does not exist.
    """

    reason: Reason
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: tuple[Violation, ...] = ()
    retry_after: float | None = None
    absent: bool = False
    precondition: bool = False
    """The request is valid, but its subject is not in the state for it."""


class MediagateError(Exception):
    """Base of all errors that callers are sent. Raise a subclass."""

    reason: ClassVar[Reason] = Reason.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: tuple[Violation, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.failure = Failure(self.reason, message, metadata or {}, violations, retry_after)


class StoredFailure(MediagateError):
    """A failure from a generation's record, raised again for a caller that attached."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class InvalidRequest(MediagateError):
    """The request is invalid. `violations` names each invalid field."""

    reason = Reason.INVALID_REQUEST

    def __init__(self, *violations: Violation) -> None:
        text = "; ".join(f"{v.field}: {v.description}" for v in violations)
        super().__init__(text, violations=violations)

    @classmethod
    def of(cls, field_path: str, description: str) -> "InvalidRequest":
        """The usual case: one invalid field."""
        return cls(Violation(field_path, description))


class NotTerminal(InvalidRequest):
    """The generation has not ended, which this request needs."""

    def __init__(self, generation_id: str) -> None:
        super().__init__(Violation("id", "must be of a generation that has come to its end"))
        self.failure = replace(self.failure, metadata={"id": generation_id}, precondition=True)


class ParameterUnsupported(InvalidRequest):
    """Strict mode: the model cannot honour a parameter that the caller set."""

    reason = Reason.PARAMETER_UNSUPPORTED


class MediaTooLarge(InvalidRequest):
    """An inline medium or an upload is over the limit."""

    reason = Reason.MEDIA_TOO_LARGE


class InputRejected(InvalidRequest):
    """Replicate refused the input that we built. Nothing was run, nothing is charged."""

    reason = Reason.INPUT_REJECTED


class NotImplementedYet(MediagateError):
    """In the contract, but not in this version of the server. Nothing was stored or spent."""

    reason = Reason.NOT_IMPLEMENTED

    def __init__(self, what: str, *, field_path: str = "") -> None:
        violations = (Violation(field_path, "not implemented yet"),) if field_path else ()
        metadata = {"field": field_path} if field_path else {}
        super().__init__(f"{what} is not implemented yet", metadata=metadata, violations=violations)


class UnknownMethod(MediagateError):
    """Neither this server nor the contract knows the rpc that was called."""

    reason = Reason.NOT_IMPLEMENTED

    def __init__(self, method: str) -> None:
        super().__init__("there is no such method", metadata={"method": method})


class NotFound(MediagateError):
    """The named thing does not exist, or belongs to another tenant: the two look the same."""


def suggestion_text(nearest: Sequence[str]) -> str:
    """A suggestion of similar names, appended to a message; empty where there is none."""
    return f"; did you mean {' or '.join(nearest)}?" if nearest else ""


class ModelNotFound(NotFound):
    """No model of this slug or alias in the catalog, or none of this modality."""

    reason = Reason.MODEL_NOT_FOUND

    def __init__(
        self, model: str, modality: str = "", *, nearest: Sequence[str] = (), makes: str = ""
    ) -> None:
        """`nearest` are similar names; `makes` the modality of a model of this very name."""
        kind = f"{modality} model" if modality else "model"
        field = "options.model" if modality else "model"
        metadata = {"model": model, "modality": modality}
        text = f"; it makes {makes}" if makes else suggestion_text(nearest)
        if nearest:
            metadata["nearest"] = ", ".join(nearest)
        super().__init__(
            f"no {kind} is called {model!r}{text}",
            metadata=metadata,
            violations=(Violation(field, f"no {kind} of this name{text}"),),
        )


class GenerationNotFound(NotFound):
    """No generation of this id belongs to the caller's tenant."""

    reason = Reason.GENERATION_NOT_FOUND

    def __init__(self, generation_id: str) -> None:
        super().__init__("no such generation", metadata={"id": generation_id})


class OutputNotFound(GenerationNotFound):
    """The generation exists, and has no output of this index (yet)."""

    def __init__(self, generation_id: str, index: int) -> None:
        super().__init__(generation_id)
        metadata = {"id": generation_id, "index": str(index)}
        self.failure = replace(self.failure, message="no such output", metadata=metadata)


class UploadNotFound(NotFound):
    """No upload of this id belongs to the caller's tenant, or it has expired."""

    reason = Reason.UPLOAD_NOT_FOUND

    def __init__(self, upload_id: str) -> None:
        super().__init__("no such upload", metadata={"upload_id": upload_id})


class ResourceNotFound(NotFound):
    """A tenant, budget or webhook that an admin named does not exist; `field` named it.

    It has the reason of an invalid request, and the code NOT_FOUND.
    """

    reason = Reason.INVALID_REQUEST

    def __init__(self, kind: str, field: str) -> None:
        text = f"no such {kind}"
        super().__init__(text, violations=(Violation(field, text),))
        self.failure = replace(self.failure, absent=True)


class ApiKeyMissing(MediagateError):
    """The call carries no API key and one is needed."""

    reason = Reason.KEY_MISSING


class ApiKeyInvalid(MediagateError):
    """The call carries an API key that is not valid."""

    reason = Reason.KEY_INVALID


class ScopeMissing(MediagateError):
    """The caller is known, and may not do this."""

    reason = Reason.SCOPE_MISSING


class QuotaExceeded(MediagateError):
    """A limit is reached. `retry_after` says when a retry may work."""


class RateLimited(QuotaExceeded):
    """More requests a minute than the tenant may send."""

    reason = Reason.RATE_LIMITED


class TooManyInFlight(QuotaExceeded):
    """More generations at once than the tenant may run."""

    reason = Reason.TOO_MANY_IN_FLIGHT


class TooManyRpcs(QuotaExceeded):
    """More open rpcs than the server allows in all, or for this caller."""

    reason = Reason.QUEUE_FULL


class BudgetExceeded(QuotaExceeded):
    """The cost limit of the call does not fit into a budget; metadata names it."""

    reason = Reason.BUDGET_EXCEEDED


class PreconditionFailed(MediagateError):
    """The request is valid but cannot be served in the present state."""


class ModelRetired(PreconditionFailed):
    """The model is gone from Replicate; metadata names a successor where there is one."""

    reason = Reason.MODEL_RETIRED


class NoMatchingModel(PreconditionFailed):
    """No model was named, and none of the requested quality can serve the request."""

    reason = Reason.NO_MODEL_FITS


class MaxCostExceeded(PreconditionFailed):
    """The most this call may cost is above the `max_cost_usd_nanos` it set."""

    reason = Reason.MAX_COST_EXCEEDED


class PriceUnknown(PreconditionFailed):
    """The call is bounded by money and the model's price is not known."""

    reason = Reason.PRICE_UNKNOWN


class DeadlineTooShort(PreconditionFailed):
    """`timeout` is shorter than the shortest that Replicate can be held to (5 s)."""

    reason = Reason.DEADLINE_TOO_SHORT


class ContentBlocked(PreconditionFailed):
    """The model, or the guard in front of it, refused the content."""

    reason = Reason.CONTENT_BLOCKED


class RequestIdReused(MediagateError):
    """The request_id is bound to another request or method."""

    reason = Reason.REQUEST_ID_REUSED

    def __init__(self, request_id: str) -> None:
        super().__init__(
            "request_id was used before for another request",
            metadata={"request_id": request_id},
            violations=(Violation("request_id", "bound to another request"),),
        )


class StreamExpired(MediagateError):
    """The text after the requested sequence is gone, or that sequence was never reached."""

    reason = Reason.STREAM_EXPIRED


class StreamInterrupted(MediagateError):
    """The text from upstream does not continue what the caller already has."""

    reason = Reason.STREAM_INTERRUPTED


class Unavailable(MediagateError):
    """Temporarily unavailable. `retry_after` (seconds) says when the same call may work."""


class UpstreamUnavailable(Unavailable):
    """Replicate did not take the request: refused connection or throttled. Nothing is charged."""

    reason = Reason.UPSTREAM_UNAVAILABLE

    @classmethod
    def unreachable(cls, metadata: Mapping[str, str] | None = None) -> "UpstreamUnavailable":
        """No connection could be made."""
        return cls("upstream cannot be reached", metadata=metadata, retry_after=5.0)


class CircuitOpen(Unavailable):
    """Too many requests to this model failed recently: none is sent for a while."""

    reason = Reason.CIRCUIT_OPEN


class UpstreamAccountError(Unavailable):
    """Replicate refuses the operator's account (token or credit). Callers cannot fix it."""

    reason = Reason.UPSTREAM_ACCOUNT


class SubmitUnconfirmed(Unavailable):
    """Whether Replicate took the request is unknown; the same request_id attaches again."""

    reason = Reason.SUBMIT_UNCONFIRMED


class StoreUnavailable(Unavailable):
    """The store cannot commit, so nothing may be spent."""

    reason = Reason.STORE_UNAVAILABLE


class ServerDraining(Unavailable):
    """This process is shutting down; the next one continues what was accepted.

    The metadata names what the call was bound to, or may have been.
    """

    reason = Reason.DRAINING

    @classmethod
    def of(cls, *, request_id: str = "", generation_id: str = "") -> "ServerDraining":
        """Empty values are unknown: with none, the call has started nothing."""
        ids = {"request_id": request_id, "generation_id": generation_id}
        return cls(
            "the server is shutting down; send the same request again",
            metadata={name: value for name, value in ids.items() if value},
            retry_after=1.0,
        )


class RunFailed(MediagateError):
    """The model ran and failed. It may have been charged: see the generation's cost."""

    reason = Reason.RUN_FAILED


class OutputInvalid(MediagateError):
    """The output does not have the requested form. It is charged."""

    reason = Reason.OUTPUT_INVALID


class OutputTooLarge(MediagateError):
    """The output is over the size limit, or cannot be read for its size. It is charged."""

    reason = Reason.OUTPUT_TOO_LARGE


class OutputLost(MediagateError):
    """The run succeeded, and its output is missing: removed, none, or of another kind.

    It may have been charged: what it cost is unknown where upstream's metrics do not say.
    """

    reason = Reason.OUTPUT_LOST


class GenerationQuarantined(MediagateError):
    """Handling the output crashed the server repeatedly: it is skipped. It is charged."""

    reason = Reason.QUARANTINED


class DeadlineExceeded(MediagateError):
    """The generation's `timeout` was over before its end."""

    reason = Reason.DEADLINE


class GenerationCancelled(MediagateError):
    """The generation was cancelled: by request, or as its last caller left."""

    reason = Reason.CANCELLED


class InternalError(MediagateError):
    """A bug of ours. The text never holds anything of the exception behind it."""

    reason = Reason.INTERNAL

    def __init__(self) -> None:
        super().__init__("internal error")


class StaleOwner(StoreUnavailable):
    """Another process has taken the store over. This one has written nothing, and never will.

    To callers it is a store that cannot be written: the same call works with the new owner.
    """

    def __init__(self) -> None:
        super().__init__("another process has taken over", retry_after=1.0)
