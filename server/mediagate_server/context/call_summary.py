"""What one rpc has to tell of the generation it served: a service fills it in as it learns.

The metering interceptor opens one for each rpc and writes it to trailer and access log at the end.
It never counts money: only settling a ledger entry does.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(slots=True)
class CallSummary:
    """One rpc's facts. `cost_nanos` (nano-dollars) stays None while the cost is not known.

    `labels` are what the request carried; they are the caller's words, so they are never logged.
    """

    tenant: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    generation_id: str = ""
    model: str = ""
    cost_nanos: int | None = None
    request_id: str = ""
    """Set once the request may be bound to a generation."""


_current: ContextVar[CallSummary] = ContextVar("mediagate_receipt")


def bind_summary(receipt: CallSummary) -> None:
    """Make `receipt` the one of the rpc being served."""
    _current.set(receipt)


def current_summary() -> CallSummary:
    """The receipt of the rpc being served. Raises LookupError outside an rpc."""
    return _current.get()


def record_binding(request_id: str, generation_id: str = "") -> None:
    """The request may be bound from now on; with the generation's id: it is. For generations.

    Does nothing outside an rpc.
    """
    receipt = _current.get(None)
    if receipt is not None:
        receipt.request_id, receipt.generation_id = request_id, generation_id


def update_summary(
    *,
    generation_id: str | None = None,
    model: str | None = None,
    cost_nanos: int | None = None,
) -> None:
    """Write what is known by now; what is None stays as it was. For services.

    `model` is a catalog slug, never what a caller typed. `cost_nanos` is what the generation has
    cost so far. Raises LookupError outside an rpc.
    """
    receipt = current_summary()
    if generation_id is not None:
        receipt.generation_id = generation_id
    if model is not None:
        receipt.model = model
    if cost_nanos is not None:
        receipt.cost_nanos = cost_nanos
