"""Model request: the fields of the contract's requests, without protobuf.

`parameters` holds only what the caller set, by the contract's field name: "not set" and "set to
zero" stay apart, and each set parameter is reported on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, final

import msgspec
from msgspec import Struct


class Modality(StrEnum):
    """Modality of a model: what it outputs. The words are those of the contract's enum."""

    TEXT = "text"
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    SAFETY = "safety"
    RAW = "raw"


class Size(Struct, frozen=True):
    """Image size in pixels."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class InlineSource:
    """Media bytes that came within the request and are too large for a data URI."""

    data: bytes = field(repr=False)
    media_type: str


@dataclass(frozen=True, slots=True)
class UploadSource:
    """An earlier upload as input."""

    upload_id: str


@dataclass(frozen=True, slots=True)
class OutputSource:
    """An output of an earlier generation as input."""

    generation_id: str
    index: int


MediaSource = InlineSource | UploadSource | OutputSource


class MediaInput(Struct, frozen=True):
    """A medium as input: an https URL or a data URI, as Replicate takes both.

    `source` is where an unresolved medium comes from; `uri` is a placeholder until then.
    """

    uri: str
    source: MediaSource | None = None


class Message(Struct, frozen=True):
    """Chat message. `role` is system, user, assistant or tool.

    `tool_calls` is the number of tool calls in the message.
    """

    role: str
    parts: tuple[str | MediaInput, ...]
    tool_calls: int = 0

    @property
    def text(self) -> str:
        """All text parts joined; media parts are left out."""
        return "".join(part for part in self.parts if isinstance(part, str))


class ResponseFormat(Struct, frozen=True):
    """Response format: text, json or json_schema; `schema` is {} but for the last."""

    kind: str
    schema: Mapping[str, Any]


class ToolNames(Struct, frozen=True):
    """Names of tools that a model may call; of tool_choice, its mode."""

    words: tuple[str, ...]


class Lora(Struct, frozen=True):
    """LoRA weights and their scale."""

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
"""Value of a parameter. Durations are seconds as float; enums are their word in lower case."""


@final
class RunRequest(Struct, frozen=True):
    """Request to run any model by its own inputs, with media for some of them by name.

    `model` is the name as it was written. `timeout` (seconds) and `max_cost_nanos` limit the call.
    """

    model: str
    input: Mapping[str, Any]
    media: Mapping[str, tuple[MediaInput, ...]]
    timeout: float
    max_cost_nanos: int | None = None


class FallbackMode(StrEnum):
    """Source of the fallback models: the catalog's chain, none, or a list of the request."""

    CATALOG = "catalog"
    NONE = "none"
    LIST = "list"


class Fallback(Struct, frozen=True):
    """Fallback of a request: the catalog's chain, none, or `models` in order.

    `after_content_refusal`: fall back also where a model refuses the content.
    """

    mode: FallbackMode = FallbackMode.CATALOG
    models: tuple[str, ...] = ()
    after_content_refusal: bool = False


class ModelRequest(Struct, frozen=True):
    """Request to a model of a modality.

    `model` is a slug or an alias; empty means the modality's default. `strict` rejects what would
    otherwise be adjusted or dropped, and a substitute model; `allow_substitutes` off rejects the
    latter alone. `max_cost_nanos` limits the cost of the whole call.

    `quality` is what to choose by where no model is named: economy, standard or premium; empty: the
    modality's default model. `fallback` None: the operator's default. `timeout` of the whole call
    is in seconds; 0: not known. `model_parameters` are inputs of the model by its own names, as
    JSON. `is_fallback`: this request is for a fallback model.
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
