"""Model info for ListModels: capabilities, supported parameters, their bounds and allowed values.

Derived from the same data that plans are made from: what is listed is what a run does.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from mediagate_server.catalog.models.model import Model
from mediagate_server.catalog.parameters.contract_fields import FIELDS, FieldKind
from mediagate_server.catalog.parameters.image_size import (
    AspectRatio,
    Dimensions,
    PixelSize,
    VideoSize,
    parse_ratio,
)
from mediagate_server.catalog.parameters.prompt import ChatStyle
from mediagate_server.catalog.parameters.rule import ParameterRule, format_value
from mediagate_server.catalog.parameters.scalar import (
    Duration,
    EnumValue,
    FixedValue,
    FrameCount,
    ScaledValue,
    ordinal,
)
from mediagate_server.catalog.request import Modality
from mediagate_server.catalog.schemas.input_spec import InputSpec


class Capability(StrEnum):
    """Capability beyond the usual of a modality. The words are those that callers see."""

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


_CAPABILITY_BY_FIELD: Final[Mapping[Modality, Mapping[str, Capability]]] = MappingProxyType(
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
_RESOLUTION = re.compile(r"\d{3,4}p|4k", re.IGNORECASE)


def list_capabilities(model: Model) -> tuple[Capability, ...]:
    """Capabilities of a model, in alphabetical order."""
    return tuple(
        sorted(
            {*_field_capabilities(model), *_text_capabilities(model), *_audio_capabilities(model)}
        )
    )


def _field_capabilities(model: Model) -> Iterator[Capability]:
    for field, capability in _CAPABILITY_BY_FIELD[model.modality].items():
        if field in model.map:
            yield capability
    if model.modality is Modality.VIDEO and "prompt" in model.map:
        image_inputs = (model.map[name].targets for name in ("first_frame",) if name in model.map)
        if not any(model.inputs[name].required for names in image_inputs for name in names):
            yield Capability.TEXT_TO_VIDEO


def _text_capabilities(model: Model) -> Iterator[Capability]:
    if model.streams:
        yield Capability.STREAMING
    if model.chat:
        # By instructions and validation, with every chat model: see translation.py.
        yield Capability.JSON
    if model.chat and model.chat.images:
        yield Capability.VISION
    if model.chat and model.chat.style is ChatStyle.TURNS:
        yield Capability.MESSAGES


def _audio_capabilities(model: Model) -> Iterator[Capability]:
    """Kinds of audio, and audio of a video: a switch for it, or always on."""
    rule = model.map.get("generate_audio")
    if rule is not None and (not isinstance(rule, FixedValue) or rule.value is True):
        yield Capability.NATIVE_AUDIO
    yield from (Capability(kind.replace("_", "-")) for kind in model.makes)


@dataclass(frozen=True, slots=True)
class ParameterInfo:
    """A supported parameter, with its bounds in the contract's unit.

    `input_name` is empty where nothing is sent because the model always does `allowed_values`.
    """

    parameter: str
    input_name: str
    minimum: float | None = None
    maximum: float | None = None
    allowed_values: tuple[str, ...] = ()
    default_value: str = ""
    required: bool = False


def list_parameters(model: Model) -> tuple[ParameterInfo, ...]:
    """Parameters that are honoured. Emulated or always adjusted ones are not listed."""
    return (*_chat_parameters(model), *_safety_parameters(model), *_rule_parameters(model))


def _chat_parameters(model: Model) -> Iterator[ParameterInfo]:
    chat = model.chat
    if chat is None:
        return
    yield ParameterInfo("prompt", chat.prompt)
    if chat.style is ChatStyle.TURNS:
        yield ParameterInfo("messages", chat.messages)
    if chat.system:
        yield ParameterInfo("system_prompt", chat.system)


def _safety_parameters(model: Model) -> Iterator[ParameterInfo]:
    guard = model.guard
    if guard is None:
        return
    yield ParameterInfo("content", guard.prompt)
    if guard.reply:
        words = ("user", "assistant")
        yield ParameterInfo("role", guard.reply, allowed_values=words, default_value="user")
        yield ParameterInfo("context", guard.prompt)


def _rule_parameters(model: Model) -> Iterator[ParameterInfo]:
    for name, rule in model.map.items():
        if isinstance(rule, FixedValue):
            yield ParameterInfo(name, "", allowed_values=(format_value(rule.value),))
        elif _is_honoured(name, rule):
            target = rule.targets[0]
            yield _parameter_info(name, rule, target, model.inputs[target], model)


def _is_honoured(name: str, rule: ParameterRule) -> bool:
    """Whether it is honoured: a size sent as a ratio is adjusted, a ratio as pixels emulated."""
    if isinstance(rule, Dimensions | PixelSize):
        return name == "size"
    return name != "size" or not isinstance(rule, VideoSize | AspectRatio)


def _parameter_info(
    name: str, rule: ParameterRule, target: str, spec: InputSpec, model: Model
) -> ParameterInfo:
    default = model.defaults.get(target, spec.default)
    if isinstance(rule, ScaledValue):
        return ParameterInfo(name, target, minimum=0, maximum=1)
    if isinstance(rule, FrameCount):
        return ParameterInfo(name, target, required=spec.required)
    if isinstance(rule, Dimensions):
        # The bounds of the width; the height has its own.
        return ParameterInfo(name, target, minimum=spec.min, maximum=spec.max)
    words = [
        pair for pair in _allowed_words(rule, spec) if _is_contract_value(name, pair[0], model)
    ]
    if isinstance(rule, EnumValue | AspectRatio | PixelSize) and words:
        default_word = next(
            (word for word, model_word in words if model_word == format_value(default)), ""
        )
        return ParameterInfo(
            name, target, allowed_values=_contract_words(words), default_value=default_word
        )
    unit = rule.per_second if isinstance(rule, Duration) else 1
    if isinstance(default, int | float) and not isinstance(default, bool):
        default = default / unit
    return ParameterInfo(
        name,
        target,
        minimum=None if spec.min is None else spec.min / unit,
        maximum=None if spec.max is None else spec.max / unit,
        allowed_values=_contract_words(words),
        default_value="" if default is None else format_value(default),
        required=spec.required,
    )


def _allowed_words(rule: ParameterRule, spec: InputSpec) -> Iterator[tuple[str, str]]:
    """Pairs of the contract's word and the model's own, for all allowed values."""
    model_words = [format_value(value) for value in spec.enum]
    if isinstance(rule, EnumValue):
        named_words = {word: format_value(value) for word, value in rule.words.items()}
        yield from named_words.items()
        yield from (
            (_without_unit(word), word) for word in model_words if word not in named_words.values()
        )
    elif isinstance(rule, AspectRatio):
        ratios = ((rule.ratios.get(word, word), word) for word in model_words)
        yield from (pair for pair in ratios if parse_ratio(pair[0]) is not None)
    elif isinstance(rule, PixelSize):
        yield from ((word.replace(rule.separator, "x"), word) for word in model_words)
    else:
        yield from ((_without_unit(word), word) for word in model_words)


def _without_unit(word: str) -> str:
    """The number of a word that is a number and its unit: "2 MP" is 2."""
    bare = word.casefold().removesuffix("mp").strip()
    return bare if bare != word.casefold() and ordinal(bare) is not None else word


def _is_contract_value(name: str, word: str, model: Model) -> bool:
    """Whether a field of the contract can hold the value: models have words of their own."""
    kind = FIELDS[model.modality][name]
    if name == "kind":
        return word in model.makes
    if kind is FieldKind.RATIO:
        return parse_ratio(word) is not None
    if kind is FieldKind.RESOLUTION:
        return _RESOLUTION.fullmatch(word) is not None
    if kind in (FieldKind.NUMBER, FieldKind.INTEGER):
        return word.replace(".", "", 1).isdecimal()
    return kind is not FieldKind.SIZE or parse_ratio(word.replace("x", ":")) is not None


def _contract_words(words: list[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(word for word, _ in words)
