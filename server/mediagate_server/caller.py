"""Who is calling. The auth interceptor binds it; whoever needs it asks `current()`."""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """One authenticated caller. `tenant` is an internal id: it owns generations and pays."""

    tenant: str


LOCAL = Caller(tenant="local")
"""The one tenant of a gate without configured keys, which then listens on loopback only."""

_current: ContextVar[Caller] = ContextVar("mediagate_caller")


def bind(caller: Caller) -> None:
    """Make `caller` the current one for the rest of this rpc."""
    _current.set(caller)


def current() -> Caller:
    """The caller of the rpc being served. Raises LookupError outside an rpc."""
    return _current.get()
