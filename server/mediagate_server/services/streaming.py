"""The events of a stream, as both rpcs that stream tell them: how it began, stands and grows."""

from typing import Any

from mediagate.v1 import text_pb2
from mediagate_server.generations.attachment import Attachment
from mediagate_server.generations.text_buffer import Chunk
from mediagate_server.services import shown
from mediagate_server.store.records import Generation


def started(attached: Attachment) -> text_pb2.TextStarted:
    """The request was accepted."""
    record = attached.record
    return text_pb2.TextStarted(
        generation_id=record.id,
        request_id=record.request_id,
        replayed=attached.replayed,
        model=record.model,
        substitution=shown.substitution(record.requested_model, record.substitution),
        parameters=shown.parameter_reports(record.parameters),
        seed=record.seed,
        sandbox=record.sandbox,
        choice=shown.choice(record.choice),
    )


def reached(event: Generation | Chunk, sequence: int) -> int:
    """The sequence that the stream has come to with this event."""
    return event.sequence if isinstance(event, Chunk) else sequence


def event_fields(event: Generation | Chunk) -> dict[str, Any]:
    """An event as the field of a response: `delta` for text, `status` for how it stands."""
    if isinstance(event, Chunk):
        return {"delta": text_pb2.TextDelta(text=event.text)}
    status = text_pb2.TextStatus(
        state=shown.STATES[event.state],
        attempt=event.attempt.ordinal,
        model=event.attempt.model,
    )
    if event.place:
        status.queue_position = event.place.position
        status.expected_wait.FromMilliseconds(round(1000 * event.place.seconds))
    return {"status": status}
