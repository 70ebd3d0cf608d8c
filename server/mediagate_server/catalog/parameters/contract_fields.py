"""Parameters of the contract by modality, and the kind of value of each.

One table for everything that must know a parameter without knowing its meaning: model files may map
no other name, a rule says which kinds it takes, and a report prints by kind.
"""

from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType
from typing import Final

from mediagate_server.catalog.request import Modality


class FieldKind(Enum):
    """Kind of a parameter's value. FREE_TEXT is what people wrote: it is never printed."""

    FREE_TEXT = auto()
    STRINGS = auto()
    MESSAGES = auto()
    WORD = auto()
    RATIO = auto()
    RESOLUTION = auto()
    NUMBER = auto()
    INTEGER = auto()
    BOOLEAN = auto()
    SIZE = auto()
    MEDIUM = auto()
    MEDIA = auto()
    LORAS = auto()
    RESPONSE_FORMAT = auto()
    TOOLS = auto()


MEDIA_KINDS: Final = frozenset({FieldKind.MEDIUM, FieldKind.MEDIA, FieldKind.LORAS})
"""Kinds of parameters that hold media, LoRA weights among them."""

_TEXT = {
    "prompt": FieldKind.FREE_TEXT,
    "messages": FieldKind.MESSAGES,
    "system_prompt": FieldKind.FREE_TEXT,
    "max_output_tokens": FieldKind.INTEGER,
    "temperature": FieldKind.NUMBER,
    "top_p": FieldKind.NUMBER,
    "top_k": FieldKind.INTEGER,
    "stop_sequences": FieldKind.STRINGS,
    "seed": FieldKind.INTEGER,
    "reasoning_effort": FieldKind.WORD,
    "response_format": FieldKind.RESPONSE_FORMAT,
    "tools": FieldKind.TOOLS,
    "tool_choice": FieldKind.TOOLS,
}
_IMAGE = {
    "prompt": FieldKind.FREE_TEXT,
    "negative_prompt": FieldKind.FREE_TEXT,
    "size": FieldKind.SIZE,
    "aspect_ratio": FieldKind.RATIO,
    "megapixels": FieldKind.NUMBER,
    "count": FieldKind.INTEGER,
    "seed": FieldKind.INTEGER,
    "guidance_scale": FieldKind.NUMBER,
    "steps": FieldKind.INTEGER,
    "reference_images": FieldKind.MEDIA,
    "strength": FieldKind.NUMBER,
    "mask": FieldKind.MEDIUM,
    "loras": FieldKind.LORAS,
    "output_format": FieldKind.WORD,
}
_VIDEO = {
    "prompt": FieldKind.FREE_TEXT,
    "negative_prompt": FieldKind.FREE_TEXT,
    "first_frame": FieldKind.MEDIUM,
    "last_frame": FieldKind.MEDIUM,
    "reference_images": FieldKind.MEDIA,
    "source_video": FieldKind.MEDIUM,
    "source_audio": FieldKind.MEDIUM,
    "duration": FieldKind.NUMBER,
    "fps": FieldKind.INTEGER,
    "size": FieldKind.SIZE,
    "aspect_ratio": FieldKind.RATIO,
    "resolution": FieldKind.RESOLUTION,
    "guidance_scale": FieldKind.NUMBER,
    "motion_strength": FieldKind.NUMBER,
    "generate_audio": FieldKind.BOOLEAN,
    "seed": FieldKind.INTEGER,
}
_AUDIO = {
    "kind": FieldKind.WORD,
    "prompt": FieldKind.FREE_TEXT,
    "text": FieldKind.FREE_TEXT,
    "lyrics": FieldKind.FREE_TEXT,
    "voice": FieldKind.WORD,
    "language": FieldKind.WORD,
    "speed": FieldKind.NUMBER,
    "duration": FieldKind.NUMBER,
    "temperature": FieldKind.NUMBER,
    "top_k": FieldKind.INTEGER,
    "top_p": FieldKind.NUMBER,
    "guidance_scale": FieldKind.NUMBER,
    "continue_from": FieldKind.MEDIUM,
    "reference_audio": FieldKind.MEDIUM,
    "output_format": FieldKind.WORD,
    "seed": FieldKind.INTEGER,
}
_SAFETY = {
    "content": FieldKind.FREE_TEXT,
    "messages": FieldKind.MESSAGES,
    "role": FieldKind.WORD,
    "context": FieldKind.FREE_TEXT,
}

FIELDS: Mapping[Modality, Mapping[str, FieldKind]] = MappingProxyType(
    {
        Modality.TEXT: MappingProxyType(_TEXT),
        Modality.IMAGE: MappingProxyType(_IMAGE),
        Modality.VIDEO: MappingProxyType(_VIDEO),
        Modality.AUDIO: MappingProxyType(_AUDIO),
        Modality.SAFETY: MappingProxyType(_SAFETY),
        Modality.RAW: MappingProxyType({}),
    }
)
