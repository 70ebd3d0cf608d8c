"""The place in the queue of one that waits, where several tenants have some waiting."""

from typing import Any

import pytest

from mediagate_server.generations.registry import ActiveGenerations
from mediagate_server.runtime.clock import SystemClock


def active_with(*waiting: str) -> ActiveGenerations:
    """These wait, in this order: a letter for the tenant, a number for the attempt."""
    unasked: Any = None  # Neither claims nor changes matter here.
    active = ActiveGenerations(10.0, SystemClock(), unasked, unasked)
    for attempt in waiting:
        active.enqueue(attempt, attempt[0])
    return active


@pytest.mark.parametrize(
    ("attempt", "position"),
    [("a1", 2), ("a2", 4), ("a3", 5), ("a4", 6), ("b1", 2), ("b2", 4), ("c1", None)],
)
def test_the_account_goes_from_tenant_to_tenant(attempt: str, position: int | None) -> None:
    """Of the other no more come before it than of its own, counted with itself."""
    active = active_with("a1", "a2", "a3", "b1", "a4", "b2")
    assert active.queue.position({attempt}) == position


def test_one_tenant_alone_is_served_in_order() -> None:
    """As they came."""
    active = active_with("a1", "a2", "a3")
    assert [active.queue.position({name}) for name in ("a1", "a2", "a3")] == [1, 2, 3]
    active.dequeue("a1")
    assert active.queue.position({"a3"}) == 2
