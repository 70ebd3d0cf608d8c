"""The one gRPC interceptor: it puts the concerns around every handler, whatever its kind.

Bytes are read and written here and not by gRPC, so that a message that cannot be read is refused by
the same rules as any other bad request. Knows no concern by name.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Final, TypeAlias

import grpc

from mediagate_server.interceptors.inbound.call import (
    Call,
    Concern,
    Context,
    Method,
    Proceed,
    Standing,
)
from mediagate_server.interceptors.inbound.wire import Wire

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Lookup = Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]]


class Chain(grpc.aio.ServerInterceptor):
    """Runs `concerns`, outermost first, around every rpc of a server.

    `not_built`: paths that are answered as not built, whatever is registered for them. So is a
    handler that is neither a coroutine nor an asynchronous generator: it can only be the generated
    base class's. Replies are written by us, inside the call's own task, so that a generator is
    closed at once and in order when its call is cancelled.
    """

    def __init__(self, concerns: Sequence[Concern], not_built: Collection[str] = ()) -> None:
        self._concerns: Final = tuple(concerns)
        self._not_built: Final = frozenset(not_built)
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self, continuation: Lookup, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """Find the handler once for each method, and serve it from then on."""
        path = handler_call_details.method
        wrapped = self._wrapped.get(path)
        if wrapped is None:
            if path in self._not_built:
                wrapped = self._empty(path, Standing.NOT_BUILT)
            elif (handler := await continuation(handler_call_details)) is not None:
                wrapped = self._wrap(path, handler)
            else:
                # Not kept: callers make up such names.
                return self._empty(path, Standing.UNKNOWN)
            self._wrapped[path] = wrapped
        return wrapped

    def _wrap(self, path: str, handler: Handler) -> Handler:
        behaviour = _behaviour_of(handler)
        built = inspect.iscoroutinefunction(behaviour) or inspect.isasyncgenfunction(behaviour)
        standing = Standing.BUILT if built else Standing.NOT_BUILT
        method = Method.of(path, handler, standing)
        return _served(method, self._around(partial(_serve, behaviour)))

    def _empty(self, path: str, standing: Standing) -> Handler:
        """Nothing but the concerns, one of which refuses the call."""
        return _served(Method.of(path, None, standing), self._around(_nothing))

    def _around(self, innermost: Proceed) -> Proceed:
        """The concerns composed, the first one outermost."""
        proceed = innermost
        for concern in reversed(self._concerns):
            proceed = partial(concern.around, proceed=proceed)
        return proceed


async def _nothing(call: Call) -> None:
    """What is behind a method that has no handler; `validate` lets no call come here."""


def _behaviour_of(handler: Handler) -> Any:
    """The one function that a handler has, under the name of its kind."""
    return (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )


async def _serve(behaviour: Callable[..., Any], call: Call) -> bytes | None:
    """Run the handler itself, in the style it is written in."""
    method = call.method
    if not method.response_streaming:
        if method.request_streaming:
            wire = Wire(call)
            reply = await behaviour(wire, wire)
        else:
            reply = await behaviour(call.hand_over(), call.context)
        call.sent += 1
        return reply if method.encode is None else method.encode(reply)
    wire = Wire(call)
    if inspect.iscoroutinefunction(behaviour):
        await behaviour(wire if method.request_streaming else call.hand_over(), wire)
        return None
    request = wire if method.request_streaming else call.hand_over()
    async with aclosing(behaviour(request, wire)) as replies:
        async for reply in replies:
            writing = wire.write(reply)
            # Encoded by now: one who reads slowly does not hold it as well as its bytes.
            del reply
            await writing
    return None


def _served(method: Method, proceed: Proceed) -> Handler:
    """A handler for gRPC, which leaves the request to be received by us (`receive.py`)."""

    # gRPC keeps a refusal with its call. Did the refusal's traceback lead back to the call, the two
    # and the whole request with them would be garbage that only the collector finds.
    async def handler(_: object, context: Context) -> bytes | None:
        call = Call(method, context)
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
