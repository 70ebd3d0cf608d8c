"""What the contract has and this server does not serve yet: setting it is refused, never ignored.

Data, to be shortened as things get built. The changelog lists the same.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

NOT_BUILT_FIELDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "mediagate.v1.GenerationOptions": (
            "quality",
            "fallback",
            "screen_prompt",
            "webhook_url",
            "reuse_within",
            "model_parameters",
        ),
        "mediagate.v1.StreamTextRequest": ("tools", "tool_choice"),
        "mediagate.v1.GenerateTextRequest": ("tools", "tool_choice"),
        "mediagate.v1.ResponseFormat": ("json_schema",),
        "mediagate.v1.ChatMessage": ("tool_calls", "tool_call_id"),
    }
)
"""Message's full name, then the fields that may not be set."""

NOT_BUILT_VALUES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "mediagate.v1.ResponseFormat.Kind": ("KIND_JSON", "KIND_JSON_SCHEMA"),
        "mediagate.v1.ChatMessage.Role": ("ROLE_TOOL",),
    }
)
"""Enum's full name, then the values that may not be used."""
