"""Places in the queue are told as they move, however many wait."""

from collections import Counter

from mediagate_server.generations.queue_positions import (
    MAX_NOTIFIED,
    NOTIFY_SECONDS,
    PositionListener,
    QueuePositions,
)
from mediagate_server.runtime.clock import SystemClock, Timer


class Alarms(SystemClock):
    """Timers go off when the test says so."""

    def __init__(self) -> None:
        self.due: list[object] = []

    def call_later(self, seconds: float, callback: object) -> Timer:
        assert seconds == NOTIFY_SECONDS
        self.due.append(callback)
        return NoTimer()

    def pass_by(self) -> None:
        due, self.due = self.due, []
        for callback in due:
            assert callable(callback)
            callback()


class NoTimer:
    def cancel(self) -> None:
        """Nobody does."""


def watched(queue: QueuePositions, count: int, counts: Counter[int]) -> list[PositionListener]:
    """So many of one tenant's wait, and each is told."""
    watches = []
    for number in range(count):
        queue.add(str(number), "a")
        watch = PositionListener(lambda n=number: (str(n),), lambda n=number: counts.update([n]))  # type: ignore[misc]
        queue.watch(watch)
        watches.append(watch)
    return watches


def test_batch_positions_equal_single_positions() -> None:
    """Of several tenants with different numbers of attempts."""
    queue = QueuePositions(Alarms())
    for number, tenant in enumerate("aaabbacadbbaeeeee"):
        queue.add(f"{tenant}{number}", tenant)
    for gone in ("a0", "b9", "c6"):
        queue.remove(gone)
    assert queue._all() == {name: queue.position((name,)) for name in queue._all()}
    assert queue.position(("nobody",)) is None
    assert queue.position(("nobody", "a11", "a2")) == queue.position(("a2",))


def test_position_changes_are_published_once_a_second() -> None:
    """To those whose place has changed, as it is then."""
    clock, counts = Alarms(), Counter[int]()
    queue = QueuePositions(clock)
    watches = watched(queue, 5, counts)
    clock.pass_by()
    counts.clear()
    queue.remove("0")
    queue.remove("2")
    assert not counts
    clock.pass_by()
    assert counts == {1: 1, 3: 1, 4: 1}
    assert [watch.position for watch in watches] == [1, 1, 3, 2, 3]
    queue.add("new", "a")
    clock.pass_by()
    assert counts == {1: 1, 3: 1, 4: 1}
    queue.unwatch(watches[4])
    queue.remove("1")
    clock.pass_by()
    assert counts == {1: 1, 3: 2, 4: 1}


def test_without_watchers_nothing_is_computed() -> None:
    """No timer either."""
    clock = Alarms()
    queue = QueuePositions(clock)
    queue.add("1", "a")
    queue.remove("1")
    assert not clock.due


def test_thousands_of_watchers_are_updated_in_batches() -> None:
    """Far places seldom, near ones often; nobody is forgotten."""
    clock, counts = Alarms(), Counter[int]()
    queue = QueuePositions(clock)
    count = 3_000
    watches = watched(queue, count, counts)
    most = 0
    for number in range(count):
        queue.remove(str(number))
        if number % 10 == 9:  # The account's usual rate.
            before = counts.total()
            clock.pass_by()
            most = max(most, counts.total() - before)
    assert most <= MAX_NOTIFIED
    assert max(counts.values()) < 60
    assert counts.total() < count * 45
    assert all(watch.position is not None for watch in watches)
    last = watches[-1]
    assert last.position is not None
    assert last.position <= 20
