"""What a model can do beyond the usual of its modality: a closed list of words.

Each is derived from the same data that plans are made from, so that none can be claimed and not
kept.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from mediagate_server.catalog.model import Model
from mediagate_server.catalog.request import Modality
from mediagate_server.catalog.rules.chat import ChatStyle
from mediagate_server.catalog.rules.plain import Fixed


class Capability(StrEnum):
    """One thing that a model can do. The words are those that callers see."""

    ADAPTERS = "adapters"
    CONTINUATION = "continuation"
    IMAGE_TO_IMAGE = "image-to-image"
    IMAGE_TO_VIDEO = "image-to-video"
    INPAINTING = "inpainting"
    JSON = "json"
    LAST_FRAME = "last-frame"
    LYRICS = "lyrics"
    MESSAGES = "messages"
    MUSIC = "music"
    NATIVE_AUDIO = "native-audio"
    NEGATIVE_PROMPT = "negative-prompt"
    REASONING = "reasoning"
    REFERENCE_AUDIO = "reference-audio"
    REFERENCE_IMAGES = "reference-images"
    SEVERAL_OUTPUTS = "several-outputs"
    SOUND_EFFECT = "sound-effect"
    SOUNDTRACK = "soundtrack"
    SPEECH = "speech"
    STREAMING = "streaming"
    TEXT_TO_VIDEO = "text-to-video"
    VIDEO_TO_VIDEO = "video-to-video"
    VISION = "vision"
    VOICES = "voices"


_BY_FIELD: Final[Mapping[Modality, Mapping[str, Capability]]] = MappingProxyType(
    {
        Modality.TEXT: {"reasoning_effort": Capability.REASONING},
        Modality.IMAGE: {
            "reference_images": Capability.IMAGE_TO_IMAGE,
            "mask": Capability.INPAINTING,
            "loras": Capability.ADAPTERS,
            "negative_prompt": Capability.NEGATIVE_PROMPT,
            "count": Capability.SEVERAL_OUTPUTS,
        },
        Modality.VIDEO: {
            "first_frame": Capability.IMAGE_TO_VIDEO,
            "last_frame": Capability.LAST_FRAME,
            "source_video": Capability.VIDEO_TO_VIDEO,
            "source_audio": Capability.SOUNDTRACK,
            "reference_images": Capability.REFERENCE_IMAGES,
            "negative_prompt": Capability.NEGATIVE_PROMPT,
        },
        Modality.AUDIO: {
            "lyrics": Capability.LYRICS,
            "continue_from": Capability.CONTINUATION,
            "reference_audio": Capability.REFERENCE_AUDIO,
            "voice": Capability.VOICES,
        },
        Modality.SAFETY: {},
    }
)


def capabilities(model: Model) -> tuple[Capability, ...]:
    """What it can do, in alphabetical order."""
    return tuple(sorted({*_of_fields(model), *_of_text(model), *_of_sound(model)}))


def _of_fields(model: Model) -> Iterator[Capability]:
    for field, word in _BY_FIELD[model.modality].items():
        if field in model.map:
            yield word
    if model.modality is Modality.VIDEO and "prompt" in model.map:
        pictures = (model.map[name].targets for name in ("first_frame",) if name in model.map)
        if not any(model.inputs[name].required for names in pictures for name in names):
            yield Capability.TEXT_TO_VIDEO


def _of_text(model: Model) -> Iterator[Capability]:
    if model.streams:
        yield Capability.STREAMING
    if model.chat:
        # Asked for in words and checked, whichever model it is: see forms.py.
        yield Capability.JSON
    if model.chat and model.chat.images:
        yield Capability.VISION
    if model.chat and model.chat.style is ChatStyle.TURNS:
        yield Capability.MESSAGES


def _of_sound(model: Model) -> Iterator[Capability]:
    """A switch for sound, or sound that is always there."""
    rule = model.map.get("generate_audio")
    if rule is not None and (not isinstance(rule, Fixed) or rule.value is True):
        yield Capability.NATIVE_AUDIO
    yield from (Capability(kind.replace("_", "-")) for kind in model.makes)
