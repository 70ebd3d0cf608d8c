"""State of waiting for and watching a generation, over reconnects. Pure.

A wait is a series of calls: proxies close one that is open for an hour.
"""

from typing import Final

import grpc

from mediagate.v1.generation_pb2 import Generation, GenerationView
from mediagate.v1.generations_pb2 import (
    WaitGenerationRequest,
    WatchGenerationRequest,
    WatchGenerationResponse,
)
from mediagate_client.conversion import build
from mediagate_client.errors import Details, Unavailable
from mediagate_client.generation_result import is_terminal
from mediagate_client.retry import Deadline

SLICE_SECONDS: Final = 300.0
ANSWER_SECONDS: Final = 30.0
"""Time of a call beyond its wait, for the response."""
PAUSE_SECONDS: Final = 0.2
"""Pause between two calls, against a tight loop where the server answers at once."""


def wait_slice(
    generation_id: str, until: Deadline, view: GenerationView.ValueType
) -> tuple[WaitGenerationRequest, float]:
    """Return the next request of a wait and the timeout of its call in seconds."""
    seconds = SLICE_SECONDS
    if until.at is not None:
        seconds = min(seconds, max(0.0, until.at - until.clock()))
    request = build(WaitGenerationRequest, id=generation_id, view=view)
    request.wait.FromMilliseconds(round(seconds * 1000))
    return request, seconds + ANSWER_SECONDS


class WatchState:
    """State of one watch over several connections."""

    def __init__(self, generation_id: str, view: GenerationView.ValueType) -> None:
        """Start before the first connection."""
        self._request = build(WatchGenerationRequest, id=generation_id, view=view)
        self.ended = False
        """True once the terminal state was received."""

    def next_request(self) -> WatchGenerationRequest:
        """Return the request for the next connection: after the last change."""
        request = WatchGenerationRequest()
        request.CopyFrom(self._request)
        return request

    def receive(self, response: WatchGenerationResponse) -> Generation | None:
        """Process one message; return the generation if the change is new."""
        seen = self._request.after_sequence
        if seen and response.sequence <= seen:
            return None
        self._request.after_sequence = response.sequence
        self.ended = is_terminal(response.generation)
        return response.generation

    @staticmethod
    def incomplete_error() -> Unavailable:
        """Return the error for a connection that ended before the terminal state."""
        message = "the watch ended before the generation did"
        return Unavailable(Details(grpc.StatusCode.UNAVAILABLE, message))
