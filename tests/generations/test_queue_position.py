"""The place in the queue of one that waits, where several tenants have some waiting."""

import pytest

from mediagate_server.generations.queue_positions import QueuePositions
from mediagate_server.runtime.clock import SystemClock


def queue_of(*waiting: str) -> QueuePositions:
    """These wait, in this order: a letter for the tenant, a number for the attempt."""
    queue = QueuePositions(SystemClock())
    for attempt in waiting:
        queue.add(attempt, attempt[0])
    return queue


@pytest.mark.parametrize(
    ("attempt", "position"),
    [("a1", 2), ("a2", 4), ("a3", 5), ("a4", 6), ("b1", 2), ("b2", 4), ("c1", None)],
)
def test_positions_follow_round_robin_over_tenants(attempt: str, position: int | None) -> None:
    """Of the other no more come before it than of its own, counted with itself."""
    queue = queue_of("a1", "a2", "a3", "b1", "a4", "b2")
    assert queue.position({attempt}) == position


def test_one_tenant_alone_is_served_in_order() -> None:
    """As they came."""
    queue = queue_of("a1", "a2", "a3")
    assert [queue.position({name}) for name in ("a1", "a2", "a3")] == [1, 2, 3]
    queue.remove("a1")
    assert queue.position({"a3"}) == 2
