"""The keywords of each kind of request: the contract's fields, as Python says them.

Types only. How a value becomes a field: conversion.py.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, TypedDict

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from mediagate.v1.audio_pb2 import AudioFormat, AudioKind
from mediagate.v1.generation_pb2 import Generation
from mediagate.v1.image_pb2 import ImageFormat, Lora
from mediagate.v1.medium_pb2 import Size
from mediagate.v1.modality_pb2 import Modality, Quality
from mediagate.v1.models_pb2 import RunModelMedia
from mediagate.v1.options_pb2 import (
    FallbackPolicy,
    GenerationOptions,
    OnDisconnect,
    ParameterMode,
    WhenUnconfirmed,
)
from mediagate.v1.text_pb2 import (
    ChatMessage,
    ReasoningEffort,
    ResponseFormat,
    Tool,
    ToolChoice,
)
from mediagate_client.media_inputs import MediaSource

Span = float | timedelta | Duration
"""A length of time; a number means seconds."""
Moment = datetime | Timestamp
"""A point in time; a datetime without a zone is in local time."""
Json = Mapping[str, object] | Struct
"""A JSON object."""

QualityName = Literal["economy", "standard", "premium"]
ModalityName = Literal["text", "image", "video", "audio", "safety", "raw"]
DimensionName = Literal["tenant", "model", "modality", "label", "day", "price"]


class OptionArguments(TypedDict, total=False):
    """How a paid call is run: the fields of GenerationOptions."""

    model: str
    quality: QualityName | Quality.ValueType
    fallback: Literal["catalog", "none"] | Sequence[str] | FallbackPolicy
    allow_substitutes: bool
    timeout: Span
    max_cost_usd_nanos: int
    parameter_mode: Literal["lenient", "strict"] | ParameterMode.ValueType
    on_disconnect: Literal["cancel", "detach"] | OnDisconnect.ValueType
    disconnect_grace: Span
    when_unconfirmed: Literal["wait", "next"] | WhenUnconfirmed.ValueType
    screen_prompt: bool
    labels: Mapping[str, str]
    webhook_url: str
    reuse_within: Span
    model_parameters: Json
    options: GenerationOptions
    request_id: str


class TextFields(OptionArguments, total=False):
    """What both text requests take beside the prompt."""

    messages: Sequence[ChatMessage]
    system_prompt: str
    max_output_tokens: int
    temperature: float
    top_p: float
    top_k: int
    stop_sequences: Sequence[str]
    seed: int
    reasoning_effort: (
        Literal["none", "minimal", "low", "medium", "high", "xhigh"] | ReasoningEffort.ValueType
    )
    response_format: Literal["text", "json"] | Json | ResponseFormat
    tools: Sequence[Tool | Mapping[str, object]]
    tool_choice: str | ToolChoice


class StreamArguments(TextFields, total=False):
    """The fields of StreamTextRequest beside the prompt."""

    after_sequence: int


class TextArguments(TextFields, total=False):
    """The fields of GenerateTextRequest beside the prompt."""

    wait: Span


class ImageArguments(OptionArguments, total=False):
    """The fields of GenerateImageRequest beside the prompt."""

    wait: Span
    negative_prompt: str
    size: tuple[int, int] | str | Size
    aspect_ratio: str
    megapixels: float
    count: int
    seed: int
    guidance_scale: float
    steps: int
    reference_images: Sequence[MediaSource]
    strength: float
    mask: MediaSource
    loras: Sequence[str | Lora]
    output_format: Literal["png", "jpeg", "webp"] | ImageFormat.ValueType


class VideoArguments(OptionArguments, total=False):
    """The fields of GenerateVideoRequest beside the prompt."""

    wait: Span
    negative_prompt: str
    first_frame: MediaSource
    last_frame: MediaSource
    reference_images: Sequence[MediaSource]
    source_video: MediaSource
    source_audio: MediaSource
    duration: Span
    fps: int
    size: tuple[int, int] | str | Size
    aspect_ratio: str
    resolution: str
    guidance_scale: float
    motion_strength: float
    generate_audio: bool
    seed: int


class AudioArguments(OptionArguments, total=False):
    """The fields of GenerateAudioRequest beside the prompt."""

    wait: Span
    kind: Literal["music", "sound_effect", "speech"] | AudioKind.ValueType
    text: str
    lyrics: str
    voice: str
    language: str
    speed: float
    duration: Span
    temperature: float
    top_k: int
    top_p: float
    guidance_scale: float
    continue_from: MediaSource
    reference_audio: MediaSource
    output_format: Literal["wav", "mp3", "flac", "ogg"] | AudioFormat.ValueType
    seed: int


class SafetyArguments(OptionArguments, total=False):
    """The fields of CheckSafetyRequest beside the content."""

    wait: Span
    messages: Sequence[ChatMessage]
    role: Literal["user", "assistant"] | ChatMessage.Role.ValueType
    context: str


class RunFields(OptionArguments, total=False):
    """What both requests for a run of any model take beside the model."""

    input: Json
    media: Mapping[str, MediaSource | Sequence[MediaSource] | RunModelMedia]


class RunArguments(RunFields, total=False):
    """The fields of RunModelRequest beside the model."""

    wait: Span


class StreamRunArguments(RunFields, total=False):
    """The fields of StreamModelRequest beside the model."""

    after_sequence: int


class FilterArguments(TypedDict, total=False):
    """Which generations: the fields of GenerationFilter."""

    states: Sequence[str | Generation.State.ValueType]
    models: Sequence[str]
    modality: ModalityName | Modality.ValueType
    labels: Mapping[str, str]
    created_after: Moment
    created_before: Moment


class UsageArguments(TypedDict, total=False):
    """Which charges: the fields of UsageFilter."""

    start_time: Moment
    end_time: Moment
    tenant: str
    models: Sequence[str]
    modality: ModalityName | Modality.ValueType
    labels: Mapping[str, str]
