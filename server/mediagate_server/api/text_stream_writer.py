"""Stream response writer: started, status and delta messages of a streamed text."""

from collections.abc import Callable, Coroutine
from typing import Any

from mediagate.v1 import text_pb2
from mediagate_server.api.billable_call_handler import RpcContext
from mediagate_server.api.convert import responses
from mediagate_server.generations.execution.attachment import Attachment
from mediagate_server.generations.streaming.text_buffer import TextChunk
from mediagate_server.store.records import Generation


def started_event(attached: Attachment) -> text_pb2.TextStarted:
    """The event that a request was accepted."""
    record = attached.record
    return text_pb2.TextStarted(
        generation_id=record.id,
        request_id=record.request_id,
        replayed=attached.replayed,
        model=record.model,
        substitution=responses.encode_substitution(record.requested_model, record.substitution),
        parameters=responses.encode_parameter_reports(record.parameters),
        seed=record.seed,
        sandbox=record.sandbox,
        choice=responses.encode_choice(record.choice),
    )


class StreamResponseWriter:
    """Writes a growing text to a streaming rpc; `response` is the type of its messages.

    Implements attachment.TextSink. `sequence` is the last one that was written.
    """

    __slots__ = ("_context", "_response", "sequence")

    def __init__(self, context: RpcContext, response: Callable[..., Any], sequence: int) -> None:
        self._context = context
        self._response = response
        self.sequence = sequence

    async def write(self, **event: Any) -> None:
        """Write one event by the name of its field, at the current sequence."""
        await self._context.write(self._response(sequence=self.sequence, **event))

    async def write_status(self, record: Generation, *, polled: bool) -> None:
        """Write the status of the generation, as `status`."""
        status = _status(record)
        status.polled = polled
        await self.write(status=status)

    def write_text(self, chunk: TextChunk) -> Coroutine[Any, Any, None]:
        """Write a piece of text, as `delta`: what is done for each token."""
        # Setting fields takes half of what making a message from keywords does.
        response = self._response()
        response.sequence = self.sequence = chunk.sequence
        response.delta.text = chunk.text
        writing: Coroutine[Any, Any, None] = self._context.write(response)
        return writing


def _status(record: Generation) -> text_pb2.TextStatus:
    status = text_pb2.TextStatus(
        state=responses.STATES[record.state],
        attempt=record.attempt.ordinal,
        model=record.attempt.model,
    )
    if record.queue_position:
        status.queue_position = record.queue_position.position
        status.expected_wait.FromMilliseconds(round(1000 * record.queue_position.seconds))
    return status
