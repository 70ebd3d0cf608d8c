"""From protobuf to our own words: parameters, media, options, and the fingerprint of a request."""

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message as ProtoMessage
from google.protobuf.struct_pb2 import Struct

from mediagate.v1 import (
    image_pb2,
    medium_pb2,
    modality_pb2,
    models_pb2,
    options_pb2,
    text_pb2,
)
from mediagate_server.catalog.media import LARGEST_DATA_URI, STAND_IN, data_uri
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
    Tools,
    UploadSource,
    Value,
)
from mediagate_server.generations.hashing import keyed
from mediagate_server.media_type import sniff
from mediagate_server.request_url import ascii_url

_NOT_PARAMETERS: Final = frozenset(
    {"request_id", "validate_only", "wait", "options", "after_sequence"}
)
_EXACT_INTEGERS: Final = 2**53 - 1
"""Up to here a double holds every integer. What is beyond has been refused before, by its name."""
_NOT_IN_FINGERPRINT: Final = ("request_id", "after_sequence", "wait", "validate_only")
_OPTIONS_NOT_IN_FINGERPRINT: Final = ("timeout", "on_disconnect", "disconnect_grace")
_OPTIONS_NOT_IN_LIKENESS: Final = (
    "reuse_within",
    "labels",
    "webhook_url",
    "max_cost_usd_nanos",
    "when_unconfirmed",
)


def model_request(request: Any, modality: Modality, timeout: float) -> ModelRequest:
    """The request as the catalog takes it, with only what the caller set; `timeout` in seconds."""
    options = request.options
    return ModelRequest(
        modality=modality,
        model=options.model,
        parameters=parameters(request),
        strict=options.parameter_mode == options_pb2.PARAMETER_MODE_STRICT,
        allow_substitutes=not options.HasField("allow_substitutes") or options.allow_substitutes,
        max_cost_nanos=options.max_cost_usd_nanos
        if options.HasField("max_cost_usd_nanos")
        else None,
        quality=_word(modality_pb2.Quality.DESCRIPTOR, options.quality) if options.quality else "",
        fallback=_fallback(options.fallback) if options.HasField("fallback") else None,
        timeout=timeout,
        model_parameters=plain_json(options.model_parameters)
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


def parameters(request: ProtoMessage) -> dict[str, Value]:
    """Every parameter that is set, by its field's name."""
    found: dict[str, Value] = {}
    for field, value in request.ListFields():
        if field.name in _NOT_PARAMETERS:
            continue
        if field.enum_type is not None:
            found[field.name] = _word(field.enum_type, value)
        elif field.message_type is None:
            found[field.name] = tuple(value) if field.is_repeated else value
        else:
            found[field.name] = _from_message(value, repeated=field.is_repeated)
    return found


def run_request(request: models_pb2.RunModelRequest, timeout: float) -> RunRequest:
    """A run of any model as the catalog takes it; `timeout` in seconds."""
    options = request.options
    return RunRequest(
        model=request.model,
        input=plain_json(request.input),
        media={
            name: tuple(media_input(medium) for medium in media.media)
            for name, media in request.media.items()
        },
        timeout=timeout,
        max_cost_nanos=options.max_cost_usd_nanos
        if options.HasField("max_cost_usd_nanos")
        else None,
    )


def plain_json(struct: Struct) -> dict[str, Any]:
    """A Struct as JSON. It knows no integers, so a number without a fraction becomes one."""
    made: dict[str, Any] = _whole(MessageToDict(struct))
    return made


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT_INTEGERS:
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    return value


def seconds_of(duration: Duration) -> float:
    """A Duration in seconds."""
    return duration.seconds + duration.nanos / 1e9


def fingerprint_and_likeness(key: bytes, method: str, request: ProtoMessage) -> tuple[str, str]:
    """A keyed hash of the request without what may differ between repeats; and the same without
    what makes no difference to what is made.

    Most requests have none of that: both are the same. Hashed are the message's own bytes, with
    its maps in order: this process reads and writes them anew, so they do not depend on the
    caller's way to write them.
    """
    rest: Any = type(request)()
    rest.CopyFrom(request)
    for name in _NOT_IN_FINGERPRINT:
        if name in rest.DESCRIPTOR.fields_by_name:
            rest.ClearField(name)
    found = _hash(key, method, _without(rest, _OPTIONS_NOT_IN_FINGERPRINT))
    before = rest.options.ByteSize()
    if _without(rest, _OPTIONS_NOT_IN_LIKENESS).options.ByteSize() == before:
        return found, found
    return found, _hash(key, method, rest)


def _without(request: Any, names: tuple[str, ...]) -> Any:
    """The request without these options, and without options where none is left."""
    options = request.options
    for name in names:
        options.ClearField(name)
    if not options.ByteSize():
        request.ClearField("options")
    return request


def _hash(key: bytes, method: str, request: ProtoMessage) -> str:
    return keyed(key, b"%s %s" % (method.encode(), request.SerializeToString(deterministic=True)))


def _word(enum: Any, number: int) -> str:
    """An enum's value in lower case, without the enum's own name before it."""
    names: Mapping[int, Any] = enum.values_by_number
    prefix = "".join(f"_{c}" if c.isupper() else c.upper() for c in enum.name).lstrip("_")
    return str(names[number].name).removeprefix(f"{prefix}_").lower()


def _from_message(value: Any, *, repeated: bool) -> Value:
    if not repeated:
        return _from_one(value)
    kinds = {type(item) for item in value}
    if kinds == {text_pb2.ChatMessage}:
        return tuple(_message(item) for item in value)
    if kinds == {text_pb2.Tool}:
        return Tools(tuple(item.name for item in value))
    if kinds == {image_pb2.Lora}:
        return tuple(
            Lora(ascii_url(item.uri), item.scale if item.HasField("scale") else 1.0)
            for item in value
        )
    return tuple(media_input(item) for item in value)


def _from_one(value: Any) -> Value:
    if isinstance(value, Duration):
        return seconds_of(value)
    if isinstance(value, medium_pb2.Size):
        return Size(value.width, value.height)
    if isinstance(value, medium_pb2.MediaInput):
        return media_input(value)
    if isinstance(value, text_pb2.ResponseFormat):
        kind = _word(text_pb2.ResponseFormat.Kind.DESCRIPTOR, value.kind)
        return ResponseFormat(
            "text" if kind == "unspecified" else kind, plain_json(value.json_schema)
        )
    if isinstance(value, text_pb2.ToolChoice):
        return Tools((_word(text_pb2.ToolChoice.Mode.DESCRIPTOR, value.mode), value.name))
    raise TypeError(f"no parameter is a {type(value).__name__}")


def _message(message: text_pb2.ChatMessage) -> Message:
    role = text_pb2.ChatMessage.Role.Name(message.role).removeprefix("ROLE_").lower()
    return Message(
        role,
        tuple(
            media_input(part.image) if part.WhichOneof("part") == "image" else part.text
            for part in message.parts
        ),
        len(message.tool_calls),
    )


def media_input(media: medium_pb2.MediaInput) -> MediaInput:
    """A link as it is; a few bytes as a data URI, which every model takes in place of a link.

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
            if len(source.data) <= LARGEST_DATA_URI:
                return MediaInput(data_uri(source.data, source.media_type))
    return MediaInput(STAND_IN, source)
