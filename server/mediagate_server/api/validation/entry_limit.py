"""Limit on the entries of a request message, counted in its encoded bytes before it is decoded.

An entry is an item of a repeated field or of a map, at any depth: a turn of a conversation, a key
of a Struct, a value in a list. 4 MiB hold two million of them, which take 100 MB once they are
decoded and seconds to check. Counting stops at the limit, and a message that is too
short to hold so many is not counted: nearly every one.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor

MAX_ENTRIES: Final = 10_000
"""Entries of one request message, all its lists and maps together."""

_MAX_FIELDS: Final = 6 * MAX_ENTRIES
"""Fields of one request message: a key of a Struct takes four of them, a value of a list two."""

_VARINT, _I64, _LEN, _GROUP, _END_GROUP, _I32 = range(6)
_LONGEST_VARINT: Final = 10
_FIXED_SIZES: Final = {_I64: 8, _I32: 4}
_PACKED_SIZES: Final = {
    FieldDescriptor.TYPE_DOUBLE: 8,
    FieldDescriptor.TYPE_FIXED64: 8,
    FieldDescriptor.TYPE_SFIXED64: 8,
    FieldDescriptor.TYPE_FLOAT: 4,
    FieldDescriptor.TYPE_FIXED32: 4,
    FieldDescriptor.TYPE_SFIXED32: 4,
}
_NEVER_PACKED: Final = frozenset({FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES})


class MalformedMessage(ValueError):
    """The bytes are not a message of any type."""


@dataclass(slots=True)
class _Field:
    """A field as the counter needs it. `packed`: bytes of a packed item; 0: not packed."""

    name: str
    repeated: bool
    message: "_Fields | None"
    packed: int


@dataclass(slots=True)
class _Fields:
    """The fields of one message type that may hold entries, by number."""

    by_number: dict[int, _Field] = field(default_factory=dict)


_UNKNOWN: Final = _Fields()


@lru_cache(maxsize=256)
def request_type(service: str, method: str) -> Descriptor | None:
    """The type of a method's request message; None where the method is not known."""
    try:
        descriptor = descriptor_pool.Default().FindMethodByName(f"{service}.{method}")
    except KeyError:
        return None
    request: Descriptor = descriptor.input_type
    return request


def find_oversized_field(raw: bytes, kind: Descriptor) -> str | None:
    """The field in which a message of type `kind` exceeds the entry limit; None: it does not.

    Raises MalformedMessage.
    """
    if len(raw) <= MAX_ENTRIES * _min_entry_bytes(kind):
        return None
    return _EntryCounter(raw).oversized_field(_fields_of(kind))


class _EntryCounter:
    """One walk over the encoded fields of a message, without recursion: each inner message lies
    whole within the one around it.
    """

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._position = 0

    def oversized_field(self, root: _Fields) -> str | None:
        """The field in which the message exceeds the entry limit; None: it does not."""
        end, fields, name = len(self._raw), root, ""
        outer: list[tuple[int, _Fields]] = []
        left, fields_left = MAX_ENTRIES, _MAX_FIELDS
        while True:
            while self._position == end and outer:
                end, fields = outer.pop()
            if self._position == end:
                return None
            tag = self._varint(end)
            number, wire = tag >> 3, tag & 7
            field_info = fields.by_number.get(number)
            if not outer:
                name = field_info.name if field_info else f"field {number}"
            fields_left -= 1
            if wire == _LEN:
                stop = self._stop(end)
                if field_info is None or field_info.message is None:
                    left -= _count_items(field_info, stop - self._position)
                    self._position = stop
                else:
                    left -= field_info.repeated
                    outer.append((end, fields))
                    end, fields = stop, field_info.message
            elif wire == _GROUP:
                # The contract has none: a group is an unknown field and so is all that is in it.
                outer.append((end, fields))
                fields = _UNKNOWN
            elif wire == _END_GROUP:
                end, fields = self._end_of_group(end, fields, outer)
            else:
                left -= field_info is None or field_info.repeated
                self._skip(wire, end)
            if left < 0 or fields_left < 0:
                return name

    def _end_of_group(
        self, end: int, fields: _Fields, outer: list[tuple[int, _Fields]]
    ) -> tuple[int, _Fields]:
        if fields is not _UNKNOWN or not outer or outer[-1][0] != end:
            raise MalformedMessage
        return outer.pop()

    def _skip(self, wire: int, end: int) -> None:
        if wire == _VARINT:
            self._varint(end)
            return
        size = _FIXED_SIZES.get(wire)
        if size is None or self._position + size > end:
            raise MalformedMessage
        self._position += size

    def _stop(self, end: int) -> int:
        """Where the length-delimited value ends that begins here with its length."""
        length = self._varint(end)
        if self._position + length > end:
            raise MalformedMessage
        return self._position + length

    def _varint(self, end: int) -> int:
        raw, at = self._raw, self._position
        if at >= end:
            raise MalformedMessage
        byte = raw[at]
        if byte < 0x80:
            self._position = at + 1
            return byte
        value = shift = 0
        for index in range(at, min(at + _LONGEST_VARINT, end)):
            byte = raw[index]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                self._position = index + 1
                return value
            shift += 7
        raise MalformedMessage


def _count_items(field_info: _Field | None, size: int) -> int:
    """Entries in a length-delimited value that is no message."""
    if field_info is None:
        return 1
    if not field_info.repeated:
        return 0
    return -(-size // field_info.packed) if field_info.packed else 1


@lru_cache(maxsize=256)
def _min_entry_bytes(kind: Descriptor) -> int:
    """Bytes that no entry of the message is encoded in less than: a tag and a value, or a length,
    are two; an item of a packed field is one.
    """
    waiting, seen = [_fields_of(kind)], set[int]()
    while waiting:
        fields = waiting.pop()
        if id(fields) in seen:
            continue
        seen.add(id(fields))
        for inner in fields.by_number.values():
            if inner.packed:
                return 1
            if inner.message is not None:
                waiting.append(inner.message)
    return 2


@lru_cache(maxsize=256)
def _fields_of(kind: Descriptor) -> _Fields:
    return _build_fields(kind, {})


def _build_fields(kind: Descriptor, built: dict[str, _Fields]) -> _Fields:
    """Types may be recursive, as a Struct is: each is built once."""
    fields = built.get(kind.full_name)
    if fields is None:
        fields = built[kind.full_name] = _Fields()
        for descriptor in kind.fields:
            message_type = descriptor.message_type
            inner = _build_fields(message_type, built) if message_type is not None else None
            packed = 0
            if descriptor.is_repeated and inner is None and descriptor.type not in _NEVER_PACKED:
                packed = _PACKED_SIZES.get(descriptor.type, 1)
            fields.by_number[descriptor.number] = _Field(
                descriptor.name, descriptor.is_repeated, inner, packed
            )
    return fields
