"""What a stream tells beside its pieces, the same in both faces."""

from typing import Generic

from mediagate.v1.cost_pb2 import Cost, Usage
from mediagate.v1.generation_pb2 import Generation
from mediagate.v1.models_pb2 import ModelCompleted, StreamModelRequest
from mediagate.v1.text_pb2 import StreamTextRequest, TextCompleted, TextStarted, TextStatus
from mediagate_client.stream_state import Request, StreamState


class StreamInfo(Generic[Request]):
    """Read-only views of where a stream stands."""

    def __init__(self, state: StreamState[Request]) -> None:
        """Show `state`."""
        self._state = state

    @property
    def request_id(self) -> str:
        """What names the call: send it with `after_sequence` to go on in another process."""
        return self._state.request_id

    @property
    def generation_id(self) -> str:
        """The generation that the text belongs to. Empty: not accepted yet, as far as we know."""
        return self._state.generation_id

    @property
    def sequence(self) -> int:
        """How far the text has been told, for `after_sequence`."""
        return self._state.sequence

    @property
    def started(self) -> TextStarted | None:
        """What the gate said at acceptance: generation id, model, parameters."""
        return self._state.started

    @property
    def status(self) -> TextStatus | None:
        """What it said last while the text had not begun."""
        return self._state.status


class TextStreamInfo(StreamInfo[StreamTextRequest]):
    """What a streamed text tells at its end."""

    @property
    def completed(self) -> TextCompleted | None:
        """How it ended: model, finish reason, usage, cost. None until it ended well."""
        completed = self._state.completed
        return completed if isinstance(completed, TextCompleted) else None

    @property
    def usage(self) -> Usage | None:
        """What it used. None until it ended well."""
        return self.completed.usage if self.completed else None

    @property
    def cost(self) -> Cost | None:
        """What it cost. None until it ended well."""
        return self.completed.cost if self.completed else None


class ModelStreamInfo(StreamInfo[StreamModelRequest]):
    """What a streamed run of any model tells at its end."""

    @property
    def generation(self) -> Generation | None:
        """The generation with its whole output and its cost. None until it ended well."""
        completed = self._state.completed
        return completed.generation if isinstance(completed, ModelCompleted) else None

    @property
    def usage(self) -> Usage | None:
        """What it used. None until it ended well."""
        return self.generation.usage if self.generation else None

    @property
    def cost(self) -> Cost | None:
        """What it cost. None until it ended well."""
        return self.generation.cost if self.generation else None
