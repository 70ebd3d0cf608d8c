"""Admission control: a bound on the rpcs that are open at once, shared out among callers.

A caller may hold at most as many places as are still free: one alone half of them, two a third
each, and whoever comes next finds as many as each of those has. So no caller keeps another out,
and nobody has to say beforehand how many there will be.

Receives the request message of an rpc that has just one, once its caller is known and let in.

gRPC itself would receive it before anybody was asked, whoever calls, and hold its bytes (up to
4 MiB) for as long as the rpc lasts: for a waiting call, the minutes of a run. Every method is
therefore a request stream to gRPC, which is the same on the wire, and is read here.

A message takes some three times its size while it is received, all of it in gRPC. Few of a tenant's
are received at the same time; whoever sends only half of one holds up nobody else's, and not his
own for long. A large one is decoded here as well, in turns that the event loop can stand.

Concurrency limit: how many reads and lists of one tenant are worked on at the same time.

Those that are begun take turns on the event loop, so that another tenant's call is behind a step of
each of them. A burst waits here instead, before anything was decoded or checked for it: first come
first served within a tenant, and no other tenant waits for it.

It is for rpcs that only read, and from the store alone. One that may wait for a commit, for a
generation's end, for upstream or for the storage of media would keep its place for as long as that
takes; planning a paid call has a limit of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import grpc

from mediagate_server.api.interceptors.rpc_call import CallNext, RpcCall, RpcMethod
from mediagate_server.errors import InvalidRequest, TooManyRpcs
from mediagate_server.observability import metrics
from mediagate_server.runtime.fair_scheduler import BYTE_SECONDS, MAX_STEP, FairScheduler

_RETRY_SECONDS: Final = 1.0
_ANYBODY: Final = ""
"""Who watches health or reads reflection shows no key: all of them count as one caller."""


class AdmissionInterceptor:
    """Refuses rpcs beyond the bound, before anything else is done for them. Stands behind `auth`.

    `max_open_rpcs` is asked at every rpc, so that it may change while we run; 0 is no bound. A
    unary call for health always passes: a load balancer would else take us for dead.
    """

    def __init__(self, max_open_rpcs: Callable[[], int]) -> None:
        self._max_open_rpcs = max_open_rpcs
        self._held: dict[str, int] = {}
        self.open = 0
        """Rpcs that are open now."""

    def intercept(self, call: RpcCall, proceed: CallNext) -> Awaitable[bytes | None]:
        """Take a place for as long as the rpc is open. Raises TooManyRpcs."""
        method = call.method
        if method.public and not method.response_streaming:
            return proceed(call)
        tenant = call.caller.tenant if call.caller else _ANYBODY
        limit = self._max_open_rpcs()
        if limit and self._held.get(tenant, 0) >= max(limit - self.open, 0):
            metrics.rpcs_refused.inc()
            raise TooManyRpcs(
                "too many rpcs are open",
                metadata={"tenant": tenant} if tenant else {},
                retry_after=_RETRY_SECONDS,
            )
        return self._admitted(tenant, call, proceed)

    def has_other_open_rpcs(self, tenant: str) -> bool:
        """Whether any tenant but this one has an rpc that is open."""
        return self.open > self._held.get(tenant, 0) + self._held.get(_ANYBODY, 0)

    async def _admitted(self, tenant: str, call: RpcCall, proceed: CallNext) -> bytes | None:
        self.open += 1
        self._held[tenant] = self._held.get(tenant, 0) + 1
        try:
            return await proceed(call)
        finally:
            self.open -= 1
            left = self._held[tenant] - 1
            if left:
                self._held[tenant] = left
            else:
                del self._held[tenant]


MAX_RECEIVING: Final = 16
"""Messages of one tenant that are received at the same time."""
CALL_SECONDS: Final = 0.0005
"""By which two calls of one tenant are apart while another tenant is there, whatever they ask."""
RECEIVE_SECONDS: Final = 60.0
"""In which a message has to come whole, at 70 KB/s for the largest."""


class ReceiveLimitInterceptor:
    """Places of each tenant. Stands behind `auth`, before whatever looks at the request.

    Tenants are those that are configured: their number is bounded. `seconds`, in which a message
    has to come whole, are asked for each.
    """

    def __init__(
        self,
        share: FairScheduler,
        most: int = MAX_RECEIVING,
        seconds: Callable[[], float] = lambda: RECEIVE_SECONDS,
    ) -> None:
        self._share: Final = share
        self._most: Final = most
        self._seconds = seconds
        self._places: dict[tuple[str, bool], asyncio.Semaphore] = {}

    def intercept(self, call: RpcCall, proceed: CallNext) -> Awaitable[bytes | None]:
        """Receive the message; wait for a place first, where the tenant has taken all of them."""
        if call.caller is not None:
            self._share.record_request(call.caller.tenant)
        if call.method.request_streaming:
            call.share = self._share
            return proceed(call)
        return self._received(call, proceed)

    async def _received(self, call: RpcCall, proceed: CallNext) -> bytes | None:
        if call.caller is None:
            await self._receive(call)
            return await proceed(call)
        tenant = call.caller.tenant
        place = self._place(tenant, call.method)
        await place.acquire()
        try:
            size = await self._receive(call)
            if not self._share.has_no_wait(tenant):
                await self._share.acquire(tenant, CALL_SECONDS + size * BYTE_SECONDS)
            if size > MAX_STEP:
                with await self._share.acquire_step(tenant):
                    call.decode()
        finally:
            place.release()
        return await proceed(call)

    async def _receive(self, call: RpcCall) -> int:
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

    def _place(self, tenant: str, method: RpcMethod) -> asyncio.Semaphore:
        """Cancels, looks and returns have places of their own, beside those of requests that may
        be large: who sends these slowly waits for nothing else.
        """
        key = (tenant, method.paid)
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = asyncio.Semaphore(self._most)
        return place


MAX_CONCURRENT_READS: Final = 2
"""Of one tenant: one is shown while another is read. The store reads lists in one thread, so that
more of them would be done no sooner, and another tenant's call would be behind each of them.
"""
READ_SECONDS: Final = 0.002
"""By which two of them are apart while another tenant is there."""


class ConcurrencyLimitInterceptor:
    """Places of each tenant for the methods at `paths`. Stands behind `auth`.

    Tenants are those that are configured: their number is bounded.
    """

    def __init__(
        self, share: FairScheduler, paths: Collection[str], most: int = MAX_CONCURRENT_READS
    ) -> None:
        self._share: Final = share
        self._paths: Final = frozenset(paths)
        self._most: Final = most
        self._tenants: dict[str, asyncio.Semaphore] = {}

    def intercept(self, call: RpcCall, proceed: CallNext) -> Awaitable[bytes | None]:
        """Hold a place for as long as the rpc is worked on; wait for one where all are taken."""
        if call.caller is None or call.method.path not in self._paths:
            return proceed(call)
        tenant = call.caller.tenant
        places = self._tenants.get(tenant)
        if places is None:
            places = self._tenants[tenant] = asyncio.Semaphore(self._most)
        return self._in_place(tenant, places, call, proceed)

    async def _in_place(
        self, tenant: str, places: asyncio.Semaphore, call: RpcCall, proceed: CallNext
    ) -> bytes | None:
        async with places:
            await self._share.acquire(tenant, READ_SECONDS)
            return await proceed(call)
