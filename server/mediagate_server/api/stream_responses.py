"""The events of a stream, as both rpcs that stream tell them: how it began, stands and grows."""

from collections.abc import Callable, Coroutine
from typing import Any

from mediagate.v1 import text_pb2
from mediagate_server.api.billable_calls import RpcContext
from mediagate_server.api.convert import responses
from mediagate_server.generations.execution.attachment import Attachment
from mediagate_server.generations.streaming.text_buffer import TextChunk
from mediagate_server.store.records import Generation


def started_event(attached: Attachment) -> text_pb2.TextStarted:
    """The request was accepted."""
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
    """A stream's rpc as the listener of its text; `reply` is the kind of its messages.

    Implements attachment.Listener. `sequence` is what the stream has come to.
    """

    __slots__ = ("_context", "_reply", "sequence")

    def __init__(self, context: RpcContext, reply: Callable[..., Any], sequence: int) -> None:
        self._context = context
        self._reply = reply
        self.sequence = sequence

    async def write(self, **event: Any) -> None:
        """Write one event by the name of its field, at the sequence that was reached."""
        await self._context.write(self._reply(sequence=self.sequence, **event))

    async def write_status(self, record: Generation, *, polled: bool) -> None:
        """Write how it stands, as `status`."""
        status = _status(record)
        status.polled = polled
        await self.write(status=status)

    def write_text(self, chunk: TextChunk) -> Coroutine[Any, Any, None]:
        """Write a piece of text, as `delta`: what is done for each token."""
        # Setting fields takes half of what making a message from keywords does.
        reply = self._reply()
        reply.sequence = self.sequence = chunk.sequence
        reply.delta.text = chunk.text
        writing: Coroutine[Any, Any, None] = self._context.write(reply)
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
