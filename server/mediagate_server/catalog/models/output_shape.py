"""Output shape of a model: how its output is read, and what it may be."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class OutputKind(StrEnum):
    """How a model's `output` is to be read."""

    TEXT_CHUNKS = "text_chunks"
    TEXT = "text"
    MEDIA = "media"
    MEDIA_LIST = "media_list"
    MEDIA_FIELD = "media_field"
    VERDICT = "verdict"
    JSON_TEXT = "json_text"
    RAW = "raw"
    RAW_TEXT = "raw_text"


@dataclass(frozen=True, slots=True)
class OutputShape:
    """How to read the output. `field` names the key that holds the medium in an object output, or
    the list of categories (see `safety_categories.py`) that a verdict is by. As JSON it holds, of a
    text that must be JSON, the schema that it must be valid by; of a raw output, the paths to its
    links (see `openapi.py`).

    `media_type` is what to expect; what arrives may be something else.
    """

    # Read from model files by pydantic, which then refuses keys that are not fields.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    kind: OutputKind
    field: str = ""
    media_type: str = ""
