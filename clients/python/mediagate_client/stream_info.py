"""Stream info: ids, status, model, usage and cost of a stream, for both clients."""

from typing import Generic

from mediagate.v1.cost_pb2 import Cost, Usage
from mediagate.v1.generation_pb2 import Generation
from mediagate.v1.models_pb2 import ModelCompleted, StreamModelRequest
from mediagate.v1.text_pb2 import StreamTextRequest, TextCompleted, TextStarted, TextStatus
from mediagate_client.stream_state import Request, StreamState


class StreamInfo(Generic[Request]):
    """Read-only properties of a stream's state."""

    def __init__(self, state: StreamState[Request]) -> None:
        """Read from `state`."""
        self._state = state

    @property
    def request_id(self) -> str:
        """Id of the call: send it with `after_sequence` to resume in another process."""
        return self._state.request_id

    @property
    def generation_id(self) -> str:
        """Id of the generation. Empty: not known to be accepted."""
        return self._state.generation_id

    @property
    def sequence(self) -> int:
        """Sequence number of the last piece, for `after_sequence`."""
        return self._state.sequence

    @property
    def started(self) -> TextStarted | None:
        """The server's event at acceptance: generation id, model, parameters."""
        return self._state.started

    @property
    def status(self) -> TextStatus | None:
        """Last status before the text began."""
        return self._state.status


class TextStreamInfo(StreamInfo[StreamTextRequest]):
    """Stream info of a text."""

    @property
    def completed(self) -> TextCompleted | None:
        """Final event: model, finish reason, usage, cost. None until it succeeded."""
        completed = self._state.completed
        return completed if isinstance(completed, TextCompleted) else None

    @property
    def usage(self) -> Usage | None:
        """Usage. None until it succeeded."""
        return self.completed.usage if self.completed else None

    @property
    def cost(self) -> Cost | None:
        """Cost. None until it succeeded."""
        return self.completed.cost if self.completed else None


class ModelStreamInfo(StreamInfo[StreamModelRequest]):
    """Stream info of a run of any model."""

    @property
    def generation(self) -> Generation | None:
        """The generation with its output and its cost. None until it succeeded."""
        completed = self._state.completed
        return completed.generation if isinstance(completed, ModelCompleted) else None

    @property
    def usage(self) -> Usage | None:
        """Usage. None until it succeeded."""
        return self.generation.usage if self.generation else None

    @property
    def cost(self) -> Cost | None:
        """Cost. None until it succeeded."""
        return self.generation.cost if self.generation else None
