"""Says who is calling. Denies by default: only health and reflection need no caller.

Decided on the service's name as gRPC routes it, never on anything else that a caller sends.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from mediagate_server import caller
from mediagate_server.caller import LOCAL, Caller
from mediagate_server.errors import ScopeMissing
from mediagate_server.interceptors.inbound.call import Call, Proceed

Authenticate = Callable[[Call], Awaitable[Caller]]
"""Finds out who calls, or raises KeyMissing or KeyInvalid."""


async def local(_: Call) -> Caller:
    """Everybody is the one local tenant: for a gate that only this machine can reach."""
    return LOCAL


ADMIN_SERVICE: Final = "mediagate.v1.AdminService"
"""The service that is for admins alone, whatever of it is built."""


class Auth:
    """Binds the caller before anything else may happen in his name."""

    def __init__(self, authenticate: Authenticate = local) -> None:
        self._authenticate: Final = authenticate

    async def around(self, call: Call, proceed: Proceed) -> bytes | None:
        """Find the caller and bind him; refuse the call where there is none."""
        if not call.method.public:
            call.caller = await self._authenticate(call)
            caller.bind(call.caller)
            if call.method.service == ADMIN_SERVICE and not call.caller.admin:
                raise ScopeMissing("the API key is not an admin's", metadata={"scope": "admin"})
        return await proceed(call)
