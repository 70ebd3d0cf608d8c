"""The change feed over a real store: how often it reads, and whom it wakes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from mediagate_server.errors import ServerDraining, StoredFailure, StoreUnavailable
from mediagate_server.generations.change_feed import WAKEUPS_PER_TURN, ChangeFeed
from mediagate_server.store.records import GenerationChange, GenerationFilter
from mediagate_server.store.sqlite import SqliteStore
from tests.store.records import generation_record, reservation

ALL = GenerationFilter()


class CountingStore(SqliteStore):
    """Counts what is read for those who watch."""

    reads = 0
    broken = False

    async def changed_since(
        self, tenant: str, where: GenerationFilter, after: int, limit: int
    ) -> tuple[GenerationChange, ...]:
        self.reads += 1
        if self.broken:
            raise StoreUnavailable("no disk", retry_after=1.0)
        return await super().changed_since(tenant, where, after, limit)

    async def begin_generation(self, name: str, tenant: str) -> None:
        """A generation of this tenant's begins."""
        record = generation_record(name, tenant=tenant)
        await self.accept(record, reservation(record), 0)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[CountingStore]:
    """An empty one."""
    async with CountingStore(tmp_path) as store:
        yield store


def waiting(feed: ChangeFeed, tenant: str, count: int) -> "list[asyncio.Task[object]]":
    """So many who wait for the first changes of a tenant's."""
    return [asyncio.create_task(feed.next_changes(tenant, ALL, 0)) for _ in range(count)]


async def settled(store: CountingStore) -> None:
    """What is under way in the store is done, and whoever waited for it went on."""
    for _ in range(5):
        await store.change_range()
        await store.list_generations("", ALL, 1, None)


async def test_a_change_is_read_once_for_all_watchers(store: CountingStore) -> None:
    """All are given the very same."""
    feed = ChangeFeed(store)
    watchers = waiting(feed, "a", 100)
    await settled(store)
    assert store.reads == 1
    await store.begin_generation("one", "a")
    feed.publish("a")
    results = await asyncio.wait_for(asyncio.gather(*watchers), 10)
    assert store.reads == 2
    assert all(changes is results[0] for changes in results)


async def test_watchers_are_woken_in_small_batches(store: CountingStore) -> None:
    """Between them the event loop is free for others."""
    feed = ChangeFeed(store)
    await store.begin_generation("one", "a")
    watchers = waiting(feed, "a", 5 * WAKEUPS_PER_TURN)
    woken = []
    while not all(task.done() for task in watchers):
        before = sum(task.done() for task in watchers)
        await asyncio.sleep(0)
        woken.append(sum(task.done() for task in watchers) - before)
    assert max(woken) <= WAKEUPS_PER_TURN
    assert sum(woken) == len(watchers)


async def test_another_tenants_change_wakes_no_watcher(store: CountingStore) -> None:
    """It is not even read for."""
    feed = ChangeFeed(store)
    watchers = waiting(feed, "a", 3)
    await settled(store)
    await store.begin_generation("one", "b")
    feed.publish("b")
    await settled(store)
    assert store.reads == 1
    assert not any(task.done() for task in watchers)
    for task in watchers:
        task.cancel()


async def test_a_cancelled_watcher_does_not_affect_others(store: CountingStore) -> None:
    """The first one read for all; and where the last has left, nothing is kept."""
    feed = ChangeFeed(store)
    first, second = waiting(feed, "a", 2)
    await settled(store)
    first.cancel()
    with suppress(asyncio.CancelledError):
        await first
    await store.begin_generation("one", "a")
    feed.publish("a")
    assert await asyncio.wait_for(second, 10)
    (third,) = waiting(feed, "b", 1)
    await settled(store)
    third.cancel()
    with suppress(asyncio.CancelledError):
        await third
    assert not feed._groups


async def test_a_store_failure_reaches_every_watcher(store: CountingStore) -> None:
    """With its reason; whoever comes later is read for anew."""
    feed = ChangeFeed(store)
    store.broken = True
    watchers = waiting(feed, "a", 3)
    for task in watchers:
        with pytest.raises(StoredFailure, match="no disk"):
            await asyncio.wait_for(task, 10)
    store.broken = False
    await store.begin_generation("one", "a")
    assert await asyncio.wait_for(feed.next_changes("a", ALL, 0), 10)


async def test_a_drain_ends_all_watches(store: CountingStore) -> None:
    """Those who wait, and those who come after."""
    feed = ChangeFeed(store)
    (early,) = waiting(feed, "a", 1)
    await settled(store)
    feed.drain()
    for task in (early, *waiting(feed, "a", 1)):
        with pytest.raises(StoredFailure) as caught:
            await asyncio.wait_for(task, 10)
        assert caught.value.failure.reason is ServerDraining.reason
