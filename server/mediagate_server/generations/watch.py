"""Watching of generations. Only durable versions are reported: their numbers never come again.

Whoever watches one also gets its progress, its log and its queue position, which are never stored.
Changes that follow each other faster than somebody reads are reported as one, as it stands then.
These news have no end, and anybody may open thousands of watches of one generation: between two
versions they are limited by tenant.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Final

from mediagate_server.errors import StreamExpired
from mediagate_server.generations.change_feed import ChangeFeed, SharedChange
from mediagate_server.generations.execution.attachment import draining_error
from mediagate_server.generations.execution.generation_run import GenerationRun
from mediagate_server.generations.queue_positions import PositionListener, QueuePositions
from mediagate_server.store.generations import GenerationStore
from mediagate_server.store.records import Generation, GenerationFilter

MAX_NOTIFICATIONS: Final = 200
"""In a second, to all who watch generations of one tenant."""


class NotificationLimit:
    """A window of a second for each tenant. What is over it is told later, as it stands then."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._counts: dict[str, tuple[int, int]] = {}
        """The second that counts, and how many were told in it."""

    def take(self, tenant: str) -> bool:
        """Whether one more may be told now; then it counts."""
        now = int(self._now().timestamp())
        second, reported = self._counts.get(tenant, (now, 0))
        if second != now:
            reported = 0
        if reported >= MAX_NOTIFICATIONS:
            return False
        self._counts[tenant] = (now, reported + 1)
        return True


_NEWS_BITS: Final = 20
_MOST_NEWS: Final = (1 << _NEWS_BITS) - 1


async def watch_one(
    run: GenerationRun,
    queue: QueuePositions,
    limit: NotificationLimit,
    with_live_state: Callable[[Generation], Generation],
    after: int,
    *,
    logs: bool,
) -> AsyncIterator[tuple[int, Generation]]:
    """The generation at every durable version, and at all news between two, up to its end.

    With sequences that grow, above `after`: the version, and behind it a count of the news that
    this watcher has got since then. `with_live_state` adds what is not stored; `logs`: a log that
    grows is news, too. News beyond the `limit` come later. Raises ServerDraining.
    """
    version, count = after >> _NEWS_BITS, after & _MOST_NEWS
    reported = _news(with_live_state(run.saved.durable), logs=logs)
    position_listener = PositionListener(run.attempt_ids, run.changed.notify)
    queue.watch(position_listener)
    run.watch()
    try:
        while True:
            seen = run.changed.count
            durable = run.saved.durable
            record = with_live_state(durable)
            news = _news(record, logs=logs)
            if durable.version > version:
                version, count, reported = durable.version, 0, news
                yield version << _NEWS_BITS, record
                continue
            if run.is_over:
                return
            if run.is_draining:
                raise draining_error(run.record)
            is_news = durable.version == version and news != reported
            if is_news and not limit.take(durable.tenant):
                run.notify_changed_soon()
            elif is_news:
                count, reported = min(count + 1, _MOST_NEWS), news
                yield version << _NEWS_BITS | count, record
                continue
            await run.changed.wait(seen)
    finally:
        run.unwatch()
        queue.unwatch(position_listener)


def _news(record: Generation, *, logs: bool) -> tuple[object, ...]:
    """What may change without a new version, and is worth telling."""
    position = record.queue_position.position if record.queue_position else None
    return position, record.progress, record.logs if logs else ""


async def start_sequence(store: GenerationStore, after: int) -> int:
    """From which change on to watch; 0: from now. StreamExpired where that cannot be done."""
    known = await store.change_range()
    if after == 0:
        return known.newest
    if known.oldest <= after <= known.newest:
        return after
    raise StreamExpired(
        "changes after this sequence are gone, or it was never given out",
        metadata={"after_sequence": str(after), "reached": str(known.newest)},
    )


async def watch_all(
    feed: ChangeFeed, tenant: str, generation_filter: GenerationFilter, after: int
) -> AsyncIterator[SharedChange]:
    """Every change above `after` of a tenant's generations that match. Raises Draining."""
    while True:
        changes = deque(await feed.next_changes(tenant, generation_filter, after))
        while changes:  # Nothing is held of those that were told.
            change = changes.popleft()
            after = change.sequence
            yield change
