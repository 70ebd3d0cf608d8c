"""Builders of catalog values for tests."""

from mediagate_server.catalog.pricing.prices import Estimate
from mediagate_server.catalog.request import MediaInput, Message


def exact_estimate(nanos: int) -> Estimate:
    """Return an estimate of a cost that is known exactly, in nano-dollars."""
    return Estimate(nanos, nanos, nanos)


def message(role: str, *parts: str | MediaInput) -> Message:
    """Return a chat message."""
    return Message(role, parts)
