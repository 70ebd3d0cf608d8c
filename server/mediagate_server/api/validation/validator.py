"""Message validator: checks every set field against the rules and collects all violations.

The checks of a message type are built once. Only set fields are visited.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from mediagate_server.api.validation.constraint_types import (
    Constraint,
    FileSize,
    Labels,
    MaxItems,
    NumberRange,
)
from mediagate_server.api.validation.field_type_checks import (
    KEY_CHARS,
    UNIMPLEMENTED_FIELDS,
    WELL_KNOWN_TYPE_CHECKS,
    ValueCheck,
    value_check,
)
from mediagate_server.api.validation.rules import CROSS_FIELD_RULES, CrossFieldRule, FieldRules
from mediagate_server.api.validation.violations import FieldPath, MapKey, ViolationCollector

_PACKAGE: Final = "mediagate.v1."


@dataclass(frozen=True, slots=True)
class _MessageChecks:
    """Checks of the messages of one type."""

    required: tuple[FieldDescriptor, ...]
    never_zero: tuple[tuple[FieldDescriptor, Constraint], ...]
    fields: Mapping[int, ValueCheck]
    relations: tuple[CrossFieldRule, ...]


class MessageValidator:
    """Checks messages of any type of the contract against `rules`."""

    def __init__(self, rules: FieldRules) -> None:
        self._rules = rules
        self._checks: dict[str, _MessageChecks] = {}

    def validate(self, message: Message) -> ViolationCollector:
        """Validate a message and collect its violations. Paths begin at the message."""
        findings = ViolationCollector()
        self._message(message, None, findings)
        return findings

    def _message(self, message: Any, path: FieldPath | None, findings: ViolationCollector) -> None:
        descriptor = message.DESCRIPTOR
        checks = self._checks.get(descriptor.full_name)
        if checks is None:
            checks = self._checks[descriptor.full_name] = self._build_checks(descriptor)
        for field in checks.required:
            if _is_absent(message, field):
                findings.add((path, field.name), "must be set")
        for field, constraint in checks.never_zero:
            if not (value := getattr(message, field.name)) and (
                problem := constraint.violation(value)
            ):
                findings.add((path, field.name), problem)
        for field, value in message.ListFields():
            if (check := checks.fields.get(field.number)) is not None:
                check(value, (path, field.name), findings)
        for relation in checks.relations:
            for name, problem in relation(message):
                findings.add((path, name) if name else path, problem)

    def _build_checks(self, descriptor: Descriptor) -> _MessageChecks:
        name = descriptor.full_name.removeprefix(_PACKAGE)
        rules = self._rules.get(name, {})
        unimplemented = UNIMPLEMENTED_FIELDS.get(descriptor.full_name, ())
        fields = {}
        for field in descriptor.fields:
            if field.name in unimplemented:
                check: ValueCheck | None = _refuse
            else:
                check = self._field_check(field, rules.get(field.name))
            if check is not None:
                fields[field.number] = check
        return _MessageChecks(
            required=tuple(
                field
                for field in descriptor.fields
                if _is_required(field) and not _may_be_zero(field, rules.get(field.name))
            ),
            never_zero=tuple(
                (field, rule)
                for field in descriptor.fields
                if (rule := rules.get(field.name)) is not None and _leaves_out_zero(field, rule)
            ),
            fields=fields,
            relations=CROSS_FIELD_RULES.get(name, ()),
        )

    def _field_check(self, field: FieldDescriptor, rule: Constraint | None) -> ValueCheck | None:
        """The check of a field that is set; None: anything is allowed."""
        if not field.is_repeated:
            return self._single_check(field, rule)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key = value_check(field.message_type.fields_by_name["key"], None)
            value = self._single_check(field.message_type.fields_by_name["value"], None)
            return _each_entry(rule, key, value)
        each = rule.each if isinstance(rule, MaxItems) else None
        return _each_item(rule, self._single_check(field, each))

    def _single_check(self, field: FieldDescriptor, rule: Constraint | None) -> ValueCheck | None:
        if field.message_type is None or field.message_type.full_name in WELL_KNOWN_TYPE_CHECKS:
            return value_check(field, rule)
        return self._message


def _refuse(_: Any, path: FieldPath, findings: ViolationCollector) -> None:
    findings.add_unimplemented(path)


def _each_item(rule: Constraint | None, each: ValueCheck | None) -> ValueCheck:
    def check(values: Any, path: FieldPath, findings: ViolationCollector) -> None:
        if rule is not None and (problem := rule.violation(values)):
            findings.add(path, problem)
        elif each is not None:
            for index, value in enumerate(values):
                each(value, (path, index), findings)

    return check


def _each_entry(
    rule: Constraint | None, each_key: ValueCheck | None, each: ValueCheck | None
) -> ValueCheck:
    entry_violation: Callable[[str, str], str | None] | None = (
        rule.entry_violation if isinstance(rule, Labels) else None
    )

    def check(values: Any, path: FieldPath, findings: ViolationCollector) -> None:
        if rule is not None and (problem := rule.violation(values)):
            findings.add(path, problem)
            return
        for key in values:
            value = values[key]
            at = (path, MapKey(key))
            if isinstance(key, str) and len(key) > KEY_CHARS:
                findings.add(at, f"must have a key of at most {KEY_CHARS} characters")
            if each_key is not None:
                each_key(key, at, findings)
            if each is not None:
                each(value, at, findings)
            if entry_violation is not None and (problem := entry_violation(key, value)):
                findings.add(at, problem)

    return check


def _is_required(field: FieldDescriptor) -> bool:
    behaviour = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.REQUIRED in behaviour


def _may_be_zero(field: FieldDescriptor, rule: Constraint | None) -> bool:
    """Whether not setting the field says zero, and zero is in range: then it is always set."""
    return (
        isinstance(rule, NumberRange)
        and not field.has_presence
        and rule.violation(field.default_value) is None
    )


def _leaves_out_zero(field: FieldDescriptor, rule: Constraint) -> bool:
    """Whether not setting the field, which says zero or nothing, is already out of range."""
    return isinstance(rule, NumberRange | FileSize) and not (
        field.has_presence or rule.violation(field.default_value) is None
    )


def _is_absent(message: Any, field: FieldDescriptor) -> bool:
    if field.has_presence:
        return not message.HasField(field.name)
    return not getattr(message, field.name)
