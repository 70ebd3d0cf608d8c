"""Generations that somebody is to be told of."""

from datetime import datetime

from mediagate_server.store.records import AttemptState, Generation, State
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.structs import replace
from tests.store.records import NOON, advance, generation_record, reservation, settlement


async def accepted(store: SqliteStore, name: str, url: str, tenant: str = "local") -> Generation:
    """A generation with a webhook, as it is when accepted."""
    record = generation_record(name, sends_webhook=True, tenant=tenant, parameters=())
    await store.accept(record, reservation(record), 0, webhook_url=url)
    return record


async def end(
    store: SqliteStore, record: Generation, at: datetime = NOON, state: State = State.SUCCEEDED
) -> Generation:
    """Its end, in one commit."""
    ended = replace(advance(record, state, AttemptState.SUCCEEDED, "p"), completed_at=at)
    await store.save(ended, settlement(record))
    return ended


async def deliver_end(
    store: SqliteStore, name: str, url: str, at: datetime = NOON, tenant: str = "local"
) -> Generation:
    """A generation that has ended, of which somebody is to be told."""
    return await end(store, await accepted(store, name, url, tenant), at)
