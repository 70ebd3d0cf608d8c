"""Those who watch generations change. Only what is durable is told: its number never comes again.

Whoever watches one is also told of its progress, its log and its place in the queue, which are
never stored. Changes that follow each other faster than somebody reads are told as one, as it
stands then.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

from mediagate_server.errors import StreamExpired
from mediagate_server.generations.attachment import draining
from mediagate_server.generations.change_feed import ChangeFeed, SharedChange
from mediagate_server.generations.life import Life
from mediagate_server.generations.news_limit import NewsLimit
from mediagate_server.generations.queue_positions import PositionWatch, QueuePositions
from mediagate_server.store.port import Store
from mediagate_server.store.records import Filter, Generation

_NEWS_BITS: Final = 20
_MOST_NEWS: Final = (1 << _NEWS_BITS) - 1


async def watch_one(
    life: Life,
    queue: QueuePositions,
    limit: NewsLimit,
    shown: Callable[[Generation], Generation],
    after: int,
    *,
    logs: bool,
) -> AsyncIterator[tuple[int, Generation]]:
    """The generation at every durable version, and at all news between two, up to its end.

    With sequences that grow, above `after`: the version, and behind it a count of the news that
    this watcher was told since then. `shown` adds what is not stored; `logs`: a log that grows is
    news, too. News beyond the `limit` are told later. Raises Draining.
    """
    version, count = after >> _NEWS_BITS, after & _MOST_NEWS
    told = _news(shown(life.saved.durable), logs=logs)
    place = PositionWatch(life.attempt_ids, life.announce)
    queue.watch(place)
    life.watchers += 1
    try:
        while True:
            changed = life.changed
            durable = life.saved.durable
            record = shown(durable)
            news = _news(record, logs=logs)
            if durable.version > version:
                version, count, told = durable.version, 0, news
                yield version << _NEWS_BITS, record
                continue
            if life.over:
                return
            if life.draining:
                raise draining(life.record)
            is_news = durable.version == version and news != told
            if is_news and not limit.take(durable.tenant):
                life.announce_later()
            elif is_news:
                count, told = min(count + 1, _MOST_NEWS), news
                yield version << _NEWS_BITS | count, record
                continue
            await changed.wait()
    finally:
        life.watchers -= 1
        queue.unwatch(place)


def _news(record: Generation, *, logs: bool) -> tuple[object, ...]:
    """What may change without a new version, and is worth telling."""
    position = record.place.position if record.place else None
    return position, record.progress, record.logs if logs else ""


async def beginning(store: Store, after: int) -> int:
    """From which change on to watch; 0: from now. StreamExpired where that cannot be done."""
    known = await store.sequences()
    if after == 0:
        return known.newest
    if known.oldest <= after <= known.newest:
        return after
    raise StreamExpired(
        "changes after this sequence are gone, or it was never given out",
        metadata={"after_sequence": str(after), "reached": str(known.newest)},
    )


async def watch_all(
    feed: ChangeFeed, tenant: str, wanted: Filter, after: int
) -> AsyncIterator[SharedChange]:
    """Every change above `after` of a tenant's generations that match. Raises Draining."""
    while True:
        changes = deque(await feed.after(tenant, wanted, after))
        while changes:  # Nothing is held of those that were told.
            change = changes.popleft()
            after = change.sequence
            yield change
