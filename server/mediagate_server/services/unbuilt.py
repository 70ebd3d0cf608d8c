"""The rpcs that the contract has and this server does not serve yet, as data.

The interceptor chain is given this set and answers them with NOT_IMPLEMENTED itself, so that they
are counted, authenticated and limited like any other and need no servicer.
"""

from typing import Final

_ADMIN: Final = (
    "CreateKey",
    "ListKeys",
    "RevokeKey",
)

NOT_BUILT_METHODS: Final = frozenset(
    {
        *(f"/mediagate.v1.AdminService/{name}" for name in _ADMIN),
    }
)
"""Paths of all of them; the changelog lists the same."""
