"""What an outbound interceptor sees of a request, and the shape that all of them have."""

from collections.abc import Awaitable, Callable
from typing import Literal, Protocol, TypeVar

from msgspec import Struct

from mediagate_server.observability.metrics import OTHER_MODEL

Endpoint = Literal["create", "get", "cancel", "list", "model", "secret", "stream", "upload"]
T = TypeVar("T")


class UpstreamRequest(Struct, frozen=True):
    """One request: where it goes, and the catalog's slug of the model it is about.

    `model` becomes a metric's label, so it is never what a caller typed.
    """

    endpoint: Endpoint
    model: str = OTHER_MODEL


class UpstreamPolicy(Protocol):
    """Advice around a request: may wait before `proceed`, look at what it did, or call it again."""

    async def __call__(self, call: UpstreamRequest, proceed: Callable[[], Awaitable[T]]) -> T:
        """The answer of `proceed`, or what it raised."""
        ...
