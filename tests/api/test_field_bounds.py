"""Nothing in a request is without a bound: what is too long or too many is refused by its name."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from .test_request_validation_random import DESCRIPTORS, REQUESTS, refused

LONG = "x" * 1_000_001
MANY = 1_001
FILLERS: dict[int, Any] = {
    FieldDescriptor.TYPE_STRING: LONG,
    FieldDescriptor.TYPE_BYTES: bytes(3_900_000),
}
ENTRIES: dict[int, Any] = {FieldDescriptor.TYPE_STRING: "x"}


def fields_below(descriptor: Descriptor, path: tuple[FieldDescriptor, ...] = ()) -> Iterator[Any]:
    """Every field that a request can hold, by the way to it; each type once on a way."""
    for field in descriptor.fields:
        yield (*path, field)
        inner = field.message_type
        if inner is None or not inner.full_name.startswith("mediagate."):
            continue
        if inner.GetOptions().map_entry:
            inner = inner.fields_by_name["value"].message_type
            if inner is None:
                continue
        if inner not in [field.message_type for field in path]:
            yield from fields_below(inner, (*path, field))


def holder(request: Any, path: tuple[FieldDescriptor, ...]) -> Any:
    """The message at the end of a way, made on it."""
    for field in path:
        if not field.is_repeated:
            request = getattr(request, field.name)
            request.SetInParent()
        elif field.message_type and field.message_type.GetOptions().map_entry:
            request = getattr(request, field.name)["key"]
        else:
            request = getattr(request, field.name).add()
    return request


def overfull(name: str) -> Iterator[tuple[str, Message]]:
    """A request for each field that can be too long, or have too many entries or too long ones."""
    for path in fields_below(DESCRIPTORS[name]):
        field = path[-1]
        if field.is_repeated:
            yield field.name, spoilt(name, path, MANY)
        if field.type in FILLERS and not field.is_repeated:
            yield field.name, spoilt(name, path, 1)
        if field.type == FieldDescriptor.TYPE_STRING and field.is_repeated:
            yield field.name, spoilt(name, path, 1, LONG)


def spoilt(name: str, path: tuple[FieldDescriptor, ...], count: int, entry: Any = None) -> Message:
    """A request with so many entries in the field at the end of a way, or such an entry."""
    request = GetMessageClass(DESCRIPTORS[name])()
    at, field = holder(request, path[:-1]), path[-1]
    if not field.is_repeated:
        setattr(at, field.name, FILLERS[field.type])
    elif field.message_type is None:
        getattr(at, field.name).extend([entry or ENTRIES.get(field.type, 1)] * count)
    elif field.message_type.GetOptions().map_entry:
        values = getattr(at, field.name)
        for number in range(count):
            if field.message_type.fields_by_name["value"].message_type is None:
                values[str(number)] = "x"
            else:
                values[str(number)].SetInParent()
    else:
        for _ in range(count):
            getattr(at, field.name).add()
    return request


@pytest.mark.parametrize("name", REQUESTS)
def test_every_text_list_and_map_has_a_bound(name: str) -> None:
    """What is over it is refused, and the field named."""
    unbounded = []
    for field, request in overfull(name):
        failure = refused(request)
        violations = failure.violations if failure else ()
        if not any(field in violation.field for violation in violations):
            unbounded.append(str(request)[:100])
    assert not unbounded
