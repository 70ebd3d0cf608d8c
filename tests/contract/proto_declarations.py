"""Walks over what the contract declares, each thing with its full name and its comment."""

from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
)

# Field numbers of descriptor.proto, which make up the paths of source locations.
_FILE_MESSAGE, _FILE_ENUM, _FILE_SERVICE = 4, 5, 6
_MESSAGE_FIELD, _MESSAGE_NESTED, _MESSAGE_ENUM, _MESSAGE_ONEOF = 2, 3, 4, 8
_ENUM_VALUE = 2
_SERVICE_METHOD = 2

Path = tuple[int, ...]
Declared = (
    DescriptorProto | EnumDescriptorProto | FieldDescriptorProto | MethodDescriptorProto | str
)


@dataclass(frozen=True, slots=True)
class Declaration:
    """One thing that the contract declares: `thing` is a str where only its name is of interest."""

    name: str
    comment: str
    thing: Declared


def declarations(file: FileDescriptorProto) -> Iterator[Declaration]:
    """Everything in one file that must be documented."""
    yield from _Walk(file).of_file()


class _Walk:
    """Goes through one file, keeping the path that finds each thing's comment."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._file = file
        self._comments = {
            tuple(location.path): location.leading_comments.strip()
            for location in file.source_code_info.location
        }

    def of_file(self) -> Iterator[Declaration]:
        package = self._file.package
        for index, message in enumerate(self._file.message_type):
            yield from self._of_message((_FILE_MESSAGE, index), package, message)
        for index, enum in enumerate(self._file.enum_type):
            yield from self._of_enum((_FILE_ENUM, index), package, enum)
        for index, service in enumerate(self._file.service):
            path, name = (_FILE_SERVICE, index), f"{package}.{service.name}"
            yield self._declared(path, name, service.name)
            for number, method in enumerate(service.method):
                yield self._declared(
                    (*path, _SERVICE_METHOD, number), f"{name}.{method.name}", method
                )

    def _of_message(
        self, path: Path, scope: str, message: DescriptorProto
    ) -> Iterator[Declaration]:
        if message.options.map_entry:
            return
        name = f"{scope}.{message.name}"
        yield self._declared(path, name, message)
        for index, field in enumerate(message.field):
            yield self._declared((*path, _MESSAGE_FIELD, index), f"{name}.{field.name}", field)
        for index, oneof in enumerate(message.oneof_decl):
            if not oneof.name.startswith("_"):  # those stand for `optional`
                oneof_path = (*path, _MESSAGE_ONEOF, index)
                yield self._declared(oneof_path, f"{name}.{oneof.name}", oneof.name)
        for index, nested in enumerate(message.nested_type):
            yield from self._of_message((*path, _MESSAGE_NESTED, index), name, nested)
        for index, enum in enumerate(message.enum_type):
            yield from self._of_enum((*path, _MESSAGE_ENUM, index), name, enum)

    def _of_enum(self, path: Path, scope: str, enum: EnumDescriptorProto) -> Iterator[Declaration]:
        name = f"{scope}.{enum.name}"
        yield self._declared(path, name, enum)
        for index, value in enumerate(enum.value):
            yield self._declared((*path, _ENUM_VALUE, index), f"{name}.{value.name}", value.name)

    def _declared(self, path: Path, name: str, thing: Declared) -> Declaration:
        return Declaration(name, self._comments.get(path, ""), thing)
