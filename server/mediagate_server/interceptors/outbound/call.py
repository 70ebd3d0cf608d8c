"""What an outbound interceptor sees of a request, and the shape that all of them have."""

from collections.abc import Awaitable, Callable
from typing import Final, Literal, Protocol, TypeVar

from msgspec import Struct

Endpoint = Literal["create", "get", "cancel", "list", "model", "secret", "stream", "upload"]

OTHER: Final = "other"
"""The model label of requests that belong to no model of the catalog."""

T = TypeVar("T")


class Call(Struct, frozen=True):
    """One request: where it goes, and the catalog's slug of the model it is about.

    `model` becomes a metric's label, so it is never what a caller typed.
    """

    endpoint: Endpoint
    model: str = OTHER


class Interceptor(Protocol):
    """Advice around a request: may wait before `proceed`, look at what it did, or call it again."""

    async def __call__(self, call: Call, proceed: Callable[[], Awaitable[T]]) -> T:
        """The answer of `proceed`, or what it raised."""
        ...
