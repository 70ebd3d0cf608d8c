"""The place in the queue of one that waits, where several tenants have some waiting."""

from typing import Any

import pytest

from mediagate_server.generations.registry import ActiveGenerations
from mediagate_server.runtime.clock import SystemClock


def roll_of(*waiting: str) -> ActiveGenerations:
    """These wait, in this order: a letter for the tenant, a number for the attempt."""
    unasked: Any = None  # Neither claims nor changes matter here.
    roll = ActiveGenerations(10.0, SystemClock(), unasked, unasked)
    for attempt in waiting:
        roll.enqueue(attempt, attempt[0])
    return roll


@pytest.mark.parametrize(
    ("attempt", "position"),
    [("a1", 2), ("a2", 4), ("a3", 5), ("a4", 6), ("b1", 2), ("b2", 4), ("c1", None)],
)
def test_the_account_goes_from_tenant_to_tenant(attempt: str, position: int | None) -> None:
    """Of the other no more come before it than of its own, counted with itself."""
    roll = roll_of("a1", "a2", "a3", "b1", "a4", "b2")
    assert roll.queue.position({attempt}) == position


def test_one_tenant_alone_is_served_in_order() -> None:
    """As they came."""
    roll = roll_of("a1", "a2", "a3")
    assert [roll.queue.position({one}) for one in ("a1", "a2", "a3")] == [1, 2, 3]
    roll.dequeue("a1")
    assert roll.queue.position({"a3"}) == 2
