"""Resumable streams of texts and runs, on asyncio."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

import grpc
import grpc.aio

from mediagate.v1.generation_pb2 import Generation
from mediagate.v1.models_pb2 import StreamModelRequest, StreamModelResponse
from mediagate.v1.text_pb2 import (
    StreamTextRequest,
    StreamTextResponse,
    TextStarted,
    TextStatus,
)
from mediagate_client.aio.calls import AsyncCalls
from mediagate_client.backends import asynchronous as backend
from mediagate_client.channel import check_request_size
from mediagate_client.error_mapping import from_rpc_error
from mediagate_client.errors import MediagateError
from mediagate_client.events import TextEvent
from mediagate_client.retry import Deadline
from mediagate_client.stream_info import ModelStreamInfo, StreamInfo, TextStreamInfo
from mediagate_client.stream_state import Request, StreamState

Response = TypeVar("Response", bound=StreamTextResponse | StreamModelResponse)


class AsyncOpenCall(Generic[Request, Response]):
    """The rpc of a stream, and how to leave it. It outlives a stream that was dropped."""

    def __init__(
        self, state: StreamState[Request], cancel: Callable[[str], Awaitable[None]]
    ) -> None:
        """Start before the first connection."""
        self.rpc: grpc.aio.UnaryStreamCall[Request, Response] | None = None
        self.closed = False
        self._state = state
        self._cancel = cancel

    async def leave(self) -> None:
        """End the rpc and, unless it is to run on, the generation. The first call counts."""
        if self.closed:
            return
        self.closed = True
        if self.rpc is not None:
            self.rpc.cancel()
        if self._state.generation_id and not self._state.is_detached:
            await self._cancel(self._state.generation_id)


class AsyncResumableStream(StreamInfo[Request], Generic[Request, Response]):
    """An asynchronous iterator over the pieces of a text while it is generated.

    It reconnects after an interruption, with no byte lost or repeated. Cancelling the task that
    reads it, closing it before the end (also by leaving its `async with` block), or dropping the
    last reference to it cancels the generation.
    """

    def __init__(
        self,
        calls: AsyncCalls,
        method: Callable[[], grpc.aio.UnaryStreamMultiCallable[Request, Response]],
        request: Request,
        deadline: Deadline,
        *,
        cancel: Callable[[str], Awaitable[None]],
        find: Callable[[str], Awaitable[Generation | None]],
        on_started: Callable[[TextStarted], None] | None,
        on_status: Callable[[TextStatus], None] | None,
    ) -> None:
        """Create the stream; nothing is sent before the first iteration."""
        check_request_size(request)
        super().__init__(StreamState(request))
        self._calls = calls
        self._method = method
        self._deadline = deadline
        self._retries = calls.retries(deadline)
        self._find = find
        self._on_started = on_started
        self._on_status = on_status
        self._open = AsyncOpenCall[Request, Response](self._state, cancel)
        self._is_watched = False

    async def read(self) -> str:
        """Return the rest of the text at its end."""
        return "".join([event async for event in self])

    async def aclose(self) -> None:
        """Close the stream and leave its generation unless it has ended. Takes 2 s at most.

        Leaving cancels it, unless `on_disconnect` is detach.
        """
        await self._open.leave()

    async def __aenter__(self) -> Self:
        """Return the stream itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the stream."""
        await self.aclose()

    def __aiter__(self) -> Self:
        """Return the stream itself."""
        return self

    async def __anext__(self) -> TextEvent:
        """Return the next piece; raise the typed error of a failed stream."""
        try:
            while not self._open.closed:
                event = await self._receive_event()
                if event is not None:
                    return event
        except MediagateError as failure:
            if self._open.closed:  # By another caller, while this one waited.
                raise StopAsyncIteration from None
            self._open.closed = True
            if self._state.is_generation_error(failure):
                failure.generation = await self._find(self._state.generation_id)
            raise self._state.with_request_id(failure) from failure.__cause__
        except backend.INTERRUPTED:
            await self.aclose()
            raise
        raise StopAsyncIteration

    async def _receive_event(self) -> TextEvent | None:
        """Receive one message, or end the connection and wait for the next attempt."""
        try:
            if self._open.rpc is None:
                self._open.rpc = self._connect()
            response = await backend.next_message(self._open.rpc)
        except grpc.RpcError as error:
            await self._end_connection(from_rpc_error(error))
            return None
        if response is None:
            await self._end_connection(self._state.incomplete_error())
            return None
        event = self._state.receive(response)
        if event is not None:
            self._retries.reset()
        elif response.HasField("started"):
            self._retries.extend()
            if self._on_started is not None:
                self._on_started(response.started)
        elif self._on_status is not None and response.HasField("status"):
            self._on_status(response.status)
        return event

    def _connect(self) -> grpc.aio.UnaryStreamCall[Request, Response]:
        """Open the next connection; from the first one on, dropping the stream leaves it."""
        if not self._is_watched:
            self._is_watched = True
            loop = backend.current_loop()
            leave = weakref.finalize(self, backend.run_in_background, loop, self._open.leave)
            leave.atexit = False
        request = self._state.next_request()
        seconds = self._deadline.remaining()
        return backend.open_stream(self._method(), request, seconds, self._calls.metadata)

    async def _end_connection(self, failure: MediagateError) -> None:
        """Close after a complete text; else wait for the next attempt, or raise."""
        self._open.rpc = None
        if self._open.closed or self._state.completed is not None:
            self._open.closed = True
            return
        await self._calls.pause(self._retries, failure)


class AsyncTextStream(AsyncResumableStream[StreamTextRequest, StreamTextResponse], TextStreamInfo):
    """Stream of StreamText: a text of a catalog model."""


class AsyncModelStream(
    AsyncResumableStream[StreamModelRequest, StreamModelResponse], ModelStreamInfo
):
    """Stream of StreamModel: a run of any model. Without text it has no pieces, only the end."""
