"""A streamed text over all its connections: what came, what is still to come.

Pure: it sends and awaits nothing. Both faces feed it what they receive and ask it what to send
next, so that a text which was cut goes on without a byte lost or told twice.
"""

from copy import deepcopy
from typing import Generic, TypeVar

import grpc

from mediagate.v1.models_pb2 import ModelCompleted, StreamModelRequest, StreamModelResponse
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
    """Where one streamed text stands, or one streamed run of any model."""

    def __init__(self, request: Request) -> None:
        """Begin before the first connection; `request` must have a request_id."""
        self._request = deepcopy(request)
        self.sequence = request.after_sequence
        """How far the text has been told to the caller."""
        self.started: TextStarted | None = None
        self.status: TextStatus | None = None
        self.completed: TextCompleted | ModelCompleted | None = None

    @property
    def request_id(self) -> str:
        """What names the call on every connection."""
        return self._request.request_id

    @property
    def generation_id(self) -> str:
        """The generation that the text belongs to. Empty: not accepted yet, as far as we know."""
        return self.started.generation_id if self.started else ""

    def next_request(self) -> Request:
        """Return what to send on the next connection: the same call, from where we stand."""
        request = deepcopy(self._request)
        request.after_sequence = self.sequence
        return request

    def receive(self, response: StreamTextResponse | StreamModelResponse) -> TextEvent | None:
        """Take in one message; return what is new to the caller, if anything is.

        Raises StreamLost if the connection leads to another text than the one begun.
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

    def ended_early(self) -> Unavailable:
        """Return the failure of a connection that ended well but without `completed`."""
        message = "the stream ended before the text was complete"
        return self.signed(Unavailable(Details(grpc.StatusCode.UNAVAILABLE, message)))

    def has_ended_by(self, failure: MediagateError) -> bool:
        """Say whether this is how the generation ended, not only the connection to it."""
        is_the_gates = bool(failure.reason) and not isinstance(failure, Unavailable | StreamLost)
        return bool(self.generation_id) and is_the_gates

    def signed(self, failure: Failure) -> Failure:
        """Return a failure with the request_id on it, so that the caller may go on later."""
        failure.request_id = self.request_id
        return failure

    def _start(self, started: TextStarted) -> None:
        """Take in the first event of a connection."""
        if self.started is None:
            self.started = started
            return
        if started.generation_id == self.started.generation_id:
            return
        if self.sequence > self._request.after_sequence:
            message = "the gate began another text in place of the one that was cut"
            raise self.signed(StreamLost(Details(grpc.StatusCode.DATA_LOSS, message)))
        # The first one was refused by everybody before it said a word, and its id was free again.
        self.started = started
