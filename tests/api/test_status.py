"""The table of failures: complete, equal to the contract's words, and small enough to travel."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from mediagate.v1 import errors_pb2
from mediagate_server.api.status import CODES, DOMAIN, code_for_reason, code_number, to_status
from mediagate_server.errors import (
    Failure,
    GenerationNotFound,
    InvalidRequest,
    ModelNotFound,
    NotImplementedYet,
    RateLimited,
    Reason,
    Violation,
)

CONTRACT = Path(__file__).parents[2] / "protos" / "mediagate" / "v1" / "errors.proto"
PREFIX = "ERROR_REASON_"
M = TypeVar("M", bound=Message)


def codes_in_contract() -> Iterator[tuple[str, str]]:
    """(reason, code) of each value of ErrorReason, as its comment has it."""
    for comment, name in re.findall(
        r"((?:  //[^\n]*\n)+)  ERROR_REASON_(\w+) = \d+;", CONTRACT.read_text()
    ):
        if name != "UNSPECIFIED":
            last_line = comment.strip().splitlines()[-1]
            yield name, last_line.removeprefix("  // ").removeprefix("// ").split(".")[0]


def detail(status: status_pb2.Status, kind: type[M]) -> list[M]:
    """All details of one kind."""
    values = []
    for packed in status.details:
        message = kind()
        if packed.Unpack(message):
            values.append(message)
    return values


def test_reasons_are_those_of_the_contract() -> None:
    """Reason and ErrorReason name the same things."""
    names = {name.removeprefix(PREFIX) for name in errors_pb2.ErrorReason.DESCRIPTOR.values_by_name}
    assert names - {"UNSPECIFIED"} == {reason.value for reason in Reason}


def test_codes_match_the_contracts_comments() -> None:
    """Each reason has a code, and it is the one in the comment of its enum value."""
    written = dict(codes_in_contract())
    assert set(CODES) == set(Reason)
    assert written == {reason.value: code_for_reason(reason).name for reason in Reason}


@pytest.mark.parametrize("reason", list(Reason))
def test_every_failure_has_exactly_one_error_info(reason: Reason) -> None:
    """Code, message, one ErrorInfo with our domain and the failure's metadata."""
    status = to_status(Failure(reason, "words", {"model": "a/b"}))
    (info,) = detail(status, details.ErrorInfo)
    assert (status.code, status.message) == (code_number(code_for_reason(reason)), "words")
    assert (info.reason, info.domain, dict(info.metadata)) == (reason, DOMAIN, {"model": "a/b"})
    assert not detail(status, details.RetryInfo)
    quota = detail(status, details.QuotaFailure)
    assert bool(quota) is (code_for_reason(reason) is StatusCode.RESOURCE_EXHAUSTED)
    condition = detail(status, details.PreconditionFailure)
    assert bool(condition) is (code_for_reason(reason) is StatusCode.FAILED_PRECONDITION)


def test_violations_become_a_bad_request() -> None:
    """Every field at fault is named, in BadRequest and in the metadata."""
    wrong = InvalidRequest(Violation("prompt", "is empty"), Violation("seed", "is negative"))
    status = to_status(wrong.failure)
    (bad,) = detail(status, details.BadRequest)
    assert [(v.field, v.description) for v in bad.field_violations] == [
        ("prompt", "is empty"),
        ("seed", "is negative"),
    ]
    assert detail(status, details.ErrorInfo)[0].metadata["field"] == "prompt,seed"


def test_retry_info_is_sent_where_it_helps() -> None:
    """retry_after becomes RetryInfo; a quota names whose it is."""
    limited = RateLimited("too many", metadata={"tenant": "local"}, retry_after=1.2504)
    status = to_status(limited.failure)
    (retry,) = detail(status, details.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() == 1_250
    (quota,) = detail(status, details.QuotaFailure)
    assert quota.violations[0].subject == "tenant:local"


def test_missing_resources_are_named() -> None:
    """NOT_FOUND says which resource; a field that is not built is named."""
    (model,) = detail(to_status(ModelNotFound("x", "text").failure), details.ResourceInfo)
    assert (model.resource_type, model.resource_name) == ("mediagate.v1.Model", "x")
    (run,) = detail(to_status(GenerationNotFound("g1").failure), details.ResourceInfo)
    assert (run.resource_type, run.resource_name) == ("mediagate.v1.Generation", "g1")
    (info,) = detail(
        to_status(NotImplementedYet("x", field_path="tools").failure), details.ErrorInfo
    )
    assert info.metadata["field"] == "tools"


failures = st.builds(
    Failure,
    reason=st.sampled_from(Reason),
    message=st.text(max_size=3_000),
    metadata=st.dictionaries(
        st.sampled_from([f"key{n}" for n in range(12)]), st.text(max_size=400), max_size=12
    ),
    violations=st.lists(
        st.builds(Violation, st.text(max_size=300), st.text(max_size=500)), max_size=100
    ).map(tuple),
    retry_after=st.none() | st.floats(min_value=-5, max_value=1e6),
)


@given(failures)
def test_any_failure_fits_into_trailers(failure: Failure) -> None:
    """However long its parts, the status stays under what callers take as metadata (8 KiB)."""
    status = to_status(failure)
    on_the_wire = len(status.message.encode()) * 3 + status.ByteSize() * 4 // 3
    assert on_the_wire < 7_500
    assert len(detail(status, details.ErrorInfo)) == 1
    assert bool(detail(status, details.BadRequest)) is bool(failure.violations)
