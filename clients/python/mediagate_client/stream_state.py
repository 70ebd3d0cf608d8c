"""State of a resumable text stream over several connections.

Pure: it sends and awaits nothing. Both clients pass it what they receive and get the next request
from it, so that an interrupted text is resumed with no byte lost or repeated.
"""

from copy import deepcopy
from typing import Generic, TypeVar

import grpc

from mediagate.v1.models_pb2 import ModelCompleted, StreamModelRequest, StreamModelResponse
from mediagate.v1.options_pb2 import ON_DISCONNECT_DETACH
from mediagate.v1.text_pb2 import (
    StreamTextRequest,
    StreamTextResponse,
    TextCompleted,
    TextStarted,
    TextStatus,
)
from mediagate_client.errors import Details, MediagateError, StreamLost, Unavailable
from mediagate_client.events import TextEvent

Failure = TypeVar("Failure", bound=MediagateError)
Request = TypeVar("Request", bound=StreamTextRequest | StreamModelRequest)


class StreamState(Generic[Request]):
    """State of one stream of a text or of a run."""

    def __init__(self, request: Request) -> None:
        """Start before the first connection; `request` must have a request_id."""
        self._request = deepcopy(request)
        self.sequence = request.after_sequence
        """Sequence number of the last piece that the caller got."""
        self.started: TextStarted | None = None
        self.status: TextStatus | None = None
        self.completed: TextCompleted | ModelCompleted | None = None

    @property
    def request_id(self) -> str:
        """Id of the call on every connection."""
        return self._request.request_id

    @property
    def generation_id(self) -> str:
        """Id of the generation. Empty: not known to be accepted."""
        return self.started.generation_id if self.started else ""

    @property
    def is_detached(self) -> bool:
        """Whether the generation runs on where its caller leaves."""
        return self._request.options.on_disconnect == ON_DISCONNECT_DETACH

    def next_request(self) -> Request:
        """Return the request for the next connection: the same call after the last piece."""
        request = deepcopy(self._request)
        request.after_sequence = self.sequence
        return request

    def receive(self, response: StreamTextResponse | StreamModelResponse) -> TextEvent | None:
        """Process one message; return a piece that is new to the caller, or None.

        Raises StreamLost if the connection is to another text than the one begun.
        """
        match response.WhichOneof("event"):
            case "started":
                self._start(response.started)
            case "status":
                self.status = response.status
            case "delta" if response.sequence > self.sequence:
                self.sequence = response.sequence
                return TextEvent(response.delta, response.sequence)
            case "completed":
                self.completed = response.completed
        return None

    def incomplete_error(self) -> Unavailable:
        """Return the error for a connection that ended without one and without `completed`."""
        message = "the stream ended before the text was complete"
        return self.with_request_id(Unavailable(Details(grpc.StatusCode.UNAVAILABLE, message)))

    def is_generation_error(self, failure: MediagateError) -> bool:
        """Whether the generation failed, not only the connection."""
        is_from_server = bool(failure.reason) and not isinstance(failure, Unavailable | StreamLost)
        return bool(self.generation_id) and is_from_server

    def with_request_id(self, failure: Failure) -> Failure:
        """Set the request_id of an error, so that the caller can resume later."""
        failure.request_id = self.request_id
        return failure

    def _start(self, started: TextStarted) -> None:
        """Process the first event of a connection."""
        if self.started is None:
            self.started = started
            return
        if started.generation_id == self.started.generation_id:
            return
        if self.sequence > self._request.after_sequence:
            message = "the server began another text in place of the interrupted one"
            raise self.with_request_id(StreamLost(Details(grpc.StatusCode.DATA_LOSS, message)))
        # The first one was refused before it had any text, and its request_id was free again.
        self.started = started
