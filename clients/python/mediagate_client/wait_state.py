"""How a client waits for the end of a generation, and watches the way there. Pure.

A wait is sliced: a call that is open for an hour is cut by every proxy on the way.
"""

from typing import Final

import grpc

from mediagate.v1.generation_pb2 import Generation, GenerationView
from mediagate.v1.generations_pb2 import (
    WaitGenerationRequest,
    WatchGenerationRequest,
    WatchGenerationResponse,
)
from mediagate_client.errors import Details, Unavailable
from mediagate_client.generation_result import is_terminal
from mediagate_client.retry import Deadline

SLICE_SECONDS: Final = 300.0
ANSWER_SECONDS: Final = 30.0
"""What a call gets beyond the time that it waits."""
PAUSE_SECONDS: Final = 0.2
"""Between two slices, so that a gate which answers at once is not asked in a tight loop."""


def wait_slice(
    generation_id: str, until: Deadline, view: GenerationView.ValueType
) -> tuple[WaitGenerationRequest, float]:
    """Return the next request of a wait and the seconds that its call may take."""
    seconds = SLICE_SECONDS
    if until.at is not None:
        seconds = min(seconds, max(0.0, until.at - until.clock()))
    request = WaitGenerationRequest(id=generation_id, view=view)
    request.wait.FromMilliseconds(round(seconds * 1000))
    return request, seconds + ANSWER_SECONDS


class WatchState:
    """Where one watch stands, over all its connections."""

    def __init__(self, generation_id: str, view: GenerationView.ValueType) -> None:
        """Begin before the first connection."""
        self._request = WatchGenerationRequest(id=generation_id, view=view)
        self.over = False
        """True once the terminal state was seen."""

    def next_request(self) -> WatchGenerationRequest:
        """Return what to send on the next connection: from where we stand."""
        request = WatchGenerationRequest()
        request.CopyFrom(self._request)
        return request

    def receive(self, response: WatchGenerationResponse) -> Generation | None:
        """Take in one message; return the generation if this is a change not seen before."""
        seen = self._request.after_sequence
        if seen and response.sequence <= seen:
            return None
        self._request.after_sequence = response.sequence
        self.over = is_terminal(response.generation)
        return response.generation

    @staticmethod
    def ended_early() -> Unavailable:
        """Return the failure of a connection that ended before the terminal state."""
        message = "the watch ended before the generation did"
        return Unavailable(Details(grpc.StatusCode.UNAVAILABLE, message))
