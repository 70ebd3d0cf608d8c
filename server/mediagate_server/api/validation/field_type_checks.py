"""Checks of single values: what any string, number or enum must be, besides its own rule.

Fields and values of the contract that this server does not implement yet are refused, never
ignored. The changelog lists the same.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from mediagate_server.api.validation.constraint_types import Constraint, FileSize
from mediagate_server.api.validation.violations import FieldPath, ViolationCollector

UNIMPLEMENTED_FIELDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
"""Message's full name, then the fields that may not be set."""
UNIMPLEMENTED_VALUES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
"""Enum's full name, then the values that may not be used."""
ValueCheck = Callable[[Any, FieldPath, ViolationCollector], None]
"""Checks a value; adds what is wrong with it under its path."""
_NANOS: Final = 1_000_000_000
_LONGEST: Final = 315_576_000_000
_FIRST_SECOND: Final = -62_135_596_800
_LAST_SECOND: Final = 253_402_300_799
_LARGEST_INTEGER: Final = 2**53 - 1
MAX_JSON_DEPTH: Final = 32
"""How deep JSON in a Struct may be nested."""
KEY_CHARS: Final = 256
"""Characters of a key in a Struct, and of one in any map."""


def value_check(field: FieldDescriptor, rule: Constraint | None) -> ValueCheck | None:
    """The check of one value of `field`; None where anything is allowed."""
    if field.message_type is not None:
        return WELL_KNOWN_TYPE_CHECKS[field.message_type.full_name](rule)
    if field.enum_type is not None:
        return _enum_check(field.enum_type, rule)
    if field.type == FieldDescriptor.TYPE_STRING:
        return _string_check(rule)
    if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        return _float_check(rule)
    if isinstance(rule, FileSize):
        return _file_check(rule)
    return _rule_check(rule) if rule is not None else None


def _rule_check(rule: Constraint) -> ValueCheck:
    def check(value: Any, path: FieldPath, findings: ViolationCollector) -> None:
        if problem := rule.violation(value):
            findings.add(path, problem)

    return check


def _string_check(rule: Constraint | None) -> ValueCheck:
    def check(value: str, path: FieldPath, findings: ViolationCollector) -> None:
        if "\0" in value:
            # No store keeps it, and no model means it.
            findings.add(path, "must not hold the character NUL")
        elif rule is not None and (problem := rule.violation(value)):
            findings.add(path, problem)

    return check


def _float_check(rule: Constraint | None) -> ValueCheck:
    def check(value: float, path: FieldPath, findings: ViolationCollector) -> None:
        if not math.isfinite(value):
            findings.add(path, "must be a finite number")
        elif rule is not None and (problem := rule.violation(value)):
            findings.add(path, problem)

    return check


def _file_check(rule: FileSize) -> ValueCheck:
    def check(value: bytes, path: FieldPath, findings: ViolationCollector) -> None:
        if problem := rule.violation(value):
            (findings.add_too_large if value else findings.add)(path, problem)

    return check


def _enum_check(enum: EnumDescriptor, rule: Constraint | None) -> ValueCheck:
    defined = frozenset(enum.values_by_number)
    unimplemented = frozenset(
        enum.values_by_name[name].number for name in UNIMPLEMENTED_VALUES.get(enum.full_name, ())
    )

    def check(value: int, path: FieldPath, findings: ViolationCollector) -> None:
        if value not in defined:
            findings.add(path, f"must be a {enum.name} that is known, not {value}")
        elif value in unimplemented:
            findings.add_unimplemented(path)
        elif rule is not None and (problem := rule.violation(value)):
            findings.add(path, problem)

    return check


def _duration_check(rule: Constraint | None) -> ValueCheck:
    def check(value: Any, path: FieldPath, findings: ViolationCollector) -> None:
        seconds, nanos = value.seconds, value.nanos
        mixed = (seconds > 0 and nanos < 0) or (seconds < 0 and nanos > 0)
        if abs(seconds) > _LONGEST or abs(nanos) >= _NANOS or mixed:
            findings.add(path, "must be a duration within its type's bounds")
        elif rule is not None and (problem := rule.violation(value)):
            findings.add(path, problem)

    return check


def _timestamp_check(rule: Constraint | None) -> ValueCheck:
    def check(value: Any, path: FieldPath, findings: ViolationCollector) -> None:
        if not (_FIRST_SECOND <= value.seconds <= _LAST_SECOND and 0 <= value.nanos < _NANOS):
            findings.add(path, "must be a time from the year 1 to 9999")
        elif rule is not None and (problem := rule.violation(value)):
            findings.add(path, problem)

    return check


def _struct_check(rule: Constraint | None) -> ValueCheck:
    """JSON cannot say NaN, and what is nested deeper than any parser reads is not meant."""

    def check(value: Any, path: FieldPath, findings: ViolationCollector) -> None:
        if rule is not None and (problem := rule.violation(value)):
            findings.add(path, problem)
            return
        pending: list[tuple[FieldPath, Any, int]] = []
        _add_fields(value, path, 1, pending, findings)
        while pending:
            at, inner, depth = pending.pop()
            kind = inner.WhichOneof("kind")
            if kind is None:
                findings.add(at, "must hold a JSON value")
            elif kind == "number_value":
                if fault := _number_violation(inner.number_value):
                    findings.add(at, fault)
            elif depth > MAX_JSON_DEPTH:
                findings.add(path, f"must not be nested deeper than {MAX_JSON_DEPTH} levels")
                return
            elif kind == "struct_value":
                _add_fields(inner.struct_value, at, depth + 1, pending, findings)
            elif kind == "list_value":
                items = enumerate(inner.list_value.values)
                pending += [((at, index), item, depth + 1) for index, item in items]

    return check


def _number_violation(value: float) -> str:
    """What is wrong with a number in a Struct, which is a double; empty: nothing.

    Every double beyond 2^53 is an integer, and perhaps not the one that was meant: its neighbours
    arrive as the same one. 2^53 itself is what 2^53 + 1 arrives as.
    """
    if not math.isfinite(value):
        return "must be a finite number"
    if abs(value) > _LARGEST_INTEGER:
        return (
            "must be from -(2^53 - 1) to 2^53 - 1: beyond, a Struct does not hold every integer"
            " exactly; give it as text, if a text is taken here"
        )
    return ""


def _add_fields(
    struct: Any,
    path: FieldPath,
    depth: int,
    pending: list[tuple[FieldPath, Any, int]],
    findings: ViolationCollector,
) -> None:
    """Add the fields of a Struct to those that are still to be checked."""
    for name, inner in struct.fields.items():
        if len(name) > KEY_CHARS:
            findings.add((path, name), f"must have a name of at most {KEY_CHARS} characters")
        pending.append(((path, name), inner, depth))


WELL_KNOWN_TYPE_CHECKS: Final[dict[str, Callable[[Constraint | None], ValueCheck]]] = {
    "google.protobuf.Duration": _duration_check,
    "google.protobuf.Timestamp": _timestamp_check,
    "google.protobuf.Struct": _struct_check,
}
"""Messages that are values to us, by full name."""
