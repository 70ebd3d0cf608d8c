"""Rules that every declaration of the contract keeps."""

import re

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
)

from .proto_declarations import Declaration, declarations

# What every rpc that spends carries, by number: a caller's helper for one fits them all.
BILLABLE = {
    "request_id": (1, FieldDescriptorProto.TYPE_STRING),
    "options": (4, FieldDescriptorProto.TYPE_MESSAGE),
}
UNARY_BILLABLE = BILLABLE | {
    "validate_only": (2, FieldDescriptorProto.TYPE_BOOL),
    "wait": (3, FieldDescriptorProto.TYPE_MESSAGE),
}
BILLABLE_REQUESTS = {
    "StreamTextRequest": BILLABLE,
    "GenerateTextRequest": UNARY_BILLABLE,
    "GenerateImageRequest": UNARY_BILLABLE,
    "GenerateVideoRequest": UNARY_BILLABLE,
    "GenerateAudioRequest": UNARY_BILLABLE,
    "CheckSafetyRequest": UNARY_BILLABLE,
    "RunModelRequest": UNARY_BILLABLE,
    "StreamModelRequest": BILLABLE,
}
# A stream is attached to, never validated alone, and resumed.
ONLY_STREAMED = {"after_sequence"}
ONLY_UNARY = {"validate_only", "wait"}


@pytest.fixture(scope="session")
def everything(contract: list[FileDescriptorProto]) -> list[Declaration]:
    declared_things = [declared for file in contract for declared in declarations(file)]
    assert len(declared_things) > 500, "the walk has lost its way"
    return declared_things


@pytest.fixture(scope="session")
def messages(everything: list[Declaration]) -> dict[str, DescriptorProto]:
    return {
        declared.name.removeprefix("mediagate.v1."): declared.thing
        for declared in everything
        if isinstance(declared.thing, DescriptorProto)
    }


def test_everything_is_documented(everything: list[Declaration]) -> None:
    """Every service, rpc, message, field, oneof, enum and value has a comment."""
    assert [declared.name for declared in everything if not declared.comment] == []


def test_enums_begin_unspecified(everything: list[Declaration]) -> None:
    """The zero of every enum ends in _UNSPECIFIED and all its values carry its name."""
    enums = [declared for declared in everything if isinstance(declared.thing, EnumDescriptorProto)]
    assert enums
    for declared in enums:
        assert isinstance(declared.thing, EnumDescriptorProto)
        prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", declared.thing.name).upper()
        values = {value.number: value.name for value in declared.thing.value}
        assert values[0] == f"{prefix}_UNSPECIFIED", declared.name
        assert all(name.startswith(f"{prefix}_") for name in values.values()), declared.name


def test_rpcs_have_messages_of_their_own(everything: list[Declaration]) -> None:
    """Every rpc takes <Name>Request and gives <Name>Response, so that each can grow alone."""
    rpcs = [
        declared for declared in everything if isinstance(declared.thing, MethodDescriptorProto)
    ]
    assert rpcs
    for declared in rpcs:
        assert isinstance(declared.thing, MethodDescriptorProto)
        scope = f".mediagate.v1.{declared.thing.name}"
        assert declared.thing.input_type == f"{scope}Request", declared.name
        assert declared.thing.output_type == f"{scope}Response", declared.name


@pytest.mark.parametrize("name", BILLABLE_REQUESTS)
def test_billable_requests_share_fields(messages: dict[str, DescriptorProto], name: str) -> None:
    """Every request that spends has what binds and bounds it, under the same numbers."""
    fields = {field.name: field for field in messages[name].field}
    bound_fields = {
        field_name: (fields[field_name].number, fields[field_name].type)
        for field_name in BILLABLE_REQUESTS[name]
        if field_name in fields
    }
    assert bound_fields == BILLABLE_REQUESTS[name]
    assert fields["options"].type_name == ".mediagate.v1.GenerationOptions"


def test_every_billable_request_is_listed(messages: dict[str, DescriptorProto]) -> None:
    """Whatever takes GenerationOptions is listed above."""
    spending = {
        name
        for name, message in messages.items()
        if any(field.type_name == ".mediagate.v1.GenerationOptions" for field in message.field)
    }
    assert spending == set(BILLABLE_REQUESTS)


def test_billable_responses_share_fields(messages: dict[str, DescriptorProto]) -> None:
    """Every unary answer to a paid request begins {generation, replayed, plan}."""
    for name in BILLABLE_REQUESTS:
        if name.startswith("Stream"):
            continue
        answer = messages[name.replace("Request", "Response")]
        fields = [(field.number, field.name) for field in answer.field]
        assert fields[:3] == [(1, "generation"), (2, "replayed"), (3, "plan")], name


def test_streamed_and_unary_text_requests_share_fields(
    messages: dict[str, DescriptorProto],
) -> None:
    """StreamText and GenerateText take the same fields under the same numbers and types."""
    streamed = shared(messages["StreamTextRequest"], ONLY_STREAMED)
    unary = shared(messages["GenerateTextRequest"], ONLY_UNARY)
    assert streamed == unary
    assert "prompt" in streamed


def test_streamed_and_unary_model_runs_share_fields(messages: dict[str, DescriptorProto]) -> None:
    """So do StreamModel and RunModel."""
    # A map's type is named after the message that it is in.
    streamed = shared(messages["StreamModelRequest"], ONLY_STREAMED | {"media"})
    assert streamed == shared(messages["RunModelRequest"], ONLY_UNARY | {"media"})
    assert "input" in streamed


def test_money_fields_are_integer_nanos(everything: list[Declaration]) -> None:
    """Every field that names nano-dollars is an int64, and none says micros or cents."""
    fields = [
        declared for declared in everything if isinstance(declared.thing, FieldDescriptorProto)
    ]
    nanos = [field for field in fields if field.name.endswith("usd_nanos")]
    assert nanos
    for declared in nanos:
        assert isinstance(declared.thing, FieldDescriptorProto)
        assert declared.thing.type == FieldDescriptorProto.TYPE_INT64, declared.name
    assert [field.name for field in fields if re.search(r"micros|cents", field.name)] == []


def shared(message: DescriptorProto, own: set[str]) -> dict[str, tuple[int, int, int, str, bool]]:
    """The fields of a message but for its own, each as what the wire and a caller see of it."""
    names = {field.name for field in message.field}
    assert own <= names, "a field that this test leaves out is gone"
    return {
        field.name: (
            field.number,
            field.type,
            field.label,
            field.type_name,
            field.proto3_optional,
        )
        for field in message.field
        if field.name not in own
    }
