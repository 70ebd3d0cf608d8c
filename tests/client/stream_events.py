"""Events of streamed texts."""

from collections.abc import Iterator

from mediagate.v1.cost_pb2 import COST_STATE_SETTLED, Cost, Usage
from mediagate.v1.text_pb2 import (
    StreamTextResponse,
    TextCompleted,
    TextDelta,
    TextStarted,
    TextStatus,
)

GENERATION = "gen-1"


def started(generation_id: str = GENERATION, sequence: int = 0) -> StreamTextResponse:
    event = TextStarted(generation_id=generation_id, model="meta/llama")
    return StreamTextResponse(sequence=sequence, started=event)


def status(position: int) -> StreamTextResponse:
    return StreamTextResponse(status=TextStatus(queue_position=position))


def delta(text: str, sequence: int) -> StreamTextResponse:
    return StreamTextResponse(sequence=sequence, delta=TextDelta(text=text))


def completed(sequence: int = 0) -> StreamTextResponse:
    event = TextCompleted(
        model="meta/llama",
        usage=Usage(output_tokens=3),
        cost=Cost(usd_nanos=12_000, state=COST_STATE_SETTLED),
    )
    return StreamTextResponse(sequence=sequence, completed=event)


def stream_events(pieces: list[str], after: int = 0) -> Iterator[StreamTextResponse]:
    """What a server sends for a text of these pieces, after that sequence."""
    yield started(sequence=after)
    sequence = 0
    for piece in pieces:
        data = piece.encode()
        sequence += len(data)
        if sequence > after:
            new = data[-(sequence - after) :] if sequence - after < len(data) else data
            yield delta(new.decode(), sequence)
    yield completed(sequence)
