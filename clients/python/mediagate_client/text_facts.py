"""What a streamed text tells beside its pieces, the same in both faces."""

from mediagate.v1.cost_pb2 import Cost, Usage
from mediagate.v1.text_pb2 import TextCompleted, TextStarted, TextStatus
from mediagate_client.resume import StreamState


class TextFacts:
    """Read-only views of where a streamed text stands."""

    def __init__(self, state: StreamState) -> None:
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

    @property
    def completed(self) -> TextCompleted | None:
        """How it ended: model, finish reason, usage, cost. None until it ended well."""
        return self._state.completed

    @property
    def usage(self) -> Usage | None:
        """What it used. None until it ended well."""
        return self._state.completed.usage if self._state.completed else None

    @property
    def cost(self) -> Cost | None:
        """What it cost. None until it ended well."""
        return self._state.completed.cost if self._state.completed else None
