"""Admission control: a bound on the rpcs that are open at once, shared out among callers.

A caller may hold at most as many places as are still free: one alone half of them, two a third
each, and whoever comes next finds as many as each of those has. So no caller keeps another out,
and nobody has to say beforehand how many there will be.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from mediagate_server import telemetry
from mediagate_server.errors import TooManyRpcs
from mediagate_server.interceptors.inbound.call import Call, Proceed

_RETRY_SECONDS: Final = 1.0
_ANYBODY: Final = ""
"""Who watches health or reads reflection shows no key: all of them count as one caller."""


class Admission:
    """Refuses rpcs beyond the bound, before anything else is done for them. Stands behind `auth`.

    `max_open_rpcs` is asked at every rpc, so that it may change while we run; 0 is no bound. A
    unary call for health always passes: a load balancer would else take us for dead.
    """

    def __init__(self, max_open_rpcs: Callable[[], int]) -> None:
        self._max_open_rpcs = max_open_rpcs
        self._held: dict[str, int] = {}
        self.open = 0
        """Rpcs that are open now."""

    def around(self, call: Call, proceed: Proceed) -> Awaitable[bytes | None]:
        """Take a place for as long as the rpc is open. Raises TooManyRpcs."""
        method = call.method
        if method.public and not method.response_streaming:
            return proceed(call)
        tenant = call.caller.tenant if call.caller else _ANYBODY
        limit = self._max_open_rpcs()
        if limit and self._held.get(tenant, 0) >= max(limit - self.open, 0):
            telemetry.rpcs_refused.inc()
            raise TooManyRpcs(
                "too many rpcs are open",
                metadata={"tenant": tenant} if tenant else {},
                retry_after=_RETRY_SECONDS,
            )
        return self._admitted(tenant, call, proceed)

    def is_open_beside(self, tenant: str) -> bool:
        """Whether any tenant but this one has an rpc that is open."""
        return self.open > self._held.get(tenant, 0) + self._held.get(_ANYBODY, 0)

    async def _admitted(self, tenant: str, call: Call, proceed: Proceed) -> bytes | None:
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
