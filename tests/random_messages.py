"""Random protobuf messages of any type, from a seeded generator: values at and over every edge."""

import math
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Struct, Value

TEXTS: Final = (
    "",
    " ",
    "\0",
    "\n",
    "x",
    "a cat",
    "5s",
    "NaN",
    "null",
    "16:9",
    "720p",
    "*",
    "%s%n{}",
    "../../etc/passwd",
    "' OR 1=1 --",
    "\u202e\u0000\ufffd",
    "😀" * 50,
    "é" * 300,
    "9" * 400,
    "x" * 5_000,
    "https://a.example/x.png",
    "http://127.0.0.1:1/x",
    "data:image/png;base64,AAAA",
    "0" * 32,
    "image/png",
    "2026-11-30",
)
WHOLES: Final = (0, 1, 2, 3, 7, 16, 50, 64, 1_000, 4_096, 10**6, -1, -2)
NUMBERS: Final = (0.0, -0.0, 0.5, 1.0, 2.0, 1e-9, 5e-324, 1e15, 1e300, -1.0, math.nan, math.inf)
JSON_SCALARS: Final = (
    None,
    True,
    False,
    0,
    1,
    5,
    -1,
    0.5,
    9e15,
    2.0**53,
    2.0**63,
    1e300,
    5e-324,
    -1e15,
    "",
    "5",
    "5s",
    "x",
    "720p",
    "1 MP",
    "https://a.example/x.png",
    "x" * 3_000,
    "9" * 5_000,
)
_EDGES: Final[Mapping[int, tuple[int, int]]] = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
}
_COUNTS: Final = (0, 1, 1, 2, 3, 6)
_DEEPEST_JSON: Final = 4

Pools = Mapping[str, Callable[[], Any]]
"""By a field's name, or a message's and a field's (`Struct.fields`): draws a value that fits it."""


class RandomMessages:
    """Draws messages. `pools` gives values that mean something, in four of five cases."""

    def __init__(self, random: Random, pools: Pools) -> None:
        self._random = random
        self._pools = pools

    def message(self, descriptor: Descriptor, depth: int = 4) -> Message:
        """Some fields set, to anything that their type can hold."""
        message = GetMessageClass(descriptor)()
        fields = [field for field in descriptor.fields if depth or field.message_type is None]
        # Few as a rule: of many at least one is wrong, and nothing comes further than that.
        count = self._random.choice(_COUNTS)
        for field in self._random.sample(fields, min(count, len(fields))):
            self.put(message, field, depth)
        return message

    def put(self, message: Any, field: FieldDescriptor, depth: int = 4) -> None:
        """Set a field, or add to it."""
        count = self._random.choice((1, 1, 2, 5)) if field.is_repeated else 1
        for _ in range(count):
            self._put_value(message, field, depth)

    def json(self, depth: int = _DEEPEST_JSON) -> Any:
        """Something that JSON can say; numbers as a Struct holds them."""
        kind = self._random.random()
        if depth == 0 or kind < 0.7:
            return self._random.choice(JSON_SCALARS)
        inner = [self.json(depth - 1) for _ in range(self._random.randint(0, 4))]
        if kind < 0.85:
            return inner
        return {self._random.choice(TEXTS): value for value in inner}

    def garbled(self, content: bytes) -> bytes:
        """The bytes of a message, with some of them changed, lost or added."""
        spoilt = bytearray(content)
        for _ in range(self._random.randint(1, 4)):
            position = self._random.randint(0, len(spoilt))
            some = self._random.randbytes(self._random.randint(1, 8))
            match self._random.randrange(4):
                case 0:
                    spoilt[position:position] = some
                case 1:
                    del spoilt[position : position + len(some)]
                case 2:
                    spoilt[position : position + len(some)] = some
                case _:
                    spoilt[position:position] = "\ud800é".encode("utf-8", "surrogatepass")
        return bytes(spoilt)

    def _put_value(self, message: Any, field: FieldDescriptor, depth: int) -> None:
        inner = field.message_type
        if inner is None:
            value = self._scalar(field)
            if field.is_repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)
        elif inner.GetOptions().map_entry:
            self._put_entry(getattr(message, field.name), inner, depth)
        else:
            nested = self._inner(field, inner, depth)
            target = getattr(message, field.name)
            (target.add() if field.is_repeated else target).CopyFrom(nested)

    def _put_entry(self, target: Any, entry: Descriptor, depth: int) -> None:
        key = self._scalar(entry.fields_by_name["key"])
        value = entry.fields_by_name["value"]
        if value.message_type is None:
            target[key] = self._scalar(value)
        else:
            target[key].CopyFrom(self._inner(value, value.message_type, depth))

    def _inner(self, field: FieldDescriptor, descriptor: Descriptor, depth: int) -> Message:
        pool = self._pools.get(field.name)
        if pool is not None and self._random.random() < 0.8:
            pooled = pool()
            if isinstance(pooled, Message) and pooled.DESCRIPTOR is descriptor:
                return pooled
        match descriptor.full_name:
            case "google.protobuf.Struct":
                return struct_of({self._random.choice(TEXTS): self.json() for _ in range(3)})
            case "google.protobuf.Duration":
                return self._timed(descriptor, (0, 1, 5, 60, 600, 86_400, -1, 2**40, 2**63 - 1))
            case "google.protobuf.Timestamp":
                seconds = (0, 1_790_000_000, 1_800_000_000, -(2**62), 253_402_300_799, 2**62)
                return self._timed(descriptor, seconds)
        return self.message(descriptor, depth - 1)

    def _timed(self, descriptor: Descriptor, seconds: Sequence[int]) -> Message:
        nanos = self._random.choice((0, 0, 0, 1, 500_000_000, -1, 10**9, 2**31 - 1))
        return GetMessageClass(descriptor)(seconds=self._random.choice(seconds), nanos=nanos)

    def _scalar(self, field: FieldDescriptor) -> Any:
        random = self._random
        if (pool := self._pools.get(field.name)) is not None and random.random() < 0.8:
            pooled = pool()
            if isinstance(pooled, str) == (field.type == FieldDescriptor.TYPE_STRING):
                return pooled
        match field.type:
            case FieldDescriptor.TYPE_STRING:
                return random.choice(TEXTS)
            case FieldDescriptor.TYPE_BYTES:
                return random.randbytes(random.choice((0, 1, 5, 300, 300, 70_000)))
            case FieldDescriptor.TYPE_BOOL:
                return random.random() < 0.5
            case FieldDescriptor.TYPE_DOUBLE | FieldDescriptor.TYPE_FLOAT:
                return random.choice(NUMBERS)
            case FieldDescriptor.TYPE_ENUM:
                return self._enum(field.enum_type)
        low, high = _EDGES[field.type]
        return max(low, random.choice((*WHOLES, low, high)))

    def _enum(self, enum: EnumDescriptor | None) -> int:
        assert enum is not None
        numbers = list(enum.values_by_number)
        return self._random.choice((*numbers, *numbers, -3, 99, 2**31 - 1))


def struct_of(document: Mapping[str, Any]) -> Struct:
    """A JSON object as a Struct."""
    struct = Struct()
    for key, value in document.items():
        struct.fields[key].CopyFrom(_value(value))
    return struct


def _value(document: Any) -> Value:
    value = Value()
    if document is None:
        value.null_value = 0  # type: ignore[assignment]
    elif isinstance(document, bool):
        value.bool_value = document
    elif isinstance(document, int | float):
        value.number_value = document
    elif isinstance(document, str):
        value.string_value = document
    elif isinstance(document, list):
        value.list_value.values.extend(map(_value, document))
        value.list_value.SetInParent()
    else:
        value.struct_value.CopyFrom(struct_of(document))
    return value
