"""Request decoder: protobuf -> parameters, media, options and fingerprint.

Also requests as they are stored: full or redacted.
"""

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message as ProtoMessage
from google.protobuf.struct_pb2 import Struct

from mediagate.v1 import (
    audio_pb2,
    generations_pb2,
    image_pb2,
    medium_pb2,
    modality_pb2,
    models_pb2,
    options_pb2,
    safety_pb2,
    text_pb2,
    video_pb2,
)
from mediagate_server.catalog.planning.request_media import (
    MAX_DATA_URI_BYTES,
    PLACEHOLDER,
    to_data_uri,
)
from mediagate_server.catalog.request import (
    Fallback,
    FallbackMode,
    InlineSource,
    Lora,
    MediaInput,
    MediaSource,
    Message,
    Modality,
    ModelRequest,
    OutputSource,
    ResponseFormat,
    RunRequest,
    Size,
    ToolNames,
    UploadSource,
    Value,
)
from mediagate_server.config.tenants import StoreInputs
from mediagate_server.generations.submission_request import keyed_hash
from mediagate_server.media_type import sniff
from mediagate_server.network.request_url import ascii_url

_NOT_PARAMETERS: Final = frozenset(
    {"request_id", "validate_only", "wait", "options", "after_sequence"}
)
_EXACT_INTEGERS: Final = 2**53 - 1
"""Up to here a double holds every integer. What is beyond has been refused before, by its name."""
_NOT_IN_FINGERPRINT: Final = ("request_id", "after_sequence", "wait", "validate_only")
_OPTIONS_NOT_IN_FINGERPRINT: Final = ("timeout", "on_disconnect", "disconnect_grace")
_OPTIONS_NOT_IN_REUSE_KEY: Final = (
    "reuse_within",
    "labels",
    "webhook_url",
    "max_cost_usd_nanos",
    "when_unconfirmed",
)


def decode_model_request(request: Any, modality: Modality, timeout: float) -> ModelRequest:
    """Decode a request for the catalog, with only what the caller set; `timeout` in seconds."""
    options = request.options
    return ModelRequest(
        modality=modality,
        model=options.model,
        parameters=decode_parameters(request),
        strict=options.parameter_mode == options_pb2.PARAMETER_MODE_STRICT,
        allow_substitutes=not options.HasField("allow_substitutes") or options.allow_substitutes,
        max_cost_nanos=options.max_cost_usd_nanos
        if options.HasField("max_cost_usd_nanos")
        else None,
        quality=_enum_word(modality_pb2.Quality.DESCRIPTOR, options.quality)
        if options.quality
        else "",
        fallback=_fallback(options.fallback) if options.HasField("fallback") else None,
        timeout=timeout,
        model_parameters=struct_to_json(options.model_parameters)
        if options.HasField("model_parameters")
        else {},
    )


def _fallback(policy: options_pb2.FallbackPolicy) -> Fallback | None:
    """None where the policy leaves it to the operator."""
    if policy.mode == options_pb2.FallbackPolicy.MODE_UNSPECIFIED:
        return None
    mode = options_pb2.FallbackPolicy.Mode.Name(policy.mode).removeprefix("MODE_").lower()
    return Fallback(
        FallbackMode(mode),
        tuple(policy.models),
        after_content_refusal=policy.after_content_refusal,
    )


def decode_parameters(request: ProtoMessage) -> dict[str, Value]:
    """Decode every parameter that is set, by its field's name."""
    parameters: dict[str, Value] = {}
    for field, value in request.ListFields():
        if field.name in _NOT_PARAMETERS:
            continue
        if field.enum_type is not None:
            parameters[field.name] = _enum_word(field.enum_type, value)
        elif field.message_type is None:
            parameters[field.name] = tuple(value) if field.is_repeated else value
        else:
            parameters[field.name] = _from_message(value, repeated=field.is_repeated)
    return parameters


def decode_run_request(request: models_pb2.RunModelRequest, timeout: float) -> RunRequest:
    """Decode a run of any model for the catalog; `timeout` in seconds."""
    options = request.options
    return RunRequest(
        model=request.model,
        input=struct_to_json(request.input),
        media={
            name: tuple(decode_media_input(medium) for medium in media.media)
            for name, media in request.media.items()
        },
        timeout=timeout,
        max_cost_nanos=options.max_cost_usd_nanos
        if options.HasField("max_cost_usd_nanos")
        else None,
    )


def struct_to_json(struct: Struct) -> dict[str, Any]:
    """Convert a Struct to JSON. A number without a fraction becomes an integer: it knows none."""
    document: dict[str, Any] = _with_integers(MessageToDict(struct))
    return document


def _with_integers(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT_INTEGERS:
        return int(value)
    if isinstance(value, list):
        return [_with_integers(item) for item in value]
    if isinstance(value, dict):
        return {key: _with_integers(item) for key, item in value.items()}
    return value


def duration_to_seconds(duration: Duration) -> float:
    """A Duration in seconds."""
    return duration.seconds + duration.nanos / 1e9


def fingerprint_and_reuse_key(key: bytes, method: str, request: ProtoMessage) -> tuple[str, str]:
    """Fingerprint and reuse key: keyed hashes of the request.

    The fingerprint leaves out what may differ between repeats, the reuse key also what makes no
    difference to the output.

    Most requests have none of that: both are the same. Hashed are the message's own bytes, with
    its maps in order: this process reads and writes them anew, so they do not depend on the
    caller's way to write them.
    """
    rest: Any = type(request)()
    rest.CopyFrom(request)
    for name in _NOT_IN_FINGERPRINT:
        if name in rest.DESCRIPTOR.fields_by_name:
            rest.ClearField(name)
    fingerprint = _hash(key, method, _without(rest, _OPTIONS_NOT_IN_FINGERPRINT))
    before = rest.options.ByteSize()
    if _without(rest, _OPTIONS_NOT_IN_REUSE_KEY).options.ByteSize() == before:
        return fingerprint, fingerprint
    return fingerprint, _hash(key, method, rest)


def _without(request: Any, names: tuple[str, ...]) -> Any:
    """The request without these options, and without options where none is left."""
    options = request.options
    for name in names:
        options.ClearField(name)
    if not options.ByteSize():
        request.ClearField("options")
    return request


def _hash(key: bytes, method: str, request: ProtoMessage) -> str:
    return keyed_hash(
        key, b"%s %s" % (method.encode(), request.SerializeToString(deterministic=True))
    )


def _enum_word(enum: Any, number: int) -> str:
    """An enum's value in lower case, without the enum's own name before it."""
    names: Mapping[int, Any] = enum.values_by_number
    prefix = "".join(f"_{c}" if c.isupper() else c.upper() for c in enum.name).lstrip("_")
    return str(names[number].name).removeprefix(f"{prefix}_").lower()


def _from_message(value: Any, *, repeated: bool) -> Value:
    if not repeated:
        return _from_value(value)
    kinds = {type(item) for item in value}
    if kinds == {text_pb2.ChatMessage}:
        return tuple(_message(item) for item in value)
    if kinds == {text_pb2.Tool}:
        return ToolNames(tuple(item.name for item in value))
    if kinds == {image_pb2.Lora}:
        return tuple(
            Lora(ascii_url(item.uri), item.scale if item.HasField("scale") else 1.0)
            for item in value
        )
    return tuple(decode_media_input(item) for item in value)


def _from_value(value: Any) -> Value:
    if isinstance(value, Duration):
        return duration_to_seconds(value)
    if isinstance(value, medium_pb2.Size):
        return Size(value.width, value.height)
    if isinstance(value, medium_pb2.MediaInput):
        return decode_media_input(value)
    if isinstance(value, text_pb2.ResponseFormat):
        kind = _enum_word(text_pb2.ResponseFormat.Kind.DESCRIPTOR, value.kind)
        return ResponseFormat(
            "text" if kind == "unspecified" else kind, struct_to_json(value.json_schema)
        )
    if isinstance(value, text_pb2.ToolChoice):
        return ToolNames((_enum_word(text_pb2.ToolChoice.Mode.DESCRIPTOR, value.mode), value.name))
    raise TypeError(f"no parameter is a {type(value).__name__}")


def _message(message: text_pb2.ChatMessage) -> Message:
    role = text_pb2.ChatMessage.Role.Name(message.role).removeprefix("ROLE_").lower()
    return Message(
        role,
        tuple(
            decode_media_input(part.image) if part.WhichOneof("part") == "image" else part.text
            for part in message.parts
        ),
        len(message.tool_calls),
    )


def decode_media_input(media: medium_pb2.MediaInput) -> MediaInput:
    """Decode a medium: a link as it is, a few bytes as a data URI, which every model accepts.

    For everything else its source, from which `generations.media_inputs` makes a link.
    """
    source: MediaSource
    match media.WhichOneof("source"):
        case "uri":
            return MediaInput(ascii_url(media.uri))
        case "upload_id":
            source = UploadSource(media.upload_id)
        case "output":
            source = OutputSource(media.output.generation_id, media.output.index)
        case _:
            source = InlineSource(
                media.inline.data, media.inline.media_type or sniff(media.inline.data)
            )
            if len(source.data) <= MAX_DATA_URI_BYTES:
                return MediaInput(to_data_uri(source.data, source.media_type))
    return MediaInput(PLACEHOLDER, source)


_REQUESTS: Final[dict[str, tuple[str, type[ProtoMessage]]]] = {
    "StreamText": ("stream_text", text_pb2.StreamTextRequest),
    "GenerateText": ("generate_text", text_pb2.GenerateTextRequest),
    "GenerateImage": ("generate_image", image_pb2.GenerateImageRequest),
    "GenerateVideo": ("generate_video", video_pb2.GenerateVideoRequest),
    "GenerateAudio": ("generate_audio", audio_pb2.GenerateAudioRequest),
    "CheckSafety": ("check_safety", safety_pb2.CheckSafetyRequest),
    "RunModel": ("run_model", models_pb2.RunModelRequest),
    "StreamModel": ("stream_model", models_pb2.StreamModelRequest),
}
_NOT_STORED: Final = ("request_id", "wait", "after_sequence", "validate_only")
_EXTENTS: Final = {
    "redacted": generations_pb2.RequestRecord.EXTENT_REDACTED,
    "full": generations_pb2.RequestRecord.EXTENT_FULL,
}
_NOT_REDACTED: Final = frozenset(
    {"model", "models", "labels", "aspect_ratio", "resolution", "output_format", "language"}
)
"""Fields whose texts are settings, not content. Those of all others are replaced."""


def encode_stored_request(request: ProtoMessage, extent: StoreInputs) -> bytes | None:
    """Encode what is to be stored of a request; None: nothing."""
    if extent == "none":
        return None
    stored = type(request)()
    stored.CopyFrom(request)
    for name in _NOT_STORED:
        if name in stored.DESCRIPTOR.fields_by_name:
            stored.ClearField(name)
    if extent == "redacted":
        _redact(stored)
    return bytes([_EXTENTS[extent]]) + stored.SerializeToString()


def decode_stored_request(method: str, stored: bytes) -> generations_pb2.RequestRecord:
    """Decode what was stored of a request to this rpc."""
    field, kind = _REQUESTS[method]
    record = generations_pb2.RequestRecord(
        extent=generations_pb2.RequestRecord.Extent.ValueType(stored[0])
    )
    request = kind()
    request.ParseFromString(stored[1:])
    getattr(record, field).CopyFrom(request)
    return record


def _redact(message: ProtoMessage) -> None:
    """Replace texts by their lengths, but for those of `_NOT_REDACTED`, and remove media."""
    for field, value in message.ListFields():
        if field.name in _NOT_REDACTED:
            continue
        if field.type == FieldDescriptor.TYPE_STRING:
            notes = [_note(text) for text in value] if field.is_repeated else _note(value)
            _set_field(message, field, notes)
        elif field.type == FieldDescriptor.TYPE_BYTES or _is_media(field):
            message.ClearField(field.name)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in _messages(field, value):
                _redact(inner)


def _is_media(field: FieldDescriptor) -> bool:
    kind = field.message_type
    return kind is not None and kind.full_name == medium_pb2.MediaInput.DESCRIPTOR.full_name


def _messages(field: FieldDescriptor, value: Any) -> list[ProtoMessage]:
    if not field.is_repeated:
        return [value]
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        # Keys name inputs of a model; texts among the values do not occur but in messages.
        return list(value.values())
    return list(value)


def _set_field(message: ProtoMessage, field: FieldDescriptor, value: Any) -> None:
    if field.is_repeated:
        message.ClearField(field.name)
        getattr(message, field.name).extend(value)
    else:
        setattr(message, field.name, value)


def _note(text: str) -> str:
    return f"[{len(text)} characters]"
