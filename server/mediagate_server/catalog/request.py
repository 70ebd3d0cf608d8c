"""What a caller asks of a model, in our own words: the contract's fields without protobuf.

`parameters` holds only what the caller set, keyed by the contract's field name, so that
"not set" and "set to zero" stay apart and every set parameter can be accounted for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, final

import msgspec
from msgspec import Struct


class Modality(StrEnum):
    """What a model makes. The words are those of the contract's enum, in lower case."""

    TEXT = "text"
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    SAFETY = "safety"
    RAW = "raw"


class Size(Struct, frozen=True):
    """A picture's size in pixels."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class InlineSource:
    """A medium that came within the request and is too large for a data URI."""

    data: bytes = field(repr=False)
    media_type: str


@dataclass(frozen=True, slots=True)
class UploadSource:
    """A medium that was uploaded before."""

    upload_id: str


@dataclass(frozen=True, slots=True)
class OutputSource:
    """An output of an earlier generation."""

    generation_id: str
    index: int


MediaSource = InlineSource | UploadSource | OutputSource


class MediaInput(Struct, frozen=True):
    """A medium given as input: an https URL or a data URI, as Replicate takes both.

    `source` is where it has still to be had from; `uri` only stands in for it until then.
    """

    uri: str
    source: MediaSource | None = None


class Message(Struct, frozen=True):
    """One turn of a conversation. `role` is system, user, assistant or tool.

    `tool_calls` is how many tools the turn asks for.
    """

    role: str
    parts: tuple[str | MediaInput, ...]
    tool_calls: int = 0

    @property
    def text(self) -> str:
        """All text parts joined; media parts are left out."""
        return "".join(part for part in self.parts if isinstance(part, str))


class ResponseFormat(Struct, frozen=True):
    """The form of an answer: text, json or json_schema; `schema` is {} but for the last."""

    kind: str
    schema: Mapping[str, Any]


class ToolNames(Struct, frozen=True):
    """Tools that a model may ask for, by name; or, of tool_choice, the word for how freely."""

    words: tuple[str, ...]


class Lora(Struct, frozen=True):
    """An adapter's weights and how strongly they count."""

    uri: str
    scale: float


Value = (
    str
    | int
    | float
    | bool
    | Size
    | MediaInput
    | ResponseFormat
    | ToolNames
    | tuple[str, ...]
    | tuple[MediaInput, ...]
    | tuple[Message, ...]
    | tuple[Lora, ...]
)
"""A parameter's value. Durations are seconds as float; enums are their word in lower case."""


@final
class RunRequest(Struct, frozen=True):
    """A run of any model, to be planned: its own inputs, and media for some of them by name.

    `model` is the name as it was written. `timeout` (seconds) and `max_cost_nanos` bound what the
    call may cost.
    """

    model: str
    input: Mapping[str, Any]
    media: Mapping[str, tuple[MediaInput, ...]]
    timeout: float
    max_cost_nanos: int | None = None


class FallbackMode(StrEnum):
    """Which models take over where one fails."""

    CATALOG = "catalog"
    NONE = "none"
    LIST = "list"


class Fallback(Struct, frozen=True):
    """Which models take over where one fails: the catalog's chain, none, or `models` in order.

    `after_content_refusal`: also where one refuses the content.
    """

    mode: FallbackMode = FallbackMode.CATALOG
    models: tuple[str, ...] = ()
    after_content_refusal: bool = False


class ModelRequest(Struct, frozen=True):
    """One request to be planned.

    `model` is a slug or an alias; empty means the modality's default. `strict` refuses what
    would otherwise be adjusted or dropped, a stand-in for the model among it; so does
    `allow_substitutes` where it is off. `max_cost_nanos` bounds the most the call may cost, all of
    it together.

    `quality` is what to choose by where no model is named: economy, standard or premium; empty:
    the modality's default model. `fallback` None: as the operator has it. `timeout` is how long the
    whole call may take, in seconds; 0: that is not known. `model_parameters` are inputs of the
    model by its own names, as JSON. `takes_over`: it is put to a model that takes over.
    """

    modality: Modality
    model: str
    parameters: Mapping[str, Value]
    strict: bool = False
    allow_substitutes: bool = True
    max_cost_nanos: int | None = None
    quality: str = ""
    fallback: Fallback | None = None
    timeout: float = 0.0
    model_parameters: Mapping[str, Any] = msgspec.field(default_factory=dict)
    is_fallback: bool = msgspec.field(default=False, name="takes_over")
