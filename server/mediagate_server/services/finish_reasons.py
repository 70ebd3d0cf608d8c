"""Finish reason of a text: why it ended, from what its record says."""

from typing import Final

from mediagate.v1 import generation_pb2
from mediagate_server.errors import Reason
from mediagate_server.store.records import Generation, State

_RAN_TO_ITS_END: Final = frozenset({Reason.OUTPUT_INVALID, Reason.OUTPUT_TOO_LARGE})
"""Reasons of failures of which the model knows nothing: its own run has succeeded."""


def finish_reason_of(record: Generation) -> "generation_pb2.FinishReason.ValueType":
    """UNSPECIFIED while it is not at its end, where it broke, and where nobody knows.

    Replicate does not say why a text ended. LENGTH: as many tokens were counted as the model was
    allowed. STOP: fewer were, or there was no limit; where there was one and no count came, it may
    have been either.
    """
    if not record.state.is_terminal:
        return generation_pb2.FINISH_REASON_UNSPECIFIED
    reason = record.failure.reason if record.failure else None
    if reason is Reason.CONTENT_BLOCKED:
        return generation_pb2.FINISH_REASON_CONTENT
    if record.state is State.CANCELLED:
        return generation_pb2.FINISH_REASON_CANCELLED
    if record.state is not State.SUCCEEDED and reason not in _RAN_TO_ITS_END:
        return generation_pb2.FINISH_REASON_UNSPECIFIED
    if record.token_limit is None:
        return generation_pb2.FINISH_REASON_STOP
    tokens = record.usage.output_tokens if record.usage else None
    if tokens is None:
        return generation_pb2.FINISH_REASON_UNSPECIFIED
    if tokens >= record.token_limit:
        return generation_pb2.FINISH_REASON_LENGTH
    return generation_pb2.FINISH_REASON_STOP
