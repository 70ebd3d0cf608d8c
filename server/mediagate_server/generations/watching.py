"""Those who watch generations change. Only what is durable is told: its number never comes again.

Changes that follow each other faster than somebody reads are told as one, as it stands then.
"""

from collections import deque
from collections.abc import AsyncIterator

from mediagate_server.errors import StreamExpired
from mediagate_server.generations.attachment import draining
from mediagate_server.generations.change_feed import ChangeFeed, SharedChange
from mediagate_server.generations.life import Life
from mediagate_server.store.port import Store
from mediagate_server.store.records import Filter, Generation


async def watch_one(life: Life, after: int) -> AsyncIterator[Generation]:
    """The generation at every durable version above `after`, up to its end. Raises Draining."""
    while True:
        changed = life.changed
        durable = life.saved.durable
        if durable.version > after:
            after = durable.version
            yield durable
            continue
        if life.over:
            return
        if life.draining:
            raise draining()
        await changed.wait()


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
