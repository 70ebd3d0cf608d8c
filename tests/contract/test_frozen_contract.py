"""What callers may rely on stays: everything in the frozen contract is in the one of today."""

from collections.abc import Iterable, Iterator

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from .conftest import ROOT

Facts = tuple[object, ...]


def promises(files: list[FileDescriptorProto]) -> set[Facts]:
    """Every rpc, field and value that generated code or bytes on the wire depend on."""
    facts: set[Facts] = set()
    for file in files:
        facts.update(_of_messages(file.package, file.message_type))
        facts.update(_of_enums(file.package, file.enum_type))
        for service in file.service:
            for rpc in service.method:
                streams = (rpc.client_streaming, rpc.server_streaming)
                facts.add((service.name, rpc.name, rpc.input_type, rpc.output_type, *streams))
    return facts


def _of_messages(scope: str, messages: Iterable[DescriptorProto]) -> Iterator[Facts]:
    for message in messages:
        name = f"{scope}.{message.name}"
        for field in message.field:
            kind = (field.type, field.type_name, field.label, field.proto3_optional)
            oneof = (
                message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
            )
            yield name, field.name, field.number, *kind, oneof
        yield from _of_messages(name, message.nested_type)
        yield from _of_enums(name, message.enum_type)


def _of_enums(scope: str, enums: Iterable[EnumDescriptorProto]) -> Iterator[Facts]:
    for enum in enums:
        for value in enum.value:
            yield f"{scope}.{enum.name}", value.name, value.number


@pytest.fixture(scope="module")
def frozen() -> list[FileDescriptorProto]:
    """The contract as it was promised. buf's image is a FileDescriptorSet with notes."""
    image = FileDescriptorSet.FromString((ROOT / "protos" / "frozen.binpb").read_bytes())
    return [file for file in image.file if file.package == "mediagate.v1"]


def test_the_contract_has_no_breaking_change(
    frozen: list[FileDescriptorProto], contract: list[FileDescriptorProto]
) -> None:
    """Names, numbers, types and presence; more may have come."""
    promised = promises(frozen)
    assert len(promised) > 500
    assert promised - promises(contract) == set()


def test_every_kind_of_breaking_change_is_detected(frozen: list[FileDescriptorProto]) -> None:
    """A removal, another number, another type, a value, an rpc."""
    promised = promises(frozen)

    def changed(name: str) -> tuple[list[FileDescriptorProto], FileDescriptorProto]:
        files = [FileDescriptorProto.FromString(file.SerializeToString()) for file in frozen]
        return files, next(file for file in files if file.name.endswith(f"/{name}.proto"))

    files, cost = changed("cost")
    del cost.message_type[0].field[0]
    assert promised - promises(files)
    files, cost = changed("cost")
    cost.message_type[0].field[0].number = 99
    assert promised - promises(files)
    files, cost = changed("cost")
    cost.message_type[0].field[0].type = FieldDescriptorProto.TYPE_STRING
    assert promised - promises(files)
    files, errors = changed("errors")
    del errors.enum_type[0].value[3]
    assert promised - promises(files)
    files, safety = changed("safety")
    del safety.service[0].method[0]
    assert promised - promises(files)
