"""Output shape of a model: how its output is parsed, and of which media type it is."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class OutputKind(StrEnum):
    """Kind of a model's `output`, which decides how it is parsed."""

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
    """Shape of an output.

    `field` names the key of the medium in an object, or the taxonomy of a verdict (see
    `safety_categories.py`). As JSON it holds, of a JSON text, the schema to validate it by; of a
    raw output, the paths of its links (see `openapi.py`).

    `media_type` is the expected one; the file may be of another.
    """

    # For pydantic, which reads it from model files: unknown keys are errors.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    kind: OutputKind
    field: str = ""
    media_type: str = ""
