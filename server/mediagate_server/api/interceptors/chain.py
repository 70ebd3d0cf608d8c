"""The one gRPC interceptor: it puts the concerns around every handler, whatever its kind.

Bytes are read and written here and not by gRPC, so that a message that cannot be read is refused by
the same rules as any other bad request. Knows no concern by name.

The two directions of one rpc, counted: what handlers get as context and as request stream.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Final, TypeAlias

import grpc

from mediagate_server.api.interceptors.rpc_call import (
    CallNext,
    Context,
    Implementation,
    Interceptor,
    RpcCall,
    RpcMethod,
    decode_request,
)
from mediagate_server.runtime.fair_scheduler import MAX_STEP, StreamBandwidth


class CountingContext:
    """gRPC's context with reading and writing through `call`; and the stream of its requests.

    A class of its own and no generator: one that a handler left half-read would be closed by the
    garbage collector, whenever that may be.
    """

    __slots__ = ("_call", "_context", "_transfer")

    def __init__(self, call: RpcCall) -> None:
        self._call = call
        self._context = call.context
        self._transfer: StreamBandwidth | None = None
        if call.share is not None and call.caller is not None:
            self._transfer = StreamBandwidth(call.share, call.caller.tenant)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def __aiter__(self) -> "CountingContext":
        return self

    async def __anext__(self) -> Any:
        message = await self.read()
        if message is grpc.aio.EOF:
            raise StopAsyncIteration
        return message

    async def read(self) -> Any:
        """The next request message, checked, or `grpc.aio.EOF`. Raises InvalidRequest."""
        raw = await self._context.read()
        if raw is grpc.aio.EOF:
            return raw
        call = self._call
        call.received += 1
        if self._transfer is not None and self._transfer.add(len(raw)):
            await self._transfer.turn()
        if call.share is None or call.caller is None or len(raw) <= MAX_STEP:
            return _checked(call, raw)
        with await call.share.acquire_step(call.caller.tenant):
            return _checked(call, raw)

    def write(self, message: Any) -> Awaitable[None]:
        """Send one reply. Waits while the caller is slow to read.

        gRPC's own coroutine is given out: one around it would be one more for each token.
        """
        call = self._call
        call.sent += 1
        encode = call.method.encode
        writing: Awaitable[None]
        writing = self._context.write(message if encode is None else encode(message))
        return writing


def _checked(call: RpcCall, raw: bytes) -> Any:
    message = decode_request(call.method, raw)
    if call.check is not None:
        call.check(message)
    return message


Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
HandlerLookup = Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]]


class InterceptorChain(grpc.aio.ServerInterceptor):
    """Runs `concerns`, outermost first, around every rpc of a server.

    `value_checks`: paths that are answered as not built, whatever is registered for them. So is a
    handler that is neither a coroutine nor an asynchronous generator: it can only be the generated
    base class's. Replies are written by us, inside the call's own task, so that a generator is
    closed at once and in order when its call is cancelled.
    """

    def __init__(self, concerns: Sequence[Interceptor], not_built: Collection[str] = ()) -> None:
        self._concerns: Final = tuple(concerns)
        self._not_built: Final = frozenset(not_built)
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self, continuation: HandlerLookup, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """Find the handler once for each method, and serve it from then on."""
        path = handler_call_details.method
        wrapped = self._wrapped.get(path)
        if wrapped is None:
            if path in self._not_built:
                wrapped = self._empty(path, Implementation.NOT_BUILT)
            elif (handler := await continuation(handler_call_details)) is not None:
                wrapped = self._wrap(path, handler)
            else:
                # Not kept: callers make up such names.
                return self._empty(path, Implementation.UNKNOWN)
            self._wrapped[path] = wrapped
        return wrapped

    def _wrap(self, path: str, handler: Handler) -> Handler:
        behaviour = _behaviour_of(handler)
        built = inspect.iscoroutinefunction(behaviour) or inspect.isasyncgenfunction(behaviour)
        standing = Implementation.BUILT if built else Implementation.NOT_BUILT
        method = RpcMethod.of(path, handler, standing)
        return _served(method, self._around(partial(_serve, behaviour)))

    def _empty(self, path: str, standing: Implementation) -> Handler:
        """Nothing but the concerns, one of which refuses the call."""
        return _served(RpcMethod.of(path, None, standing), self._around(_nothing))

    def _around(self, innermost: CallNext) -> CallNext:
        """The concerns composed, the first one outermost."""
        proceed = innermost
        for concern in reversed(self._concerns):
            proceed = partial(concern.intercept, proceed=proceed)
        return proceed


async def _nothing(call: RpcCall) -> None:
    """What is behind a method that has no handler; `validate` lets no call come here."""


def _behaviour_of(handler: Handler) -> Any:
    """The one function that a handler has, under the name of its kind."""
    return (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )


async def _serve(behaviour: Callable[..., Any], call: RpcCall) -> bytes | None:
    """Run the handler itself, in the style it is written in."""
    method = call.method
    if not method.response_streaming:
        if method.request_streaming:
            wire = CountingContext(call)
            reply = await behaviour(wire, wire)
        else:
            reply = await behaviour(call.pass_request(), call.context)
        call.sent += 1
        return reply if method.encode is None else method.encode(reply)
    wire = CountingContext(call)
    if inspect.iscoroutinefunction(behaviour):
        await behaviour(wire if method.request_streaming else call.pass_request(), wire)
        return None
    request = wire if method.request_streaming else call.pass_request()
    async with aclosing(behaviour(request, wire)) as replies:
        async for reply in replies:
            writing = wire.write(reply)
            # Encoded by now: one who reads slowly does not hold it as well as its bytes.
            del reply
            await writing
    return None


def _served(method: RpcMethod, proceed: CallNext) -> Handler:
    """A handler for gRPC, which leaves the request to be received by us (`admission.py`)."""

    # gRPC keeps a refusal with its call. Did the refusal's traceback lead back to the call, the two
    # and the whole request with them would be garbage that only the collector finds.
    async def handler(_: object, context: Context) -> bytes | None:
        call = RpcCall(method, context)
        del context
        try:
            return await proceed(call)
        except grpc.aio.AbortError as refusal:
            refusal.__traceback__ = None
            del call
            raise
        except grpc.aio.InternalError:
            # A read or write failed because the caller has gone. gRPC would write a traceback for
            # each such call into the log, if it does not know that yet.
            raise asyncio.CancelledError from None

    if method.response_streaming:
        return grpc.stream_stream_rpc_method_handler(handler)
    return grpc.stream_unary_rpc_method_handler(handler)
