"""Duration rules: the contract's seconds as a model's seconds, milliseconds or frames.

Where a model has fixed durations, the shortest that is at least as long as requested is sent, else
the longest.
"""

from fractions import Fraction
from math import ceil
from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from mediagate_server.catalog.parameters.contract_fields import FieldKind
from mediagate_server.catalog.parameters.ordered_values import ordinal
from mediagate_server.catalog.parameters.rule import (
    InputDraft,
    ParameterOutcome,
    ParameterRule,
    adjusted_outcome,
    honoured_outcome,
)
from mediagate_server.catalog.request import Value
from mediagate_server.catalog.schemas.input_spec import STRICT, InputSpec, InputType

NEAREST_DURATION_REASON = "the shortest length of the model that is long enough, or its longest"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Duration(ParameterRule):
    """Duration in units of which `per_second` make a second (1000 for milliseconds)."""

    takes: ClassVar[frozenset[FieldKind]] = frozenset({FieldKind.NUMBER})

    rule: Literal["length"]
    to: str
    per_second: int = 1

    @property
    def targets(self) -> tuple[str, ...]:
        """The one input."""
        return (self.to,)

    def apply(self, value: Value, draft: InputDraft) -> ParameterOutcome:
        """HONOURED where the model has exactly that duration, else ADJUSTED."""
        spec = draft.specs[self.to]
        requested = _seconds(value) * self.per_second
        sent, length = _shortest_long_enough(spec, requested)
        draft.input[self.to] = sent
        seconds = float(length / self.per_second)
        return (
            honoured_outcome(seconds)
            if length == requested
            else adjusted_outcome(seconds, NEAREST_DURATION_REASON)
        )


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class FrameCount(ParameterRule):
    """Duration as a number of frames, at the frame rate that is sent or that the model has by
    default.
    """

    takes: ClassVar[frozenset[FieldKind]] = frozenset({FieldKind.NUMBER})

    rule: Literal["frames"]
    to: str
    fps: str

    @property
    def targets(self) -> tuple[str, ...]:
        """The number of frames; the rate is its own parameter's."""
        return (self.to,)

    @property
    def mentions(self) -> tuple[str, ...]:
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
        return (
            honoured_outcome(seconds)
            if frames / rate == requested
            else adjusted_outcome(seconds, NEAREST_DURATION_REASON)
        )


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
