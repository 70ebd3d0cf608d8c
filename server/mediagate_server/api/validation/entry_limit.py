"""Limit on the entries of a request message, counted in its encoded bytes before it is decoded.

An entry is an item of a repeated field or of a map, at any depth: a turn of a conversation, a key
of a Struct, a value in a list. 4 MiB hold two million of them, which take 100 MB once they are
decoded and seconds once they are looked at. Counting stops at the limit, and a message that is too
short to hold so many is not looked at: nearly every one.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor

MAX_ENTRIES: Final = 10_000
"""Entries of one request message, all its lists and maps together."""

_MOST_FIELDS: Final = 6 * MAX_ENTRIES
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
    """What counting has to know of one field. `packed`: bytes of a packed item; 0: not packed."""

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
    """The type of a method's request message; None where the method is not a known one."""
    try:
        found = descriptor_pool.Default().FindMethodByName(f"{service}.{method}")
    except KeyError:
        return None
    request: Descriptor = found.input_type
    return request


def find_oversized_field(raw: bytes, kind: Descriptor) -> str | None:
    """The field of a message of type `kind` in which it comes to hold too many; None: it has not.

    Raises MalformedMessage.
    """
    if len(raw) <= MAX_ENTRIES * _least_size(kind):
        return None
    return _EntryCounter(raw).crowded_field(_fields_of(kind))


class _EntryCounter:
    """One walk over the encoded fields of a message, without recursion: each inner message lies
    whole within the one around it.
    """

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def crowded_field(self, fields: _Fields) -> str | None:
        """See the function of this name."""
        at_end, within, name = len(self._raw), fields, ""
        outer: list[tuple[int, _Fields]] = []
        left, fields_left = MAX_ENTRIES, _MOST_FIELDS
        while True:
            while self._at == at_end and outer:
                at_end, within = outer.pop()
            if self._at == at_end:
                return None
            tag = self._varint(at_end)
            number, wire = tag >> 3, tag & 7
            known = within.by_number.get(number)
            if not outer:
                name = known.name if known else f"field {number}"
            fields_left -= 1
            if wire == _LEN:
                stop = self._stop(at_end)
                if known is None or known.message is None:
                    left -= _items(known, stop - self._at)
                    self._at = stop
                else:
                    left -= known.repeated
                    outer.append((at_end, within))
                    at_end, within = stop, known.message
            elif wire == _GROUP:
                # The contract has none: a group is an unknown field and so is all that is in it.
                outer.append((at_end, within))
                within = _UNKNOWN
            elif wire == _END_GROUP:
                at_end, within = self._end_of_group(at_end, within, outer)
            else:
                left -= known is None or known.repeated
                self._skip(wire, at_end)
            if left < 0 or fields_left < 0:
                return name

    def _end_of_group(
        self, at_end: int, within: _Fields, outer: list[tuple[int, _Fields]]
    ) -> tuple[int, _Fields]:
        if within is not _UNKNOWN or not outer or outer[-1][0] != at_end:
            raise MalformedMessage
        return outer.pop()

    def _skip(self, wire: int, at_end: int) -> None:
        if wire == _VARINT:
            self._varint(at_end)
            return
        size = _FIXED_SIZES.get(wire)
        if size is None or self._at + size > at_end:
            raise MalformedMessage
        self._at += size

    def _stop(self, at_end: int) -> int:
        """Where the length-delimited value ends that begins here with its length."""
        length = self._varint(at_end)
        if self._at + length > at_end:
            raise MalformedMessage
        return self._at + length

    def _varint(self, at_end: int) -> int:
        raw, at = self._raw, self._at
        if at >= at_end:
            raise MalformedMessage
        byte = raw[at]
        if byte < 0x80:
            self._at = at + 1
            return byte
        found = shift = 0
        for index in range(at, min(at + _LONGEST_VARINT, at_end)):
            byte = raw[index]
            found |= (byte & 0x7F) << shift
            if byte < 0x80:
                self._at = index + 1
                return found
            shift += 7
        raise MalformedMessage


def _items(known: _Field | None, size: int) -> int:
    """Entries in a length-delimited value that is no message."""
    if known is None:
        return 1
    if not known.repeated:
        return 0
    return -(-size // known.packed) if known.packed else 1


@lru_cache(maxsize=256)
def _least_size(kind: Descriptor) -> int:
    """Bytes that no entry of the message is encoded in less than: a tag and a value, or a length,
    are two; an item of a packed field is one.
    """
    waiting, seen = [_fields_of(kind)], set[int]()
    while waiting:
        fields = waiting.pop()
        if id(fields) in seen:
            continue
        seen.add(id(fields))
        for one in fields.by_number.values():
            if one.packed:
                return 1
            if one.message is not None:
                waiting.append(one.message)
    return 2


@lru_cache(maxsize=256)
def _fields_of(kind: Descriptor) -> _Fields:
    return _made(kind, {})


def _made(kind: Descriptor, made: dict[str, _Fields]) -> _Fields:
    """Types may hold themselves, as a Struct does: each is made once."""
    fields = made.get(kind.full_name)
    if fields is None:
        fields = made[kind.full_name] = _Fields()
        for one in kind.fields:
            inner = _made(one.message_type, made) if one.message_type is not None else None
            packed = 0
            if one.is_repeated and inner is None and one.type not in _NEVER_PACKED:
                packed = _PACKED_SIZES.get(one.type, 1)
            fields.by_number[one.number] = _Field(one.name, one.is_repeated, inner, packed)
    return fields
