"""Scalar rules: parameters that are one number, word, switch, text or duration.

Words have an ordinal where they have an order (720p before 1080p, low before high). Only those have
a nearest value; between others (voices, languages) nothing is guessed.

A duration is the contract's seconds as a model's seconds, milliseconds or frames. Where a model has
fixed ones, the shortest that is at least as long as requested is sent, else the longest.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any, ClassVar, Literal, TypeVar

from pydantic.dataclasses import dataclass

from mediagate_server.catalog.parameters.contract_fields import FieldKind
from mediagate_server.catalog.parameters.rule import (
    InputDraft,
    OneInputRule,
    ParameterOutcome,
    ParameterRule,
    adjusted_outcome,
    dropped_outcome,
    fitted_outcome,
    format_value,
    honoured_outcome,
)
from mediagate_server.catalog.request import Value
from mediagate_server.catalog.schemas.input_spec import STRICT, InputSpec, InputType

_Word = TypeVar("_Word", bound=object)
_EFFORT_ORDER = {"none": 0, "minimal": 1, "low": 2, "medium": 3, "high": 4, "xhigh": 5}
_MAX_CHARACTERS = 64
"""Maximum length: no model's value is as long, and a number of thousands of digits is none."""
_RESOLUTION_LINES = {"2k": 1440, "4k": 2160, "8k": 4320}
_FRAMES = re.compile(r"(\d+)_frames_\w+")
_LEADING_NUMBER = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:p|mp|s|fps)?\s*", re.IGNORECASE)


def ordinal(word: object) -> Fraction | None:
    """Ordinal of a value, for comparison; None where it has none."""
    if isinstance(word, bool):
        return None
    if isinstance(word, int | float | Decimal):
        return Fraction(str(word))
    text = str(word).casefold()
    if len(text) > _MAX_CHARACTERS:
        return None
    if text in _EFFORT_ORDER:
        return Fraction(_EFFORT_ORDER[text])
    if text in _RESOLUTION_LINES:
        return Fraction(_RESOLUTION_LINES[text])
    match = _LEADING_NUMBER.fullmatch(text) or _FRAMES.fullmatch(text)
    return Fraction(match.group(1)) if match else None


def nearest_allowed(value: object, allowed: Iterable[_Word]) -> _Word | None:
    """The allowed value that is nearest to `value`; the lower (cheaper) of two equally near.

    None where `value` or every allowed value has no ordinal.
    """
    target = ordinal(value)
    if target is None:
        return None
    candidates = [(item, order) for item in allowed if (order := ordinal(item)) is not None]
    if not candidates:
        return None
    return min(candidates, key=lambda pair: (abs(pair[1] - target), pair[1]))[0]


_SCALAR_KINDS = frozenset(
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
_OUT_OF_RANGE_REASON = "the nearest that the model takes"
_UNKNOWN_VALUE_REASON = "not one of the values that the model knows"


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
class DirectValue(OneInputRule):
    """Value as it is, under the model's own name; the nearest one where it does not fit."""

    takes: ClassVar[frozenset[FieldKind]] = _SCALAR_KINDS

    rule: Literal["direct"] = "direct"

    def apply(self, value: Value, draft: InputDraft) -> ParameterOutcome:
        """HONOURED, ADJUSTED to the nearest, or DROPPED where no word is near."""
        sent = fit_value(draft.specs[self.to], value)
        if sent is None:
            return dropped_outcome(_UNKNOWN_VALUE_REASON)
        draft.input[self.to] = sent
        return fitted_outcome(sent, _OUT_OF_RANGE_REASON, is_exact=_is_same_value(sent, value))


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class EnumValue(OneInputRule):
    """Enum mapping: the contract's words, each with the model's own.

    Words with an order fall back to the nearest. A language tag falls back to its language ("en-US"
    to "en"). A word of the model itself is sent as it is.
    """

    takes: ClassVar[frozenset[FieldKind]] = _SCALAR_KINDS - {FieldKind.FREE_TEXT}

    rule: Literal["choice"]
    words: Mapping[str, str | int | float | bool] = field(default_factory=dict)

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
                self.words[nearest], adjusted_outcome(nearest, _OUT_OF_RANGE_REASON), draft
            )
        if isinstance(value, str) and not spec.enum and not spec.problem(value):
            return self._write(value, honoured_outcome(value), draft)
        return dropped_outcome(_UNKNOWN_VALUE_REASON)

    def _write(self, value: Any, outcome: ParameterOutcome, draft: InputDraft) -> ParameterOutcome:
        draft.input[self.to] = value
        return outcome


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class FixedValue(ParameterRule):
    """Fixed behaviour of a model: nothing is sent, and it may be what was requested."""

    takes: ClassVar[frozenset[FieldKind]] = _SCALAR_KINDS - {FieldKind.FREE_TEXT}

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
class ScaledValue(OneInputRule):
    """Fraction from 0 to 1, scaled to the range of the model's own input."""

    takes: ClassVar[frozenset[FieldKind]] = frozenset({FieldKind.NUMBER})

    rule: Literal["scaled"]

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
        return fitted_outcome(share, _OUT_OF_RANGE_REASON, is_exact=share == value)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class JoinedValue(OneInputRule):
    """Several strings joined to one by a separator."""

    takes: ClassVar[frozenset[FieldKind]] = frozenset({FieldKind.STRINGS})

    rule: Literal["joined"]
    separator: str = ","

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
        return fitted_outcome("", reason, is_exact=len(sendable) == len(words))


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class OutputCount(OneInputRule):
    """Number of outputs of one run. More than that is rejected before, not clamped."""

    takes: ClassVar[frozenset[FieldKind]] = frozenset({FieldKind.INTEGER})

    rule: Literal["count"]

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


_NEAREST_DURATION_REASON = "the shortest length of the model that is long enough, or its longest"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Duration(OneInputRule):
    """Duration in units of which `per_second` make a second (1000 for milliseconds)."""

    takes: ClassVar[frozenset[FieldKind]] = frozenset({FieldKind.NUMBER})

    rule: Literal["length"]
    per_second: int = 1

    def apply(self, value: Value, draft: InputDraft) -> ParameterOutcome:
        """HONOURED where the model has exactly that duration, else ADJUSTED."""
        spec = draft.specs[self.to]
        requested = _seconds(value) * self.per_second
        sent, length = _shortest_long_enough(spec, requested)
        draft.input[self.to] = sent
        seconds = float(length / self.per_second)
        return fitted_outcome(seconds, _NEAREST_DURATION_REASON, is_exact=length == requested)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class FrameCount(OneInputRule):
    """Duration as a number of frames, at the frame rate that is sent or else the model's own."""

    takes: ClassVar[frozenset[FieldKind]] = frozenset({FieldKind.NUMBER})

    rule: Literal["frames"]
    fps: str

    @property
    def referenced_inputs(self) -> tuple[str, ...]:
        """The frame rate too."""
        return tuple(name for name in (self.to, self.fps, self.needs) if name)

    @property
    def rank(self) -> int:
        """After the frame rate."""
        return 1

    def apply(self, value: Value, draft: InputDraft) -> ParameterOutcome:
        """HONOURED where whole frames make exactly that duration, else ADJUSTED."""
        rate = ordinal(draft.value(self.fps))
        if rate is None:
            raise TypeError(f"{self.fps}: a frame rate is needed")
        requested = _seconds(value)
        sent, frames = _shortest_long_enough(draft.specs[self.to], requested * rate)
        draft.input[self.to] = sent
        seconds = round(float(frames / rate), 3)
        is_exact = frames / rate == requested
        return fitted_outcome(seconds, _NEAREST_DURATION_REASON, is_exact=is_exact)


def _seconds(value: Value) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("a length in seconds is needed")
    return Fraction(str(value))


def _shortest_long_enough(
    spec: InputSpec, requested: Fraction
) -> tuple[str | int | float, Fraction]:
    """The value to send, and the duration that it means, in the input's own unit."""
    allowed = sorted(
        ((order, word) for word in spec.enum if (order := ordinal(word)) is not None),
        key=lambda pair: pair[0],
    )
    if allowed:
        length, word = next((pair for pair in allowed if pair[0] >= requested), allowed[-1])
        return word, length
    length = requested
    if spec.min is not None:
        length = max(length, Fraction(str(spec.min)))
    if spec.max is not None:
        length = min(length, Fraction(str(spec.max)))
    if spec.type is InputType.INTEGER:
        rounded = ceil(length)
        return rounded, Fraction(rounded)
    return float(length), length
