"""Requests as they are stored: whole, or without what was said; and back again."""

from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from mediagate.v1 import (
    audio_pb2,
    generations_pb2,
    image_pb2,
    medium_pb2,
    models_pb2,
    safety_pb2,
    text_pb2,
    video_pb2,
)
from mediagate_server.config.tenants import StoreInputs

_REQUESTS: Final[dict[str, tuple[str, type[Message]]]] = {
    "StreamText": ("stream_text", text_pb2.StreamTextRequest),
    "GenerateText": ("generate_text", text_pb2.GenerateTextRequest),
    "GenerateImage": ("generate_image", image_pb2.GenerateImageRequest),
    "GenerateVideo": ("generate_video", video_pb2.GenerateVideoRequest),
    "GenerateAudio": ("generate_audio", audio_pb2.GenerateAudioRequest),
    "CheckSafety": ("check_safety", safety_pb2.CheckSafetyRequest),
    "RunModel": ("run_model", models_pb2.RunModelRequest),
    "StreamModel": ("stream_model", models_pb2.StreamModelRequest),
}
_OF_ONE_CALL: Final = ("request_id", "wait", "after_sequence", "validate_only")
_EXTENTS: Final = {
    "redacted": generations_pb2.RequestRecord.EXTENT_REDACTED,
    "full": generations_pb2.RequestRecord.EXTENT_FULL,
}
_SHOWN: Final = frozenset(
    {"model", "models", "labels", "aspect_ratio", "resolution", "output_format", "language"}
)
"""Texts that say how, not what. Whatever is not named here is left out."""


def write(request: Message, extent: StoreInputs) -> bytes | None:
    """What is to be stored of a request; None: nothing."""
    if extent == "none":
        return None
    kept = type(request)()
    kept.CopyFrom(request)
    for name in _OF_ONE_CALL:
        if name in kept.DESCRIPTOR.fields_by_name:
            kept.ClearField(name)
    if extent == "redacted":
        _redact(kept)
    return bytes([_EXTENTS[extent]]) + kept.SerializeToString()


def read(method: str, stored: bytes) -> generations_pb2.RequestRecord:
    """What was stored of a request to this rpc."""
    field, kind = _REQUESTS[method]
    shown = generations_pb2.RequestRecord(
        extent=generations_pb2.RequestRecord.Extent.ValueType(stored[0])
    )
    request = kind()
    request.ParseFromString(stored[1:])
    getattr(shown, field).CopyFrom(request)
    return shown


def _redact(message: Message) -> None:
    """Every text becomes a note of its length, but those that say how; media go."""
    for field, value in message.ListFields():
        if field.name in _SHOWN:
            continue
        if field.type == FieldDescriptor.TYPE_STRING:
            notes = [_note(text) for text in value] if field.is_repeated else _note(value)
            _put(message, field, notes)
        elif field.type == FieldDescriptor.TYPE_BYTES or _is_media(field):
            message.ClearField(field.name)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            for one in _messages(field, value):
                _redact(one)


def _is_media(field: FieldDescriptor) -> bool:
    kind = field.message_type
    return kind is not None and kind.full_name == medium_pb2.MediaInput.DESCRIPTOR.full_name


def _messages(field: FieldDescriptor, value: Any) -> list[Message]:
    if not field.is_repeated:
        return [value]
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        # Keys name inputs of a model; texts among the values do not occur but in messages.
        return list(value.values())
    return list(value)


def _put(message: Message, field: FieldDescriptor, value: Any) -> None:
    if field.is_repeated:
        message.ClearField(field.name)
        getattr(message, field.name).extend(value)
    else:
        setattr(message, field.name, value)


def _note(text: str) -> str:
    return f"[{len(text)} characters]"
