"""Admission interceptors: open rpcs, received messages and concurrent reads, shared among tenants.

`AdmissionInterceptor` bounds the rpcs that are open at once. A caller may hold at most as many
places as are still free: one alone half of them, two a third each, and whoever comes next finds as
many as each of those has. So no caller keeps another out, and nobody has to say beforehand how many
there will be.

`ReceiveLimitInterceptor` receives the request message of an rpc that has just one, once its caller
is known and admitted. gRPC itself would receive it before anybody was asked, whoever calls, and
hold its bytes (up to 4 MiB) for as long as the rpc lasts: for a waiting call, the minutes of a run.
Every method is therefore a request stream to gRPC, which is the same on the wire, and is read here.

A message takes some three times its size while it is received, all of it in gRPC. Few of a tenant's
are received at the same time; whoever sends only half of one holds up nobody else's, and not his
own for long. A large one is decoded here as well, in turns that the event loop can stand.

`ConcurrencyLimitInterceptor` bounds the reads and lists of one tenant that run at the same time.
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
_ANONYMOUS: Final = ""
"""Who watches health or reads reflection shows no key: all of them count as one caller."""


class AdmissionInterceptor:
    """Bounds the open rpcs, before anything else is done for them. Comes after authentication.

    `max_open_rpcs` is asked at every rpc, so that it may change while we run; 0 is no bound. A
    unary call for health always passes: a load balancer would else take us for dead.
    """

    def __init__(self, max_open_rpcs: Callable[[], int]) -> None:
        self._max_open_rpcs = max_open_rpcs
        self._open_by_tenant: dict[str, int] = {}
        self.open = 0
        """Rpcs that are open now."""

    def intercept(self, call: RpcCall, call_next: CallNext) -> Awaitable[bytes | None]:
        """Count the rpc for as long as it is open. Raises TooManyRpcs."""
        method = call.method
        if method.public and not method.response_streaming:
            return call_next(call)
        tenant = call.caller.tenant if call.caller else _ANONYMOUS
        limit = self._max_open_rpcs()
        if limit and self._open_by_tenant.get(tenant, 0) >= max(limit - self.open, 0):
            metrics.rpcs_refused.inc()
            raise TooManyRpcs(
                "too many rpcs are open",
                metadata={"tenant": tenant} if tenant else {},
                retry_after=_RETRY_SECONDS,
            )
        return self._count_and_call(tenant, call, call_next)

    def has_other_open_rpcs(self, tenant: str) -> bool:
        """Whether any tenant but this one has an rpc that is open."""
        return self.open > self._open_by_tenant.get(tenant, 0) + self._open_by_tenant.get(
            _ANONYMOUS, 0
        )

    async def _count_and_call(
        self, tenant: str, call: RpcCall, call_next: CallNext
    ) -> bytes | None:
        self.open += 1
        self._open_by_tenant[tenant] = self._open_by_tenant.get(tenant, 0) + 1
        try:
            return await call_next(call)
        finally:
            self.open -= 1
            left = self._open_by_tenant[tenant] - 1
            if left:
                self._open_by_tenant[tenant] = left
            else:
                del self._open_by_tenant[tenant]


MAX_RECEIVING: Final = 16
"""Messages of one tenant that are received at the same time."""
CALL_SECONDS: Final = 0.0005
"""By which two calls of one tenant are apart while another tenant is there, whatever they ask."""
RECEIVE_SECONDS: Final = 60.0
"""In which a message has to come whole, at 70 KB/s for the largest."""


class ReceiveLimitInterceptor:
    """Limits the messages of each tenant that are received at once.

    Comes after authentication, before whatever reads the request.

    Tenants are those that are configured: their number is bounded. `seconds`, in which a message
    has to come whole, are asked for each.
    """

    def __init__(
        self,
        scheduler: FairScheduler,
        limit: int = MAX_RECEIVING,
        seconds: Callable[[], float] = lambda: RECEIVE_SECONDS,
    ) -> None:
        self._scheduler: Final = scheduler
        self._limit: Final = limit
        self._seconds = seconds
        self._semaphores: dict[tuple[str, bool], asyncio.Semaphore] = {}

    def intercept(self, call: RpcCall, call_next: CallNext) -> Awaitable[bytes | None]:
        """Receive the message; wait for a slot first, where the tenant uses all of them."""
        if call.caller is not None:
            self._scheduler.record_request(call.caller.tenant)
        if call.method.request_streaming:
            call.scheduler = self._scheduler
            return call_next(call)
        return self._call_with_message(call, call_next)

    async def _call_with_message(self, call: RpcCall, call_next: CallNext) -> bytes | None:
        if call.caller is None:
            await self._receive(call)
            return await call_next(call)
        tenant = call.caller.tenant
        slots = self._receive_slots(tenant, call.method)
        await slots.acquire()
        try:
            size = await self._receive(call)
            if not self._scheduler.has_no_wait(tenant):
                await self._scheduler.acquire(tenant, CALL_SECONDS + size * BYTE_SECONDS)
            if size > MAX_STEP:
                with await self._scheduler.acquire_step(tenant):
                    call.decode()
        finally:
            slots.release()
        return await call_next(call)

    async def _receive(self, call: RpcCall) -> int:
        """How large it is, in bytes. Raises InvalidRequest where none comes."""
        seconds = self._seconds()
        try:
            async with asyncio.timeout(seconds):
                raw = await call.context.read()
        except TimeoutError:
            raise InvalidRequest.of("request", f"must come whole within {seconds:g} s") from None
        if raw is grpc.aio.EOF:
            # It is also what a caller that has left looks like; that is to end as a cancel.
            await asyncio.sleep(0)
            raise InvalidRequest.of("request", "must be sent")
        call.receive(raw)
        return len(raw)

    def _receive_slots(self, tenant: str, method: RpcMethod) -> asyncio.Semaphore:
        """The slots for messages like this one.

        Requests that may be large have slots of their own: whoever sends these slowly does not
        delay cancels and reads.
        """
        key = (tenant, method.is_billable)
        slots = self._semaphores.get(key)
        if slots is None:
            slots = self._semaphores[key] = asyncio.Semaphore(self._limit)
        return slots


MAX_CONCURRENT_READS: Final = 2
"""Of one tenant: one is encoded while another is read. The store reads lists in one thread, so that
more of them would be done no sooner, and another tenant's call would be behind each of them.
"""
READ_SECONDS: Final = 0.002
"""By which two of them are apart while another tenant is there."""


class ConcurrencyLimitInterceptor:
    """Limits the concurrent rpcs of each tenant to the methods at `paths`.

    Comes after authentication.

    Tenants are those that are configured: their number is bounded.
    """

    def __init__(
        self, scheduler: FairScheduler, paths: Collection[str], limit: int = MAX_CONCURRENT_READS
    ) -> None:
        self._scheduler: Final = scheduler
        self._paths: Final = frozenset(paths)
        self._limit: Final = limit
        self._tenants: dict[str, asyncio.Semaphore] = {}

    def intercept(self, call: RpcCall, call_next: CallNext) -> Awaitable[bytes | None]:
        """Hold a slot for as long as the rpc runs; wait for one where all are in use."""
        if call.caller is None or call.method.path not in self._paths:
            return call_next(call)
        tenant = call.caller.tenant
        slots = self._tenants.get(tenant)
        if slots is None:
            slots = self._tenants[tenant] = asyncio.Semaphore(self._limit)
        return self._call_limited(tenant, slots, call, call_next)

    async def _call_limited(
        self, tenant: str, slots: asyncio.Semaphore, call: RpcCall, call_next: CallNext
    ) -> bytes | None:
        async with slots:
            await self._scheduler.acquire(tenant, READ_SECONDS)
            return await call_next(call)
