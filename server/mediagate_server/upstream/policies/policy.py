"""Protocol of upstream policies, and the request as they see it."""

from collections.abc import Awaitable, Callable
from typing import Literal, Protocol, TypeVar

from msgspec import Struct

from mediagate_server.observability.metrics import OTHER_MODEL

Endpoint = Literal["create", "get", "cancel", "list", "model", "secret", "stream", "upload"]
T = TypeVar("T")


class UpstreamRequest(Struct, frozen=True):
    """A request to upstream: its endpoint, and the catalog's slug of its model.

    `model` becomes a metric's label, so it is never what a caller typed.
    """

    endpoint: Endpoint
    model: str = OTHER_MODEL


class UpstreamPolicy(Protocol):
    """Middleware of requests: may wait before `call_next`, observe its result, or call it again."""

    async def __call__(self, call: UpstreamRequest, call_next: Callable[[], Awaitable[T]]) -> T:
        """Return what `call_next` returns, or raise what it raises."""
        ...
