"""Context of the rpc being served: its caller, and its summary for cost trailer and access log.

The caller is bound by the authentication interceptor. A generation goes on when its rpc has ended,
and after a restart without any: it binds its tenant.

The summary is bound by the metering interceptor, filled in by services, and written at the end. It
never counts money: only settling a ledger entry does.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType


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
_caller: ContextVar[Caller] = ContextVar("mediagate_caller")


def bind_caller(caller: Caller) -> None:
    """Make `caller` the current one for the rest of this rpc."""
    _caller.set(caller)


def current_tenant() -> str:
    """The tenant that work is for, where it is scheduled by tenant; empty: the server's own."""
    bound = _caller.get(None)
    return bound.tenant if bound else ""


def current_caller() -> Caller:
    """The caller of the rpc being served. Raises LookupError outside an rpc."""
    return _caller.get()


@dataclass(slots=True)
class CallSummary:
    """Facts of one rpc. `cost_nanos` (nano-dollars) stays None while the cost is not known.

    `labels` are what the request carried; they are the caller's words, so they are never logged.
    """

    tenant: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    generation_id: str = ""
    model: str = ""
    cost_nanos: int | None = None
    request_id: str = ""
    """Set once the request may be bound to a generation."""


_summary: ContextVar[CallSummary] = ContextVar("mediagate_receipt")


def bind_summary(summary: CallSummary) -> None:
    """Bind the summary to the rpc being served."""
    _summary.set(summary)


def current_summary() -> CallSummary:
    """The summary of the rpc being served. Raises LookupError outside an rpc."""
    return _summary.get()


def record_binding(request_id: str, generation_id: str = "") -> None:
    """Record that the request may be bound; with a generation's id: that it is. For generations.

    Does nothing outside an rpc.
    """
    summary = _summary.get(None)
    if summary is not None:
        summary.request_id, summary.generation_id = request_id, generation_id


def update_summary(
    *,
    generation_id: str | None = None,
    model: str | None = None,
    cost_nanos: int | None = None,
) -> None:
    """Update the summary; what is None stays as it was. For services.

    `model` is a catalog slug, never what a caller typed. `cost_nanos` is what the generation has
    cost so far. Raises LookupError outside an rpc.
    """
    summary = current_summary()
    if generation_id is not None:
        summary.generation_id = generation_id
    if model is not None:
        summary.model = model
    if cost_nanos is not None:
        summary.cost_nanos = cost_nanos
