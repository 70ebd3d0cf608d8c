"""Chat messages: a function for each role."""

from collections.abc import Iterable

from mediagate.v1.generation_pb2 import ToolCall
from mediagate.v1.text_pb2 import ChatMessage, ChatPart
from mediagate_client.conversion import build
from mediagate_client.media_inputs import MediaSource, media_input


def system(text: str) -> ChatMessage:
    """Return a system message."""
    return build(ChatMessage, role=ChatMessage.ROLE_SYSTEM, parts=[build(ChatPart, text=text)])


def user(text: str, *, images: Iterable[MediaSource] = ()) -> ChatMessage:
    """Return a user message, its images before its text."""
    parts = [ChatPart(image=media_input(image, "messages.parts.image")) for image in images]
    return build(
        ChatMessage, role=ChatMessage.ROLE_USER, parts=[*parts, build(ChatPart, text=text)]
    )


def assistant(text: str, *, tool_calls: Iterable[ToolCall] = ()) -> ChatMessage:
    """Return a message of the model from an earlier turn."""
    parts = [build(ChatPart, text=text)] if text else []
    return build(ChatMessage, role=ChatMessage.ROLE_ASSISTANT, parts=parts, tool_calls=tool_calls)


def tool_result(tool_call_id: str, text: str) -> ChatMessage:
    """Return the result of a tool call."""
    return ChatMessage(
        role=ChatMessage.ROLE_TOOL, parts=[build(ChatPart, text=text)], tool_call_id=tool_call_id
    )
