"""From `authorization: Bearer <key>`, and nothing else, to the tenant whose key it is."""

import hmac
from collections.abc import Callable, Sequence
from typing import Final

from mediagate_server.caller import LOCAL, Caller
from mediagate_server.config.tenants import Tenant, key_digest
from mediagate_server.errors import KeyInvalid, KeyMissing
from mediagate_server.interceptors.inbound.call import Call

_HEADER: Final = "authorization"
_SCHEME: Final = "bearer"
_MOST: Final = 1_024
"""Characters of a header that is worth looking at."""

_NOBODY: Final = (bytes(32), None)


class Keys:
    """Finds callers by their keys. `tenants` is asked at every rpc, so that they may change.

    Where there are none, everybody is the one local tenant.
    """

    def __init__(self, tenants: Callable[[], Sequence[Tenant]]) -> None:
        self._tenants = tenants
        self._known: Sequence[Tenant] = ()
        self._callers: dict[bytes, tuple[bytes, Caller]] = {}

    async def __call__(self, call: Call) -> Caller:
        """Whose key the call carries. Raises KeyMissing or KeyInvalid, which look alike for all."""
        tenants = self._tenants()
        if not tenants:
            return LOCAL
        if tenants is not self._known:
            self._callers = _callers(tenants)
            self._known = tenants
        digest = key_digest(_key_of(call))
        # Found by the digest of what was sent, whose bytes nobody can choose: how long that takes
        # tells nothing of any key. Compared once more, in constant time, hit or miss.
        known, caller = self._callers.get(digest, _NOBODY)
        if not hmac.compare_digest(digest, known) or caller is None:
            raise _invalid()
        return caller


def _callers(tenants: Sequence[Tenant]) -> dict[bytes, tuple[bytes, Caller]]:
    return {
        digest: (digest, Caller(tenant.id, admin=tenant.admin))
        for tenant in tenants
        for digest in tenant.keys
    }


def _key_of(call: Call) -> str:
    """The key of the one authorization header. A scheme's name is written in any case."""
    sent = [value for name, value in call.context.invocation_metadata() or () if name == _HEADER]
    if not sent:
        raise KeyMissing("an API key is needed: authorization: Bearer <key>")
    header = sent[0]
    if len(sent) > 1 or not isinstance(header, str) or len(header) > _MOST:
        raise _invalid()
    scheme, _, key = header.partition(" ")
    if scheme.casefold() != _SCHEME or not key or not key.isascii():
        raise _invalid()
    return key


def _invalid() -> KeyInvalid:
    return KeyInvalid("the API key is not valid")
