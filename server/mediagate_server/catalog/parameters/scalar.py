"""Scalar rules: parameters that are one number, word, switch or text."""

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
    """Fit a value to an input: itself, else the nearest accepted; None where none is near.

    Numbers are clamped and, for integers, rounded half to even. Words are compared
    case-insensitively, else by their ordinals.
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
    """Equality of words or numbers: "1" is 1.0, "JPG" is "jpg"."""
    if type(word) is type(value) and word == value:
        return True
    if format_value(word).casefold() == format_value(value).casefold():
        return True
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return numeric and ordinal(word) == Fraction(str(value))


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class DirectValue(ParameterRule):
    """Value as it is, under the model's own name; the nearest one where it does not fit."""

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
    """Enum mapping: the contract's words, each with the model's own.

    Words with an order fall back to the nearest. A language tag falls back to its language ("en-US"
    to "en"). A word of the model itself is sent as it is.
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
    """Fixed behaviour of a model: nothing is sent, and it may be what was requested."""

    takes: ClassVar[frozenset[FieldKind]] = SCALAR_KINDS - {FieldKind.FREE_TEXT}

    rule: Literal["fixed"]
    value: str | int | float | bool

    @property
    def targets(self) -> tuple[str, ...]:
        """None."""
        return ()

    def apply(self, value: Value, draft: InputDraft) -> ParameterOutcome:
        """HONOURED where it is what was requested; a switch that the model lacks is DROPPED."""
        if _is_same_value(self.value, value):
            return honoured_outcome(value)
        if isinstance(self.value, bool):
            return dropped_outcome()
        return adjusted_outcome(self.value, "the model makes nothing else")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ScaledValue(ParameterRule):
    """Fraction from 0 to 1, scaled to the range of the model's own input."""

    takes: ClassVar[frozenset[FieldKind]] = frozenset({FieldKind.NUMBER})

    rule: Literal["scaled"]
    to: str

    @property
    def targets(self) -> tuple[str, ...]:
        """The one input, which must have a minimum and a maximum."""
        return (self.to,)

    def problem(self, specs: Mapping[str, InputSpec]) -> str:
        """The input needs a minimum and a maximum."""
        spec = specs[self.to]
        has_range = spec.is_numeric and spec.min is not None and spec.max is not None
        return "" if has_range else f"the input {self.to!r} needs a min and a max"

    def apply(self, value: Value, draft: InputDraft) -> ParameterOutcome:
        """HONOURED: 0 to 1 covers the model's whole range."""
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
    """Several strings joined to one by a separator."""

    takes: ClassVar[frozenset[FieldKind]] = frozenset({FieldKind.STRINGS})

    rule: Literal["joined"]
    to: str
    separator: str = ","

    @property
    def targets(self) -> tuple[str, ...]:
        """The one input."""
        return (self.to,)

    def apply(self, value: Value, draft: InputDraft) -> ParameterOutcome:
        """A string that contains the separator would be split in two, so it is left out."""
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
    """Number of outputs of one run. More than that is rejected before, not clamped."""

    takes: ClassVar[frozenset[FieldKind]] = frozenset({FieldKind.INTEGER})

    rule: Literal["count"]
    to: str

    @property
    def targets(self) -> tuple[str, ...]:
        """The one input."""
        return (self.to,)

    def problem(self, specs: Mapping[str, InputSpec]) -> str:
        """The maximum of one run must be known."""
        return "" if specs[self.to].max else f"the input {self.to!r} needs a max"

    def max_per_run(self, specs: Mapping[str, InputSpec]) -> int:
        """Maximum number of outputs of one run."""
        limit = specs[self.to].max
        return 1 if limit is None else int(limit)

    def apply(self, value: Value, draft: InputDraft) -> ParameterOutcome:
        """HONOURED: the caller has checked it against `max_per_run`."""
        draft.input[self.to] = value
        return honoured_outcome(value)
