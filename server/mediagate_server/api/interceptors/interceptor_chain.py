"""Interceptor chain: the one gRPC interceptor, which puts the others around every handler.

Bytes are read and written here and not by gRPC, so that a message that cannot be read is refused by
the same rules as any other bad request. Knows no other interceptor by name. Handlers get a counting
wrapper around gRPC's context.
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
    """gRPC's context whose reads and writes are counted in `call`; also its stream of requests.

    A class of its own and no generator: one that a handler left half-read would be closed by the
    garbage collector, whenever that may be.
    """

    __slots__ = ("_call", "_context", "_transfer")

    def __init__(self, call: RpcCall) -> None:
        self._call = call
        self._context = call.context
        self._transfer: StreamBandwidth | None = None
        if call.scheduler is not None and call.caller is not None:
            self._transfer = StreamBandwidth(call.scheduler, call.caller.tenant)

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
        """Read the next request message, checked, or `grpc.aio.EOF`. Raises InvalidRequest."""
        raw = await self._context.read()
        if raw is grpc.aio.EOF:
            return raw
        call = self._call
        call.received += 1
        if self._transfer is not None and self._transfer.add(len(raw)):
            await self._transfer.turn()
        if call.scheduler is None or call.caller is None or len(raw) <= MAX_STEP:
            return _checked(call, raw)
        with await call.scheduler.acquire_step(call.caller.tenant):
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
    """Runs `interceptors`, outermost first, around every rpc of a server.

    `unimplemented`: paths that are answered as not built, whatever is registered for them. So is a
    handler that is neither a coroutine nor an asynchronous generator: it can only be the generated
    base class's. Replies are written by us, inside the call's own task, so that a generator is
    closed at once and in order when its call is cancelled.
    """

    def __init__(
        self, interceptors: Sequence[Interceptor], unimplemented: Collection[str] = ()
    ) -> None:
        self._interceptors: Final = tuple(interceptors)
        self._unimplemented: Final = frozenset(unimplemented)
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self, continuation: HandlerLookup, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """Find the handler once for each method, and serve it from then on."""
        path = handler_call_details.method
        wrapped = self._wrapped.get(path)
        if wrapped is None:
            if path in self._unimplemented:
                wrapped = self._handlerless(path, Implementation.UNIMPLEMENTED)
            elif (handler := await continuation(handler_call_details)) is not None:
                wrapped = self._wrap(path, handler)
            else:
                # Not kept: callers make up such names.
                return self._handlerless(path, Implementation.UNKNOWN)
            self._wrapped[path] = wrapped
        return wrapped

    def _wrap(self, path: str, handler: Handler) -> Handler:
        function = _handler_function(handler)
        built = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        implementation = Implementation.IMPLEMENTED if built else Implementation.UNIMPLEMENTED
        method = RpcMethod.of(path, handler, implementation)
        return _grpc_handler(method, self._compose(partial(_run_handler, function)))

    def _handlerless(self, path: str, implementation: Implementation) -> Handler:
        """Nothing but the interceptors, one of which refuses the call."""
        return _grpc_handler(RpcMethod.of(path, None, implementation), self._compose(_nothing))

    def _compose(self, innermost: CallNext) -> CallNext:
        """The interceptors composed, the first one outermost."""
        call_next = innermost
        for interceptor in reversed(self._interceptors):
            call_next = partial(interceptor.intercept, call_next=call_next)
        return call_next


async def _nothing(call: RpcCall) -> None:
    """What is behind a method that has no handler; `validate` lets no call come here."""


def _handler_function(handler: Handler) -> Any:
    """The one function that a handler has, under the name of its kind."""
    return (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )


async def _run_handler(function: Callable[..., Any], call: RpcCall) -> bytes | None:
    """Run the handler itself, in the style it is written in."""
    method = call.method
    if not method.response_streaming:
        if method.request_streaming:
            counted = CountingContext(call)
            reply = await function(counted, counted)
        else:
            reply = await function(call.pass_request(), call.context)
        call.sent += 1
        return reply if method.encode is None else method.encode(reply)
    counted = CountingContext(call)
    if inspect.iscoroutinefunction(function):
        await function(counted if method.request_streaming else call.pass_request(), counted)
        return None
    request = counted if method.request_streaming else call.pass_request()
    async with aclosing(function(request, counted)) as replies:
        async for reply in replies:
            writing = counted.write(reply)
            # Encoded by now: one who reads slowly does not hold it as well as its bytes.
            del reply
            await writing
    return None


def _grpc_handler(method: RpcMethod, call_next: CallNext) -> Handler:
    """A handler for gRPC, which leaves the request to be received by us (`admission.py`)."""

    # gRPC keeps a refusal with its call. Did the refusal's traceback lead back to the call, the two
    # and the whole request with them would be garbage that only the collector finds.
    async def handler(_: object, context: Context) -> bytes | None:
        call = RpcCall(method, context)
        del context
        try:
            return await call_next(call)
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
