"""Input specification of a model: names, types and ranges of its inputs, and their validation.

These are facts about the model as Replicate publishes them. Nothing here knows our contract.
"""

import re
from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

STRICT = ConfigDict(extra="forbid")
"""Pydantic configuration of model files: an unknown key is an error."""


class InputType(StrEnum):
    """Type of an input. URI is a string that names a medium."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    URI = "uri"
    STRINGS = "string[]"
    URIS = "uri[]"
    NUMBERS = "number[]"
    OBJECTS = "object[]"


_ELEMENT_TYPES = {
    InputType.STRINGS: InputType.STRING,
    InputType.URIS: InputType.URI,
    InputType.NUMBERS: InputType.NUMBER,
}


@dataclass(frozen=True, slots=True, config=STRICT)
class InputSpec:
    """Specification of one input. `default` is what the model takes where we send nothing; None:
    nothing.

    `pattern` replaces an enum that is too long: the whole value must match it. `reserved` inputs
    are not for callers: a vendor's checks, and whatever changes who is billed.
    """

    type: InputType
    required: bool = False
    default: str | int | float | bool | None = None
    min: int | float | None = None
    max: int | float | None = None
    enum: tuple[str | int | float, ...] = field(default=())
    pattern: str = ""
    reserved: bool = False

    def problem(self, value: Any) -> str:
        """Validation error of a value; empty where it is valid."""
        if not self.has_type(value):
            return f"is not of type {self.type.value}"
        if self.enum and value not in self.enum:
            return "is not one of the allowed values"
        if self.pattern and not re.fullmatch(self.pattern, value):
            return f"does not match {self.pattern}"
        if self.min is not None and value < self.min:
            return f"is under {self.min}"
        if self.max is not None and value > self.max:
            return f"is over {self.max}"
        return ""

    def has_type(self, value: Any) -> bool:
        """Whether `value` is of this input's type, in range or not."""
        return _is_of_type(self.type, value)

    @property
    def is_numeric(self) -> bool:
        """True for integers and numbers."""
        return self.type in (InputType.INTEGER, InputType.NUMBER)

    @property
    def is_list(self) -> bool:
        """True where the input takes several values at once."""
        return self.type in (*_ELEMENT_TYPES, InputType.OBJECTS)


def _is_of_type(kind: InputType, value: Any) -> bool:
    """Type check. Bools are no integers, as in JSON Schema; 1.0 is no integer either."""
    if kind is InputType.BOOLEAN:
        return isinstance(value, bool)
    if kind is InputType.INTEGER:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is InputType.NUMBER:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is InputType.OBJECTS:
        return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)
    if kind in _ELEMENT_TYPES:
        return isinstance(value, list) and all(
            _is_of_type(_ELEMENT_TYPES[kind], item) for item in value
        )
    if kind is InputType.URI:
        return isinstance(value, str) and value.startswith(("https://", "http://", "data:"))
    return isinstance(value, str)
