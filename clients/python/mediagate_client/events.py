"""What a streamed text yields."""

from typing import Self

from mediagate.v1.text_pb2 import TextDelta, ToolCallDelta


class TextEvent(str):
    """A piece of a streamed text. As a string it is the piece of the answer.

    So `"".join(stream)` is the answer, and `print(event, end="")` shows it as it comes. Pieces of
    reasoning and of tool calls are empty strings that carry them beside.
    """

    __slots__ = ("reasoning", "sequence", "tool_call")

    reasoning: str
    """What the model thinks before it answers."""
    sequence: int
    """Where the stream stands after this piece, for `after_sequence`."""
    tool_call: ToolCallDelta | None
    """A piece of a tool call."""

    def __new__(cls, delta: TextDelta, sequence: int) -> Self:
        """Make the event of a delta."""
        self = super().__new__(cls, delta.text)
        self.reasoning = delta.reasoning
        self.tool_call = delta.tool_call if delta.HasField("tool_call") else None
        self.sequence = sequence
        return self

    @property
    def text(self) -> str:
        """The piece of the answer. Empty where this is something else."""
        return str(self)
