"""API key authentication, deny by default: only health and reflection need no caller.

The key comes in `authorization: Bearer <key>` and nowhere else. What is public is decided on the
service's name as gRPC routes it, never on anything else that a caller sends.
"""

import hmac
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from mediagate_server import rpc_context
from mediagate_server.api.interceptors.rpc_call import CallNext, RpcCall
from mediagate_server.config.tenants import Tenant, key_digest
from mediagate_server.errors import ApiKeyInvalid, ApiKeyMissing, ScopeMissing
from mediagate_server.rpc_context import LOCAL_CALLER, Caller

Authenticate = Callable[[RpcCall], Awaitable[Caller]]
"""Finds out who calls, or raises ApiKeyMissing or ApiKeyInvalid."""


async def authenticate_local(_: RpcCall) -> Caller:
    """Authenticate everybody as the local tenant: for a server that only this machine reaches."""
    return LOCAL_CALLER


ADMIN_SERVICE: Final = "mediagate.v1.AdminService"
"""The service that is for admins alone, whatever of it is built."""


class AuthInterceptor:
    """Authenticates the caller and binds it to the rpc."""

    def __init__(self, authenticate: Authenticate = authenticate_local) -> None:
        self._authenticate: Final = authenticate

    async def intercept(self, call: RpcCall, call_next: CallNext) -> bytes | None:
        """Authenticate and bind the caller; refuse the call where there is none."""
        if not call.method.public:
            call.caller = await self._authenticate(call)
            rpc_context.bind_caller(call.caller)
            if call.method.service == ADMIN_SERVICE and not call.caller.admin:
                raise ScopeMissing("the API key is not an admin's", metadata={"scope": "admin"})
        return await call_next(call)


_HEADER: Final = "authorization"
_SCHEME: Final = "bearer"
_MAX_HEADER_CHARS: Final = 1_024
"""Characters of a header that is worth looking at."""
_NO_CALLER: Final = (bytes(32), None)


class ApiKeyAuthenticator:
    """Authenticates callers by their API keys.

    `tenants` is asked at every rpc, so that they may change. Where there are none,
    everybody is the one local tenant.
    """

    def __init__(self, tenants: Callable[[], Sequence[Tenant]]) -> None:
        self._tenants = tenants
        self._loaded_tenants: Sequence[Tenant] = ()
        self._callers: dict[bytes, tuple[bytes, Caller]] = {}

    async def __call__(self, call: RpcCall) -> Caller:
        """The caller whose key the call carries. Raises ApiKeyMissing or ApiKeyInvalid."""
        tenants = self._tenants()
        if not tenants:
            return LOCAL_CALLER
        if tenants is not self._loaded_tenants:
            self._callers = _callers(tenants)
            self._loaded_tenants = tenants
        digest = key_digest(_bearer_key(call))
        # Looked up by the digest of what was sent, whose bytes nobody can choose: how long that
        # takes tells nothing of any key. Compared once more, in constant time, hit or miss.
        stored_digest, caller = self._callers.get(digest, _NO_CALLER)
        if not hmac.compare_digest(digest, stored_digest) or caller is None:
            raise _invalid()
        return caller


def _callers(tenants: Sequence[Tenant]) -> dict[bytes, tuple[bytes, Caller]]:
    return {
        digest: (digest, Caller(tenant.id, admin=tenant.admin))
        for tenant in tenants
        for digest in tenant.keys
    }


def _bearer_key(call: RpcCall) -> str:
    """The key of the one authorization header. A scheme's name is written in any case."""
    sent = [value for name, value in call.context.invocation_metadata() or () if name == _HEADER]
    if not sent:
        raise ApiKeyMissing("an API key is needed: authorization: Bearer <key>")
    header = sent[0]
    if len(sent) > 1 or not isinstance(header, str) or len(header) > _MAX_HEADER_CHARS:
        raise _invalid()
    scheme, _, key = header.partition(" ")
    if scheme.casefold() != _SCHEME or not key or not key.isascii():
        raise _invalid()
    return key


def _invalid() -> ApiKeyInvalid:
    return ApiKeyInvalid("the API key is not valid")
