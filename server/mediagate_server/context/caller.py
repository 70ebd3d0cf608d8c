"""Caller of the rpc being served: bound by the authentication interceptor.

A generation goes on when its rpc has ended, and after a restart without any: it binds its tenant.
"""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """One authenticated caller. `tenant` is an internal id: it owns generations and pays.

    `admin`: it may call AdminService, and ask what others spend.
    """

    tenant: str
    admin: bool = False


LOCAL_CALLER = Caller(tenant="local", admin=True)
"""The one tenant of a server without configured keys, which listens on loopback only unless
something else guards it: every caller is an admin."""

_current: ContextVar[Caller] = ContextVar("mediagate_caller")


def bind_caller(caller: Caller) -> None:
    """Make `caller` the current one for the rest of this rpc."""
    _current.set(caller)


def current_tenant() -> str:
    """The tenant that work is for, where it is scheduled by tenant; empty: the server's own."""
    bound = _current.get(None)
    return bound.tenant if bound else ""


def current_caller() -> Caller:
    """The caller of the rpc being served. Raises LookupError outside an rpc."""
    return _current.get()
