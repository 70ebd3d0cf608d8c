"""The turns of a conversation, written shortly."""

from collections.abc import Iterable

from mediagate.v1.generation_pb2 import ToolCall
from mediagate.v1.text_pb2 import ChatMessage, ChatPart
from mediagate_client.media_inputs import MediaSource, media_input


def system(text: str) -> ChatMessage:
    """Return instructions for the model."""
    return ChatMessage(role=ChatMessage.ROLE_SYSTEM, parts=[ChatPart(text=text)])


def user(text: str, *, images: Iterable[MediaSource] = ()) -> ChatMessage:
    """Return what the person says, with pictures to look at before it."""
    parts = [ChatPart(image=media_input(image, "messages.parts.image")) for image in images]
    return ChatMessage(role=ChatMessage.ROLE_USER, parts=[*parts, ChatPart(text=text)])


def assistant(text: str, *, tool_calls: Iterable[ToolCall] = ()) -> ChatMessage:
    """Return what the model said in an earlier turn."""
    parts = [ChatPart(text=text)] if text else []
    return ChatMessage(role=ChatMessage.ROLE_ASSISTANT, parts=parts, tool_calls=tool_calls)


def tool_result(tool_call_id: str, text: str) -> ChatMessage:
    """Return the answer of a tool that the model asked for."""
    return ChatMessage(
        role=ChatMessage.ROLE_TOOL, parts=[ChatPart(text=text)], tool_call_id=tool_call_id
    )
