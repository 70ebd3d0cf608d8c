"""Builders of valid requests: whatever a test does not name has a default.

Fields of `GenerationOptions` are named like those of the request:
`text_request(prompt="x", model="llama-70b")`.
"""

from typing import Any, TypeVar

from google.protobuf.message import Message

from mediagate.v1 import audio_pb2, image_pb2, medium_pb2, models_pb2, text_pb2, video_pb2
from mediagate.v1.options_pb2 import GenerationOptions
from mediagate.v1.text_pb2 import ChatMessage, ChatPart

M = TypeVar("M", bound=Message)


def text_request(**fields: Any) -> text_pb2.GenerateTextRequest:
    """GenerateTextRequest, of a prompt unless `messages` are named."""
    if "messages" not in fields:
        fields.setdefault("prompt", "hello")
    return _request(text_pb2.GenerateTextRequest, fields)


def stream_text_request(**fields: Any) -> text_pb2.StreamTextRequest:
    """StreamTextRequest."""
    return _request(text_pb2.StreamTextRequest, {"prompt": "hello", **fields})


def image_request(**fields: Any) -> image_pb2.GenerateImageRequest:
    """GenerateImageRequest."""
    return _request(image_pb2.GenerateImageRequest, {"prompt": "a cat", **fields})


def video_request(**fields: Any) -> video_pb2.GenerateVideoRequest:
    """GenerateVideoRequest."""
    return _request(video_pb2.GenerateVideoRequest, {"prompt": "a cat", **fields})


def audio_request(**fields: Any) -> audio_pb2.GenerateAudioRequest:
    """GenerateAudioRequest."""
    return _request(audio_pb2.GenerateAudioRequest, {"prompt": "a cat", **fields})


def run_model_request(slug: str, **fields: Any) -> models_pb2.RunModelRequest:
    """RunModelRequest of a model by its slug; `input` may be a dict."""
    return _request(models_pb2.RunModelRequest, {"model": slug, **fields})


def stream_model_request(slug: str, **fields: Any) -> models_pb2.StreamModelRequest:
    """StreamModelRequest of a model by its slug; `input` may be a dict."""
    return _request(models_pb2.StreamModelRequest, {"model": slug, **fields})


def _request(kind: type[M], fields: dict[str, Any]) -> M:
    of_request = kind.DESCRIPTOR.fields_by_name
    options = {name: fields.pop(name) for name in list(fields) if name not in of_request}
    if options:
        fields["options"] = GenerationOptions(**options)
    return kind(**fields)


def chat_message(role: Any = ChatMessage.ROLE_USER, **part: Any) -> ChatMessage:
    """A message of a chat that has one part: `text`, or a medium by its kind."""
    return ChatMessage(role=role, parts=[ChatPart(**(part or {"text": "hello"}))])


def media_input(uri: str = "https://example.com/cat.png") -> medium_pb2.MediaInput:
    """MediaInput by its URI."""
    return medium_pb2.MediaInput(uri=uri)


def inline_media_input(data: bytes, media_type: str = "image/png") -> medium_pb2.MediaInput:
    """MediaInput of bytes that the request carries."""
    return medium_pb2.MediaInput(inline=medium_pb2.InlineMedia(data=data, media_type=media_type))
