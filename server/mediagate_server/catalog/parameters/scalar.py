"""Rules for parameters that are one plain value: numbers, words, switches, prose."""

from collections.abc import Mapping
from dataclasses import field
from fractions import Fraction
from typing import Any, ClassVar, Literal

from pydantic.dataclasses import dataclass

from mediagate_server.catalog.parameters.contract_fields import FieldKind
from mediagate_server.catalog.parameters.ordered_values import nearest_allowed, ordinal
from mediagate_server.catalog.parameters.rule import (
    InputDraft,
    ParameterOutcome,
    ParameterRule,
    adjusted_outcome,
    dropped_outcome,
    format_value,
    honoured_outcome,
)
from mediagate_server.catalog.request import Value
from mediagate_server.catalog.schemas.input_spec import STRICT, InputSpec, InputType

SCALAR_KINDS = frozenset(
    {
        FieldKind.FREE_TEXT,
        FieldKind.WORD,
        FieldKind.RATIO,
        FieldKind.RESOLUTION,
        FieldKind.NUMBER,
        FieldKind.INTEGER,
        FieldKind.BOOLEAN,
    }
)

OUT_OF_RANGE_REASON = "the nearest that the model takes"
UNKNOWN_VALUE_REASON = "not one of the values that the model knows"


def fit_value(spec: InputSpec, value: Any) -> Any:
    """`value` as this input takes it: itself, else the nearest accepted; None where none is near.

    Numbers are clamped and, for integers, rounded half to even. Words match without regard to
    case, else by their order where they have one.
    """
    if spec.type is InputType.BOOLEAN:
        return value if isinstance(value, bool) else None
    if spec.is_numeric:
        return _fit_number(spec, value)
    if spec.enum:
        same = [word for word in spec.enum if _is_same_value(word, value)]
        return same[0] if same else nearest_allowed(value, spec.enum)
    text = format_value(value) if isinstance(value, int | float) else value
    return None if spec.problem(text) else text


def _fit_number(spec: InputSpec, value: Any) -> int | float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    if spec.enum:
        chosen = nearest_allowed(value, spec.enum)
        return chosen if isinstance(chosen, int | float) else None
    number = round(value) if spec.type is InputType.INTEGER else value
    if spec.min is not None:
        number = max(number, spec.min)
    if spec.max is not None:
        number = min(number, spec.max)
    return int(number) if spec.type is InputType.INTEGER else number


def _is_same_value(word: Any, value: Any) -> bool:
    """Equal as words or as numbers: "1" is 1.0, "JPG" is "jpg"."""
    if type(word) is type(value) and word == value:
        return True
    if format_value(word).casefold() == format_value(value).casefold():
        return True
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return numeric and ordinal(word) == Fraction(str(value))


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class DirectValue(ParameterRule):
    """The value as it is, under the model's own name; the nearest one where it does not fit."""

    takes: ClassVar[frozenset[FieldKind]] = SCALAR_KINDS

    rule: Literal["direct"] = "direct"
    to: str

    @property
    def targets(self) -> tuple[str, ...]:
        """The one input."""
        return (self.to,)

    def apply(self, value: Value, draft: InputDraft) -> ParameterOutcome:
        """HONOURED, ADJUSTED to the nearest, or DROPPED where no word is near."""
        sent = fit_value(draft.specs[self.to], value)
        if sent is None:
            return dropped_outcome(UNKNOWN_VALUE_REASON)
        draft.input[self.to] = sent
        return (
            honoured_outcome(sent)
            if _is_same_value(sent, value)
            else adjusted_outcome(sent, OUT_OF_RANGE_REASON)
        )


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class EnumValue(ParameterRule):
    """The contract's words, each with what this model calls it.

    Words with an order fall to the nearest. A language tag falls to its language ("en-US" to
    "en"). A word that the model itself knows is sent as it is.
    """

    takes: ClassVar[frozenset[FieldKind]] = SCALAR_KINDS - {FieldKind.FREE_TEXT}

    rule: Literal["choice"]
    to: str
    words: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    @property
    def targets(self) -> tuple[str, ...]:
        """The one input."""
        return (self.to,)

    def problem(self, specs: Mapping[str, InputSpec]) -> str:
        """Every word must stand for a value that the input takes."""
        wrong = [value for value in self.words.values() if specs[self.to].problem(value)]
        return f"{wrong[0]!r} does not fit the input {self.to!r}" if wrong else ""

    def apply(self, value: Value, draft: InputDraft) -> ParameterOutcome:
        """HONOURED for a word of the table or the model's own, else ADJUSTED or DROPPED."""
        spec = draft.specs[self.to]
        word = format_value(value).casefold()
        keys = {key.casefold(): key for key in self.words}
        if word in keys:
            return self._write(self.words[keys[word]], honoured_outcome(value), draft)
        model_word = next((item for item in spec.enum if _is_same_value(item, value)), None)
        if model_word is not None:
            return self._write(model_word, honoured_outcome(value), draft)
        language = word.split("-")[0]
        if language in keys:
            return self._write(self.words[keys[language]], honoured_outcome(value), draft)
        nearest = nearest_allowed(value, self.words)
        if nearest is not None:
            return self._write(
                self.words[nearest], adjusted_outcome(nearest, OUT_OF_RANGE_REASON), draft
            )
        if isinstance(value, str) and not spec.enum and not spec.problem(value):
            return self._write(value, honoured_outcome(value), draft)
        return dropped_outcome(UNKNOWN_VALUE_REASON)

    def _write(self, value: Any, outcome: ParameterOutcome, draft: InputDraft) -> ParameterOutcome:
        draft.input[self.to] = value
        return outcome


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class FixedValue(ParameterRule):
    """Nothing is sent: the model always does the same, which may be what was asked for."""

    takes: ClassVar[frozenset[FieldKind]] = SCALAR_KINDS - {FieldKind.FREE_TEXT}

    rule: Literal["fixed"]
    value: str | int | float | bool

    @property
    def targets(self) -> tuple[str, ...]:
        """None."""
        return ()

    def apply(self, value: Value, draft: InputDraft) -> ParameterOutcome:
        """HONOURED where it is what was asked; a switch that is not there is DROPPED."""
        if _is_same_value(self.value, value):
            return honoured_outcome(value)
        if isinstance(self.value, bool):
            return dropped_outcome()
        return adjusted_outcome(self.value, "the model makes nothing else")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ScaledValue(ParameterRule):
    """A share from 0 to 1, spread over the range of the model's own input."""

    takes: ClassVar[frozenset[FieldKind]] = frozenset({FieldKind.NUMBER})

    rule: Literal["scaled"]
    to: str

    @property
    def targets(self) -> tuple[str, ...]:
        """The one input, which must have a minimum and a maximum."""
        return (self.to,)

    def problem(self, specs: Mapping[str, InputSpec]) -> str:
        """A share needs a range to be spread over."""
        spec = specs[self.to]
        has_range = spec.is_numeric and spec.min is not None and spec.max is not None
        return "" if has_range else f"the input {self.to!r} needs a min and a max"

    def apply(self, value: Value, draft: InputDraft) -> ParameterOutcome:
        """HONOURED: the model's whole range is the share's whole range."""
        spec = draft.specs[self.to]
        if not isinstance(value, int | float) or spec.min is None or spec.max is None:
            raise TypeError(f"{self.to}: a share needs a number and a range")
        share = min(max(value, 0), 1)
        draft.input[self.to] = fit_value(spec, spec.min + share * (spec.max - spec.min))
        return (
            honoured_outcome(value)
            if share == value
            else adjusted_outcome(share, OUT_OF_RANGE_REASON)
        )


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class JoinedValue(ParameterRule):
    """Several strings in one, with a separator between them."""

    takes: ClassVar[frozenset[FieldKind]] = frozenset({FieldKind.STRINGS})

    rule: Literal["joined"]
    to: str
    separator: str = ","

    @property
    def targets(self) -> tuple[str, ...]:
        """The one input."""
        return (self.to,)

    def apply(self, value: Value, draft: InputDraft) -> ParameterOutcome:
        """A string that holds the separator would be read as two, so it is left out."""
        if not isinstance(value, tuple):
            raise TypeError(f"{self.to}: several strings are needed")
        words = [word for word in value if isinstance(word, str)]
        sendable = [word for word in words if self.separator not in word]
        reason = f"the model cannot be told a string that holds {self.separator!r}"
        if not sendable:
            return dropped_outcome(reason)
        draft.input[self.to] = self.separator.join(sendable)
        return honoured_outcome() if len(sendable) == len(words) else adjusted_outcome("", reason)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class OutputCount(ParameterRule):
    """How many outputs one run makes. More than one run makes is refused before, not cut."""

    takes: ClassVar[frozenset[FieldKind]] = frozenset({FieldKind.INTEGER})

    rule: Literal["count"]
    to: str

    @property
    def targets(self) -> tuple[str, ...]:
        """The one input."""
        return (self.to,)

    def problem(self, specs: Mapping[str, InputSpec]) -> str:
        """How many one run makes must be known."""
        return "" if specs[self.to].max else f"the input {self.to!r} needs a max"

    def max_per_run(self, specs: Mapping[str, InputSpec]) -> int:
        """The most that one run makes."""
        limit = specs[self.to].max
        return 1 if limit is None else int(limit)

    def apply(self, value: Value, draft: InputDraft) -> ParameterOutcome:
        """HONOURED: the caller has checked it against `max_per_run`."""
        draft.input[self.to] = value
        return honoured_outcome(value)
