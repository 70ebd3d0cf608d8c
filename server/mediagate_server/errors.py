"""What can go wrong, as facts and as exceptions. Nothing here knows gRPC: `status.py` does.

MediagateError                     every failure a caller can be told of
├── InvalidRequest                 the request itself is wrong; names the fields
│   ├── ParameterUnsupported       the model cannot honour a parameter (strict mode)
│   ├── MediaTooLarge              an inline medium is over the limit
│   └── InputRejected              Replicate refused the input
├── NotBuilt                       the rpc or field is in the contract, not yet in the server
├── UnknownMethod                  the contract has no such rpc
├── NotFound
│   ├── ModelNotFound
│   ├── GenerationNotFound
│   │   └── OutputNotFound
│   ├── UploadNotFound
│   └── ResourceNotFound                     what an admin named
├── ApiKeyMissing, ApiKeyInvalid         who is calling?
├── ScopeMissing                   the key may not do this
├── QuotaExceeded                  carries retry_after where waiting helps
│   ├── RateLimited, TooManyInFlight, BudgetExceeded
├── PreconditionFailed
│   ├── ModelRetired, MaxCostExceeded, PriceUnknown, DeadlineTooShort, ContentBlocked
├── RequestIdReused                same request_id, other request
├── StreamExpired                  the text asked for is gone or was never there
├── StreamInterrupted              the bytes already sent cannot be continued
├── Unavailable                    carries retry_after
│   ├── UpstreamUnavailable, CircuitOpen, UpstreamAccountError
│   ├── SubmitUnconfirmed, StoreUnavailable, Draining
├── RunFailed                      the model ran and failed
├── OutputInvalid                  the answer is not the JSON that was asked for
├── OutputTooLarge                 the output is larger than what is kept
├── OutputLost                     the run succeeded, and upstream has nothing of what it made
├── Quarantined                    handling the output has brought the gate down
├── DeadlineExceeded                 `timeout` was over before the end
├── Cancelled                      somebody asked for the end
└── Internal                       a bug of ours; the text is fixed
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from msgspec import Struct, field

from mediagate_server.reasons import Reason as Reason  # noqa: PLC0414 - told along with them
from mediagate_server.structs import replace


class Violation(Struct, frozen=True):
    """One wrong field: its path in the request (`options.labels`, `messages[2].parts`) and why."""

    field: str
    description: str


class Failure(Struct, frozen=True):
    """A failure as a fact: it is stored with a generation and turned into a status at the door.

    `retry_after` is in seconds; None means that sending the same again will not help. `absent`:
    nothing is wrong with the request but that what it names is not there.
    """

    reason: Reason
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: tuple[Violation, ...] = ()
    retry_after: float | None = None
    absent: bool = False
    precondition: bool = False
    """The request is right as it is; what it is about is not in a state for it."""


class MediagateError(Exception):
    """Base of all failures that a caller is told of. Raise a subclass, or `from_failure`."""

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
    """A failure read back from a generation's record, raised again for a caller who attached."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class InvalidRequest(MediagateError):
    """The request can never work as it stands. `violations` names each wrong field."""

    reason = Reason.INVALID_REQUEST

    def __init__(self, *violations: Violation) -> None:
        text = "; ".join(f"{v.field}: {v.description}" for v in violations)
        super().__init__(text, violations=violations)

    @classmethod
    def of(cls, field_path: str, description: str) -> "InvalidRequest":
        """The usual case: one field is wrong."""
        return cls(Violation(field_path, description))


class NotTerminal(InvalidRequest):
    """The generation has not come to its end, which it must have for this."""

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
    """The contract has it, this version of the server does not. Nothing was stored or spent."""

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
    """Names that may have been meant, to be put behind what is wrong; empty where there is none."""
    return f"; did you mean {' or '.join(nearest)}?" if nearest else ""


class ModelNotFound(NotFound):
    """No model of this slug or alias in the catalog, or none of this modality."""

    reason = Reason.MODEL_NOT_FOUND

    def __init__(self, model: str, modality: str = "", *, nearest: Sequence[str] = ()) -> None:
        """`nearest` are names of models that may have been meant."""
        kind = f"{modality} model" if modality else "model"
        field = "options.model" if modality else "model"
        metadata = {"model": model, "modality": modality}
        words = suggestion_text(nearest)
        if nearest:
            metadata["nearest"] = ", ".join(nearest)
        super().__init__(
            f"no {kind} is called {model!r}{words}",
            metadata=metadata,
            violations=(Violation(field, f"no {kind} of this name{words}"),),
        )


class GenerationNotFound(NotFound):
    """No generation of this id belongs to the caller's tenant."""

    reason = Reason.GENERATION_NOT_FOUND

    def __init__(self, generation_id: str) -> None:
        super().__init__("no such generation", metadata={"id": generation_id})


class OutputNotFound(GenerationNotFound):
    """The generation is there, and has no output of this index (yet)."""

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
    """What an admin named is not there: a tenant, a budget, a webhook. `field` is where it stood.

    It has the reason of a request that is wrong, and the code of what is missing.
    """

    reason = Reason.INVALID_REQUEST

    def __init__(self, kind: str, field: str) -> None:
        words = f"no such {kind}"
        super().__init__(words, violations=(Violation(field, words),))
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
    """A limit is reached. `retry_after` says when trying again may work."""


class RateLimited(QuotaExceeded):
    """More requests a minute than the tenant may send."""

    reason = Reason.RATE_LIMITED


class TooManyInFlight(QuotaExceeded):
    """More generations at once than the tenant may run."""

    reason = Reason.TOO_MANY_IN_FLIGHT


class TooManyRpcs(QuotaExceeded):
    """More rpcs are open than the gate serves, or than this caller's share of them."""

    reason = Reason.QUEUE_FULL


class BudgetExceeded(QuotaExceeded):
    """What the call may cost does not fit into a budget any more; metadata names it."""

    reason = Reason.BUDGET_EXCEEDED


class PreconditionFailed(MediagateError):
    """The request is well formed but cannot be served as things stand."""


class ModelRetired(PreconditionFailed):
    """The model is gone from Replicate; metadata names a successor where there is one."""

    reason = Reason.MODEL_RETIRED


class NoMatchingModel(PreconditionFailed):
    """No model was named, and none of the quality asked for can do what was asked."""

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
    """The text after the sequence asked for is gone, or that sequence was never reached."""

    reason = Reason.STREAM_EXPIRED


class StreamInterrupted(MediagateError):
    """The text went on upstream in a way that does not continue what the caller already has."""

    reason = Reason.STREAM_INTERRUPTED


class Unavailable(MediagateError):
    """Not now. `retry_after` (seconds) says when the same call may work."""


class UpstreamUnavailable(Unavailable):
    """Replicate did not take the request: refused connection or throttled. Nothing is charged."""

    reason = Reason.UPSTREAM_UNAVAILABLE

    @classmethod
    def unreachable(cls, metadata: Mapping[str, str] | None = None) -> "UpstreamUnavailable":
        """No connection came about, whatever was to be sent."""
        return cls("upstream cannot be reached", metadata=metadata, retry_after=5.0)


class CircuitOpen(Unavailable):
    """Too many requests to this model failed lately: none is sent for a while."""

    reason = Reason.CIRCUIT_OPEN


class UpstreamAccountError(Unavailable):
    """Replicate refuses the operator's account (token or credit). Callers cannot mend it."""

    reason = Reason.UPSTREAM_ACCOUNT


class SubmitUnconfirmed(Unavailable):
    """Whether Replicate took the request is unknown; the same request_id attaches again."""

    reason = Reason.SUBMIT_UNCONFIRMED


class StoreUnavailable(Unavailable):
    """The store cannot commit, so nothing may be spent."""

    reason = Reason.STORE_UNAVAILABLE


class ServerDraining(Unavailable):
    """This process is shutting down; another one carries on with what was accepted.

    The metadata names what the call was bound to, or may have been.
    """

    reason = Reason.DRAINING

    @classmethod
    def of(cls, *, request_id: str = "", generation_id: str = "") -> "ServerDraining":
        """What is empty is not known: without any, the call has begun nothing."""
        known = {"request_id": request_id, "generation_id": generation_id}
        return cls(
            "the gate is shutting down; send the same request again",
            metadata={name: value for name, value in known.items() if value},
            retry_after=1.0,
        )


class RunFailed(MediagateError):
    """The model ran and failed. It may have been charged: see the generation's cost."""

    reason = Reason.RUN_FAILED


class OutputInvalid(MediagateError):
    """The model answered, and not in the form that was asked for. It is charged."""

    reason = Reason.OUTPUT_INVALID


class OutputTooLarge(MediagateError):
    """The model made more than is kept of any, or more than can be read. It is charged."""

    reason = Reason.OUTPUT_TOO_LARGE


class OutputLost(MediagateError):
    """The run succeeded, and its output is not there: removed, none, or none of its kind.

    It may have been charged: what it cost is unknown where upstream's metrics do not say.
    """

    reason = Reason.OUTPUT_LOST


class GenerationQuarantined(MediagateError):
    """Handling what the model made broke the gate again and again: it is passed over. Charged."""

    reason = Reason.QUARANTINED


class DeadlineExceeded(MediagateError):
    """The generation's `timeout` was over before its end."""

    reason = Reason.DEADLINE


class GenerationCancelled(MediagateError):
    """The generation was cancelled: asked for, or its last caller left."""

    reason = Reason.CANCELLED


class InternalError(MediagateError):
    """A bug of ours. The text never holds anything of the exception behind it."""

    reason = Reason.INTERNAL

    def __init__(self) -> None:
        super().__init__("internal error")


class StaleOwner(StoreUnavailable):
    """Another process has taken the store over. Nothing was written, nor ever will be by this one.

    To callers it is a store that cannot be written: the same call works with the new owner.
    """

    def __init__(self) -> None:
        super().__init__("another process has taken over", retry_after=1.0)
