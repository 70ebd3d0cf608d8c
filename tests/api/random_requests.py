"""Good requests of every kind, and random ones of any message type."""

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

_SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_STRING: st.text(max_size=70)
    | st.sampled_from(["https://a/b", "http://127.0.0.1/x", "16:9", "0" * 32, "\0", " "]),
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=5),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_DOUBLE: st.floats(),
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1) | st.integers(-2, 20),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 20),
    FieldDescriptor.TYPE_ENUM: st.integers(-3, 9),
}


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, depth: int = 4) -> Message:
    """A random message: some fields set, to anything that their type can hold."""
    message = GetMessageClass(descriptor)()
    fields = [field for field in descriptor.fields if depth or field.message_type is None]
    for field in draw(st.lists(st.sampled_from(fields), unique=True, max_size=8)) if fields else ():
        count = draw(st.integers(0, 3)) if field.is_repeated else 1
        for _ in range(count):
            _put(draw, message, field, depth)
    return message


def _put(draw: st.DrawFn, message: Any, field: FieldDescriptor, depth: int) -> None:
    """Set a field, or add to it."""
    if field.message_type is None:
        value = draw(_SCALARS[field.type])
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
    elif field.message_type.GetOptions().map_entry:
        _put_entry(draw, getattr(message, field.name), field.message_type, depth)
    else:
        inner = draw(messages(field.message_type, depth - 1))
        target = getattr(message, field.name)
        (target.add() if field.is_repeated else target).CopyFrom(inner)


def _put_entry(draw: st.DrawFn, target: Any, entry: Descriptor, depth: int) -> None:
    """Add to a map."""
    key = draw(st.text(max_size=70))
    value = entry.fields_by_name["value"]
    if value.message_type is None:
        target[key] = draw(_SCALARS[value.type])
    else:
        target[key].CopyFrom(draw(messages(value.message_type, depth - 1)))
