"""From statuses to typed errors."""

import grpc
import pytest
from google.rpc import error_details_pb2

import mediagate_client
from mediagate.v1.cost_pb2 import Cost
from mediagate.v1.errors_pb2 import ErrorReason
from mediagate.v1.generation_pb2 import Generation
from mediagate_client import errors
from mediagate_client.error_mapping import (
    from_generation,
    from_rpc_error,
    from_status,
    is_interrupted,
)

from .rpc_statuses import DETAILS_KEY, Refusal, status, trailing

C = grpc.StatusCode
FAMILIES: dict[str, tuple[C, type[errors.MediagateError]]] = {
    "INVALID_REQUEST": (C.INVALID_ARGUMENT, errors.InvalidRequest),
    "PARAMETER_UNSUPPORTED": (C.INVALID_ARGUMENT, errors.InvalidRequest),
    "MEDIA_TOO_LARGE": (C.INVALID_ARGUMENT, errors.MediaTooLarge),
    "INPUT_REJECTED": (C.INVALID_ARGUMENT, errors.InvalidRequest),
    "NOT_IMPLEMENTED": (C.UNIMPLEMENTED, errors.NotBuilt),
    "MODEL_NOT_FOUND": (C.NOT_FOUND, errors.NotFound),
    "GENERATION_NOT_FOUND": (C.NOT_FOUND, errors.NotFound),
    "UPLOAD_NOT_FOUND": (C.NOT_FOUND, errors.NotFound),
    "KEY_MISSING": (C.UNAUTHENTICATED, errors.Unauthenticated),
    "KEY_INVALID": (C.UNAUTHENTICATED, errors.Unauthenticated),
    "SCOPE_MISSING": (C.PERMISSION_DENIED, errors.PermissionDenied),
    "MODEL_NOT_ALLOWED": (C.PERMISSION_DENIED, errors.PermissionDenied),
    "RATE_LIMITED": (C.RESOURCE_EXHAUSTED, errors.RateLimited),
    "TOO_MANY_IN_FLIGHT": (C.RESOURCE_EXHAUSTED, errors.RateLimited),
    "QUEUE_FULL": (C.RESOURCE_EXHAUSTED, errors.RateLimited),
    "BUDGET_EXCEEDED": (C.RESOURCE_EXHAUSTED, errors.QuotaExceeded),
    "MODEL_RETIRED": (C.FAILED_PRECONDITION, errors.PreconditionFailed),
    "NO_MODEL_FITS": (C.FAILED_PRECONDITION, errors.PreconditionFailed),
    "MAX_COST_EXCEEDED": (C.FAILED_PRECONDITION, errors.PreconditionFailed),
    "PRICE_UNKNOWN": (C.FAILED_PRECONDITION, errors.PreconditionFailed),
    "DEADLINE_TOO_SHORT": (C.FAILED_PRECONDITION, errors.PreconditionFailed),
    "CONTENT_BLOCKED": (C.FAILED_PRECONDITION, errors.ContentBlocked),
    "REQUEST_ID_REUSED": (C.ALREADY_EXISTS, errors.RequestIdReused),
    "STREAM_EXPIRED": (C.OUT_OF_RANGE, errors.StreamLost),
    "STREAM_INTERRUPTED": (C.DATA_LOSS, errors.StreamLost),
    "UPSTREAM_UNAVAILABLE": (C.UNAVAILABLE, errors.Unavailable),
    "CIRCUIT_OPEN": (C.UNAVAILABLE, errors.Unavailable),
    "UPSTREAM_ACCOUNT": (C.UNAVAILABLE, errors.Unavailable),
    "SUBMIT_UNCONFIRMED": (C.UNAVAILABLE, errors.Unavailable),
    "STORE_UNAVAILABLE": (C.UNAVAILABLE, errors.Unavailable),
    "DRAINING": (C.UNAVAILABLE, errors.Unavailable),
    "RUN_FAILED": (C.FAILED_PRECONDITION, errors.RunFailed),
    "OUTPUT_INVALID": (C.FAILED_PRECONDITION, errors.RunFailed),
    "QUARANTINED": (C.DATA_LOSS, errors.DataLost),
    "OUTPUT_STORE_FAILED": (C.DATA_LOSS, errors.DataLost),
    "OUTPUT_TOO_LARGE": (C.DATA_LOSS, errors.DataLost),
    "OUTPUT_LOST": (C.DATA_LOSS, errors.DataLost),
    "DEADLINE": (C.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
    "CANCELLED": (C.CANCELLED, errors.GenerationCancelled),
    "INTERNAL": (C.INTERNAL, errors.InternalError),
}


def test_every_reason_of_the_contract_has_a_class() -> None:
    """A reason that is new in the contract must be thought about here."""
    prefix = "ERROR_REASON_"
    names = {name.removeprefix(prefix) for name in ErrorReason.keys()}  # noqa: SIM118 - an enum
    assert names - {"UNSPECIFIED"} == set(FAMILIES)


@pytest.mark.parametrize("reason", FAMILIES)
def test_a_reason_becomes_its_class(reason: str) -> None:
    """Each documented failure is of the class that a caller catches, and no wider one."""
    code, family = FAMILIES[reason]
    error = from_status(status(code, reason))
    assert type(error) is family
    assert (error.code, error.reason) == (code, reason)


def test_all_details_of_a_status_are_on_the_error() -> None:
    """Reason, message, metadata, fields and the time to come back survive the way."""
    rpc_error = status(
        C.INVALID_ARGUMENT,
        "INVALID_REQUEST",
        "two fields are wrong",
        retry_after=2.5,
        fields=["prompt", "seed"],
        metadata={"limit": "16"},
    )
    error = from_rpc_error(Refusal(C.INVALID_ARGUMENT, "two fields are wrong", trailing(rpc_error)))
    assert isinstance(error, errors.InvalidRequest)
    assert [(v.field, v.description) for v in error.violations] == [
        ("prompt", "is wrong"),
        ("seed", "is wrong"),
    ]
    assert error.retry_after == 2.5
    assert error.metadata == {"limit": "16"}
    assert error.message == "two fields are wrong"
    assert "INVALID_REQUEST" in str(error)


def test_budgets_and_preconditions_are_violations_too() -> None:
    """QuotaFailure and PreconditionFailure say what they are about."""
    quota = error_details_pb2.QuotaFailure(
        violations=[error_details_pb2.QuotaFailure.Violation(subject="month", description="spent")]
    )
    retired = error_details_pb2.PreconditionFailure(
        violations=[
            error_details_pb2.PreconditionFailure.Violation(subject="old/model", description="gone")
        ]
    )
    error = from_status(status(C.RESOURCE_EXHAUSTED, "BUDGET_EXCEEDED", more=[quota, retired]))
    assert [v.field for v in error.violations] == ["month", "old/model"]


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        (),
        ((DETAILS_KEY, b"\xff\xff not a status"),),
        trailing(status(C.NOT_FOUND, "MODEL_NOT_FOUND")),
    ],
    ids=["none", "empty", "garbage", "contradiction"],
)
def test_unusable_details_are_ignored(metadata: object) -> None:
    """The status line counts where details are missing, broken or of another code."""
    error = from_rpc_error(Refusal(C.UNAVAILABLE, "down", metadata))
    assert isinstance(error, errors.Unavailable)
    assert (error.reason, error.message) == ("", "down")


def test_reasons_of_other_domains_are_ignored() -> None:
    """A proxy's ErrorInfo does not pass for the server's."""
    info = error_details_pb2.ErrorInfo(reason="RATE_LIMITED", domain="proxy.example")
    error = from_status(status(C.UNAVAILABLE, more=[info]))
    assert (type(error), error.reason) == (errors.Unavailable, "")


def test_a_deadline_is_a_timeout() -> None:
    """Code that catches TimeoutError catches ours."""
    assert isinstance(from_status(status(C.DEADLINE_EXCEEDED, "DEADLINE")), TimeoutError)


def test_a_run_failure_carries_its_generation() -> None:
    """Whoever catches RunFailed can see what was paid, and name the call."""
    generation = Generation(
        id="g",
        request_id="r",
        state=Generation.STATE_FAILED,
        error=status(C.FAILED_PRECONDITION, "RUN_FAILED"),
        cost=Cost(usd_nanos=5),
    )
    error = from_generation(generation)
    assert isinstance(error, errors.RunFailed)
    assert error.generation is generation
    assert error.request_id == "r"


@pytest.mark.parametrize(
    ("rpc_error", "cut"),
    [
        (status(C.UNAVAILABLE, message="Socket closed"), True),
        (status(C.CANCELLED, message="CANCELLED"), True),
        (status(C.CANCELLED, "CANCELLED"), False),
        (status(C.INTERNAL, message="Received RST_STREAM with error code 2"), True),
        (status(C.UNKNOWN, message="Stream removed"), True),
        (status(C.INTERNAL, message="Internal error from Core"), True),
        (status(C.INTERNAL, message="boom"), False),
        (status(C.INTERNAL, "INTERNAL", message="RST_STREAM"), False),
        (status(C.UNAVAILABLE, "CIRCUIT_OPEN"), False),
    ],
)
def test_a_broken_connection_differs_from_a_server_error(rpc_error: object, cut: bool) -> None:
    """What a connection did is not what a server said: a server always gives a reason."""
    assert is_interrupted(from_status(rpc_error)) is cut


def test_all_classes_are_exported() -> None:
    """Every class of the tree can be imported from the package itself."""
    exported = {
        name
        for name, thing in vars(errors).items()
        if isinstance(thing, type) and issubclass(thing, errors.MediagateError)
    }
    assert exported <= set(mediagate_client.__all__)
