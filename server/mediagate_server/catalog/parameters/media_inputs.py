"""Media rules: images, audio, videos and LoRA weights as inputs of a model.

A report never prints a medium, only how many there were.
"""

from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from mediagate_server.catalog.parameters.contract_fields import FieldKind
from mediagate_server.catalog.parameters.rule import (
    InputDraft,
    OneInputRule,
    ParameterOutcome,
    ParameterRule,
    adjusted_outcome,
    honoured_outcome,
)
from mediagate_server.catalog.parameters.scalar import fit_value
from mediagate_server.catalog.request import Lora, MediaInput, Value
from mediagate_server.catalog.schemas.input_spec import STRICT


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class MediaRule(OneInputRule):
    """One medium or several, for an input that takes one or a list.

    Where the model takes fewer than were given, the outcome has the number left out, and the
    request is rejected. `at_most` is the maximum of a list; 0: no maximum.
    """

    takes: ClassVar[frozenset[FieldKind]] = frozenset({FieldKind.MEDIUM, FieldKind.MEDIA})

    rule: Literal["media"]
    at_most: int = 0

    def apply(self, value: Value, draft: InputDraft) -> ParameterOutcome:
        """HONOURED where all of them are sent, else ADJUSTED with the number left out."""
        media = list(value) if isinstance(value, tuple) else [value]
        uris = [medium.uri for medium in media if isinstance(medium, MediaInput)]
        if not uris:
            raise TypeError("a medium is needed")
        if draft.specs[self.to].is_list:
            draft.input[self.to] = uris[: self.at_most or None]
            sent = len(draft.input[self.to])
        else:
            draft.input[self.to], sent = uris[0], 1
        if sent < len(uris):
            return adjusted_outcome(sent, _limit_reason(sent), left_out=len(uris) - sent)
        return honoured_outcome(sent if isinstance(value, tuple) else "")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class LoraRule(ParameterRule):
    """One LoRA: its weights and their scale."""

    takes: ClassVar[frozenset[FieldKind]] = frozenset({FieldKind.LORAS})

    rule: Literal["adapter"]
    to: str
    scale: str

    @property
    def targets(self) -> tuple[str, ...]:
        """The weights and their scale."""
        return (self.to, self.scale)

    def apply(self, value: Value, draft: InputDraft) -> ParameterOutcome:
        """HONOURED for one LoRA whose scale fits; of several, the others are left out."""
        items = value if isinstance(value, tuple) else ()
        loras = [item for item in items if isinstance(item, Lora)]
        if not loras:
            raise TypeError("an adapter is needed")
        first = loras[0]
        scale = fit_value(draft.specs[self.scale], first.scale)
        draft.input[self.to], draft.input[self.scale] = first.uri, scale
        if len(loras) > 1:
            return adjusted_outcome(1, _limit_reason(1), left_out=len(loras) - 1)
        if scale != first.scale:
            return adjusted_outcome(1, f"its scale is {scale}, the nearest that the model takes")
        return honoured_outcome(1)


def _limit_reason(maximum: int) -> str:
    return f"the model takes {maximum} of them"
