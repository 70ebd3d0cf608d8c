"""Keeps the account's rates: Replicate counts a minute's creates and everything else apart.

A create's turn is reserved by `reserve_create` or `try_reserve_create`, long before it passes here:
see `chain.Outbound`. Streams are not paced: they are opened on hosts of their own, not on the API.
"""

import asyncio
from collections.abc import Awaitable, Callable

from mediagate_server import caller, telemetry
from mediagate_server.interceptors.outbound.call import Call, T
from mediagate_server.interceptors.outbound.rate import Rate
from mediagate_server.interceptors.outbound.turn import Turn
from mediagate_server.replicate.port import Refusal, Refused

_UNTOLD_HOLD = 1.0


class Pace:
    """Two rates of one account. For one event loop."""

    def __init__(self, *, creates_per_minute: int, reads_per_minute: int) -> None:
        self._creates = Rate(creates_per_minute)
        self._reads = Rate(reads_per_minute)
        self._waits = {
            endpoint: telemetry.upstream_paced_seconds.labels(endpoint)
            for endpoint in ("create", "get", "cancel", "list", "model", "secret", "upload")
        }

    async def __call__(self, call: Call, proceed: Callable[[], Awaitable[T]]) -> T:
        """All but creates wait for their turn here; a throttled answer holds its whole kind."""
        if call.endpoint == "stream":
            return await proceed()
        if call.endpoint == "create":
            return await self._create(proceed)
        # A run that is to be cancelled is paid for while its cancel waits behind the polls.
        first, rate = call.endpoint == "cancel", self._reads
        waited = await (rate.take_first() if first else rate.take(caller.tenant()))
        self._waits[call.endpoint].observe(waited)
        try:
            return await proceed()
        except Refused as refused:
            if refused.refusal is Refusal.THROTTLED:
                # The limit is the account's: whoever asks next would only be refused too.
                told = refused.retry_after
                rate.hold(_UNTOLD_HOLD if told is None else told)
            raise

    async def _create(self, proceed: Callable[[], Awaitable[T]]) -> T:
        sent_at = asyncio.get_running_loop().time()
        try:
            answer = await proceed()
        except BaseException as failure:
            if isinstance(failure, Refused) and failure.refusal is Refusal.THROTTLED:
                self._creates.refused(sent_at, failure.retry_after)
                if failure.per_minute is not None:
                    self._creates.reduce(failure.per_minute)
            else:
                self._creates.answered(sent_at)
            raise
        self._creates.answered(sent_at)
        return answer

    @property
    def seconds_held(self) -> float:
        """Until the wait before the next create is over that upstream has asked for."""
        return self._creates.seconds_held

    @property
    def creates_per_second(self) -> float | None:
        """What upstream has reduced the account to; None: nothing of the kind."""
        reduced = self._creates.reduced_to
        return None if reduced is None else reduced / 60.0

    def try_reserve_create(self) -> Turn | None:
        """Reserve a create's turn if it is free now and nobody waits for one."""
        turn = self._creates.try_reserve()
        if turn is not None:
            self._waits["create"].observe(0.0)
        return turn

    async def reserve_create(self, *, again: bool = False) -> Turn:
        """Wait for a create's turn, one tenant after the other, and reserve it.

        `again`: for one whose last turn upstream's own limit has refused.
        """
        started = asyncio.get_running_loop().time()
        turn = await self._creates.reserve(caller.tenant(), again=again)
        self._waits["create"].observe(asyncio.get_running_loop().time() - started)
        return turn
