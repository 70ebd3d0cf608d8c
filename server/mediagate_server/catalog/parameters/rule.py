"""Parameter rules: their base class, their outcome, the report of it, and the input they write to.

A rule takes one parameter's value, writes inputs of the model, and returns what became of the
value: honoured, adjusted, emulated or dropped, and why.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any, ClassVar

import msgspec
from msgspec import Struct
from pydantic.dataclasses import dataclass

from mediagate_server.catalog.parameters.contract_fields import FieldKind
from mediagate_server.catalog.request import Value
from mediagate_server.catalog.schemas.input_spec import STRICT, InputSpec


class ParameterHandling(StrEnum):
    """Handling of a parameter that the caller set."""

    HONOURED = "honoured"
    ADJUSTED = "adjusted"
    EMULATED = "emulated"
    DROPPED = "dropped"


class ParameterReport(Struct, frozen=True):
    """Report of one parameter. `requested` and `sent` are short, printable values.

    Prompts and media are never printed: for them both are empty.
    """

    parameter: str
    handling: ParameterHandling
    requested: str = ""
    sent: str = ""
    reason: str = ""


NO_SUCH_INPUT_REASON = "the model has nothing like it"


class ParameterOutcome(Struct, frozen=True):
    """Outcome of a rule: handling, the value sent in the contract's own unit, and the reason.

    `left_out` is how many of several values, from the last one back, would not reach the model.
    """

    handling: ParameterHandling
    sent: str = ""
    reason: str = ""
    left_out: int = 0


_HONOURED = ParameterOutcome(ParameterHandling.HONOURED)


def honoured_outcome(sent: Any = "") -> ParameterOutcome:
    """HONOURED: sent as requested."""
    if sent == "":
        return _HONOURED
    return ParameterOutcome(ParameterHandling.HONOURED, format_short(sent))


def adjusted_outcome(sent: Any, reason: str, *, left_out: int = 0) -> ParameterOutcome:
    """ADJUSTED: sent with another value."""
    return ParameterOutcome(ParameterHandling.ADJUSTED, format_short(sent), reason, left_out)


def fitted_outcome(sent: Any, reason: str, *, is_exact: bool) -> ParameterOutcome:
    """HONOURED where the value sent is the requested one, else ADJUSTED."""
    return honoured_outcome(sent) if is_exact else adjusted_outcome(sent, reason)


def emulated_outcome(sent: Any, reason: str) -> ParameterOutcome:
    """EMULATED: no input of the model, but reached in another way."""
    return ParameterOutcome(ParameterHandling.EMULATED, format_short(sent), reason)


def dropped_outcome(reason: str = NO_SUCH_INPUT_REASON) -> ParameterOutcome:
    """DROPPED: not sent, without effect."""
    return ParameterOutcome(ParameterHandling.DROPPED, "", reason)


class InputDraft(Struct):
    """Model input under construction. `specs` are the inputs that the model has."""

    specs: Mapping[str, InputSpec]
    input: dict[str, Any] = msgspec.field(default_factory=dict)

    def value(self, name: str) -> Any:
        """Effective value of an input: what was written, else its own default, else None."""
        return self.input.get(name, self.specs[name].default)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ParameterRule(ABC):
    """Rule that maps one parameter to inputs of a model.

    `also` are further inputs that must have these values for the parameter to have an effect;
    `forces` are such inputs by the value that is sent, where only some values have a condition.
    `needs` names an input without which it has no effect. `why` is added to the report (for example
    that it costs more).
    """

    takes: ClassVar[frozenset[FieldKind]]
    """Kinds of parameters that the rule supports."""

    also: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    forces: Mapping[str, Mapping[str, str | int | float | bool]] = field(default_factory=dict)
    needs: str = ""
    why: str = ""

    @property
    @abstractmethod
    def targets(self) -> tuple[str, ...]:
        """The inputs that the rule writes, without `also`. The first is the main one."""

    @abstractmethod
    def apply(self, value: Value, draft: InputDraft) -> ParameterOutcome:
        """Write the inputs, and return the outcome."""

    @property
    def referenced_inputs(self) -> tuple[str, ...]:
        """Every input that the rule names and the model must have, without `also`."""
        return (*self.targets, self.needs) if self.needs else self.targets

    def problem(self, specs: Mapping[str, InputSpec]) -> str:
        """Why the rule cannot work with these inputs; empty where it can. Called at loading."""
        return ""

    @property
    def rank(self) -> int:
        """Order of application: lower ranks first, because others depend on them."""
        return 2 if self.also or self.needs or self.forces else 0

    def conditions(self, draft: InputDraft) -> Mapping[str, str | int | float | bool]:
        """Further inputs that the written value requires, with their values."""
        sent = format_value(draft.input[self.targets[0]]) if self.forces else ""
        return {**self.also, **self.forces.get(sent, {})}


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class OneInputRule(ParameterRule):
    """Rule that writes one input, `to`."""

    to: str

    @property
    def targets(self) -> tuple[str, ...]:
        """The one input."""
        return (self.to,)


def format_value(value: Any) -> str:
    """Format a value for people: 3.0 is "3", a switch is "true" or "false"."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def format_short(value: Any) -> str:
    """Format a value in at most 64 characters; empty where it is longer or does not print."""
    text = format_value(value)
    return text if len(text) <= 64 and text.isprintable() else ""
