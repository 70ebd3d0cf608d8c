"""Receives the request message of an rpc that has just one, once its caller is known and let in.

gRPC itself would receive it before anybody was asked, whoever calls, and hold its bytes (up to
4 MiB) for as long as the rpc lasts: for a waiting call, the minutes of a run. Every method is
therefore a request stream to gRPC, which is the same on the wire, and is read here.

A message takes some three times its size while it is received, all of it in gRPC. Few of a tenant's
are received at the same time; whoever sends only half of one holds up nobody else's, and not his
own for long. A large one is decoded here as well, in turns that the event loop can stand.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import grpc

from mediagate_server.errors import InvalidRequest
from mediagate_server.interceptors.inbound.call import Call, Method, Proceed
from mediagate_server.loop_share import BYTE_SECONDS, MOST_AT_ONCE, LoopShare

MOST_RECEIVING: Final = 16
"""Messages of one tenant that are received at the same time."""
CALL_SECONDS: Final = 0.0005
"""By which two calls of one tenant are apart while another tenant is there, whatever they ask."""
RECEIVE_SECONDS: Final = 60.0
"""In which a message has to come whole, at 70 KB/s for the largest."""


class Receive:
    """Places of each tenant. Stands behind `auth`, before whatever looks at the request.

    Tenants are those that are configured: their number is bounded. `seconds`, in which a message
    has to come whole, are asked for each.
    """

    def __init__(
        self,
        share: LoopShare,
        most: int = MOST_RECEIVING,
        seconds: Callable[[], float] = lambda: RECEIVE_SECONDS,
    ) -> None:
        self._share: Final = share
        self._most: Final = most
        self._seconds = seconds
        self._places: dict[tuple[str, bool], asyncio.Semaphore] = {}

    def around(self, call: Call, proceed: Proceed) -> Awaitable[bytes | None]:
        """Receive the message; wait for a place first, where the tenant has taken all of them."""
        if call.caller is not None:
            self._share.see(call.caller.tenant)
        if call.method.request_streaming:
            call.share = self._share
            return proceed(call)
        return self._received(call, proceed)

    async def _received(self, call: Call, proceed: Proceed) -> bytes | None:
        if call.caller is None:
            await self._receive(call)
            return await proceed(call)
        tenant = call.caller.tenant
        place = self._place(tenant, call.method)
        await place.acquire()
        try:
            size = await self._receive(call)
            if not self._share.is_free(tenant):
                await self._share.turn(tenant, CALL_SECONDS + size * BYTE_SECONDS)
            if size > MOST_AT_ONCE:
                with await self._share.step(tenant):
                    call.decode()
        finally:
            place.release()
        return await proceed(call)

    async def _receive(self, call: Call) -> int:
        """How large it is, in bytes. Raises InvalidRequest where none comes."""
        seconds = self._seconds()
        try:
            async with asyncio.timeout(seconds):
                raw = await call.context.read()
        except TimeoutError:
            raise InvalidRequest.of("request", f"must come whole within {seconds:g} s") from None
        if raw is grpc.aio.EOF:
            # It is also what a caller that has left looks like; that is to be told as a cancel.
            await asyncio.sleep(0)
            raise InvalidRequest.of("request", "must be sent")
        call.receive(raw)
        return len(raw)

    def _place(self, tenant: str, method: Method) -> asyncio.Semaphore:
        """Cancels, looks and returns have places of their own, beside those of requests that may
        be large: who sends these slowly waits for nothing else.
        """
        key = (tenant, method.paid)
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = asyncio.Semaphore(self._most)
        return place
