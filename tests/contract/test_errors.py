"""The list of reasons for failures: what callers program against."""

import re

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from .proto_declarations import declarations

PREFIX = "mediagate.v1.ErrorReason.ERROR_REASON_"
FACTS = re.compile(r"^ *([A-Z_]+)\. Retry: (yes|no)[^.]*\. Paid: [^.]+\.$", re.MULTILINE)


@pytest.fixture(scope="session")
def reasons(contract: list[FileDescriptorProto]) -> dict[str, str]:
    """Each reason's comment, by its name on the wire."""
    return {
        declared.name.removeprefix(PREFIX): declared.comment
        for file in contract
        for declared in declarations(file)
        if declared.name.startswith(PREFIX) and not declared.name.endswith("UNSPECIFIED")
    }


def test_every_reason_states_its_code_retry_and_price(reasons: dict[str, str]) -> None:
    """Each says one status code that gRPC has, whether to retry and whether it was paid."""
    assert len(reasons) > 30
    codes = {code.name for code in grpc.StatusCode}
    for name, comment in reasons.items():
        stated = FACTS.findall(comment)
        assert len(stated) == 1, name
        assert stated[0][0] in codes, name


def test_reasons_of_rpcs_exist(
    contract: list[FileDescriptorProto], reasons: dict[str, str]
) -> None:
    """Every reason that an rpc's comment names in brackets is one of the list, under its code."""
    rpcs = [rpc for file in contract for rpc in declarations(file) if "Service." in rpc.name]
    assert rpcs
    named = re.compile(r"([A-Z_]{4,}) \(([A-Z_,\s]+)\)")
    for rpc in rpcs:
        for code, listed in named.findall(rpc.comment):
            for reason in re.findall(r"[A-Z_]+", listed):
                assert reason in reasons, f"{rpc.name}: {reason}"
                # INVALID_REQUEST goes with other codes where there is no reason for the thing
                # that is missing: a tenant, a key, a webhook.
                if reason != "INVALID_REQUEST":
                    assert f"{code}. Retry" in reasons[reason], f"{rpc.name}: {code} {reason}"
