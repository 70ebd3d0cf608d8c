"""Pacing of an account: one rate limiter for creates and one for all other API requests.

A create's slot is reserved by `acquire_create` or `try_acquire_create`, before it passes here (see
`ResilientUpstream`). Streams are not paced: their hosts are not the API's.
"""

import asyncio
from collections.abc import Awaitable, Callable

from mediagate_server import rpc_context
from mediagate_server.observability import metrics
from mediagate_server.upstream.policies.policy import T, UpstreamRequest
from mediagate_server.upstream.policies.rate_limiter import RateLimiter
from mediagate_server.upstream.port import CreateReservation, RefusalReason, RequestRefused

_DEFAULT_PAUSE_SECONDS = 1.0


class Pacer:
    """The two rate limiters of one account. For one event loop."""

    def __init__(self, *, creates_per_minute: int, reads_per_minute: int) -> None:
        self._creates = RateLimiter(creates_per_minute)
        self._reads = RateLimiter(reads_per_minute)
        self._waits = {
            endpoint: metrics.upstream_paced_seconds.labels(endpoint)
            for endpoint in ("create", "get", "cancel", "list", "model", "secret", "upload")
        }

    async def __call__(self, call: UpstreamRequest, call_next: Callable[[], Awaitable[T]]) -> T:
        """Wait for a slot, except creates; a 429 pauses all requests of its kind."""
        if call.endpoint == "stream":
            return await call_next()
        if call.endpoint == "create":
            return await self._create(call_next)
        # A run costs money while its cancel waits, so cancels do not wait behind polls.
        first, rate = call.endpoint == "cancel", self._reads
        waited = await (
            rate.acquire_first() if first else rate.acquire(rpc_context.current_tenant())
        )
        self._waits[call.endpoint].observe(waited)
        try:
            return await call_next()
        except RequestRefused as refused:
            if refused.refusal is RefusalReason.THROTTLED:
                # The limit is the account's: the next request would be refused too.
                retry_after = refused.retry_after
                rate.pause(_DEFAULT_PAUSE_SECONDS if retry_after is None else retry_after)
            raise

    async def _create(self, call_next: Callable[[], Awaitable[T]]) -> T:
        sent_at = asyncio.get_running_loop().time()
        try:
            answer = await call_next()
        except BaseException as failure:
            if isinstance(failure, RequestRefused) and failure.refusal is RefusalReason.THROTTLED:
                self._creates.on_throttled(sent_at, failure.retry_after)
                if failure.per_minute is not None:
                    self._creates.reduce_to(failure.per_minute)
            else:
                self._creates.on_accepted(sent_at)
            raise
        self._creates.on_accepted(sent_at)
        return answer

    @property
    def backoff_seconds(self) -> float:
        """Seconds until upstream allows the next create."""
        return self._creates.backoff_seconds

    @property
    def creates_per_second(self) -> float | None:
        """The rate that upstream has reduced the account to; None: not reduced."""
        reduced = self._creates.reduced_rate
        return None if reduced is None else reduced / 60.0

    def try_acquire_create(self) -> CreateReservation | None:
        """Reserve a slot for a create if one is free now and nobody waits."""
        turn = self._creates.try_reserve()
        if turn is not None:
            self._waits["create"].observe(0.0)
        return turn

    async def acquire_create(self, *, again: bool = False) -> CreateReservation:
        """Wait for a slot for a create, with fair queuing of tenants, and reserve it.

        `again`: its last create was refused with 429, so it goes first.
        """
        started = asyncio.get_running_loop().time()
        turn = await self._creates.reserve(rpc_context.current_tenant(), again=again)
        self._waits["create"].observe(asyncio.get_running_loop().time() - started)
        return turn
