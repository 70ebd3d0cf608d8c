"""The two directions of one rpc, counted: what handlers get as context and as request stream."""

from collections.abc import Awaitable
from typing import Any

import grpc

from mediagate_server.interceptors.inbound.call import Call, decoded
from mediagate_server.loop_share import MOST_AT_ONCE, Transfer


class Wire:
    """gRPC's context with reading and writing through `call`; and the stream of its requests.

    A class of its own and no generator: one that a handler left half-read would be closed by the
    garbage collector, whenever that may be.
    """

    __slots__ = ("_call", "_context", "_transfer")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._context = call.context
        self._transfer: Transfer | None = None
        if call.share is not None and call.caller is not None:
            self._transfer = Transfer(call.share, call.caller.tenant)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def __aiter__(self) -> "Wire":
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
        if call.share is None or call.caller is None or len(raw) <= MOST_AT_ONCE:
            return _checked(call, raw)
        with await call.share.step(call.caller.tenant):
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


def _checked(call: Call, raw: bytes) -> Any:
    message = decoded(call.method, raw)
    if call.check is not None:
        call.check(message)
    return message
