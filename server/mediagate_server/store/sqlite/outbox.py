"""`SqliteOutbox`: the outbox port over the store's own threads."""

import asyncio
from collections.abc import Collection
from datetime import datetime

from mediagate_server.store.outbox import Callback, Places, Rotated
from mediagate_server.store.sealing import Seal
from mediagate_server.store.sqlite import callbacks, webhook_secrets
from mediagate_server.store.sqlite.reader import Reader
from mediagate_server.store.sqlite.writer import GroupCommitWriter


def no_webhook(_tenant: str) -> str:
    """For a store whose tenants are told nothing."""
    return ""


class SqliteOutbox:
    """Implements `outbox.Outbox`. Made by the store, which fills it."""

    def __init__(self, writer: GroupCommitWriter, reader: Reader, seal: Seal) -> None:
        self._writer = writer
        self._reader = reader
        self._seal = seal
        self.changed = asyncio.Event()
        """See outbox.Outbox."""

    def filled(self, commit: "asyncio.Future[int]") -> None:
        """A commit that puts something in is on its way: tell it once it is durable."""
        commit.add_done_callback(
            lambda done: None if done.cancelled() or done.exception() else self.changed.set()
        )

    async def due(
        self,
        now: datetime,
        places: Places,
        *,
        not_ids: Collection[str],
        not_hosts: Collection[tuple[str, str]],
    ) -> tuple[Callback, ...]:
        """See outbox.Outbox."""
        ids, hosts = tuple(not_ids), tuple(not_hosts)
        return await self._reader.read(
            lambda c: callbacks.due(c, self._seal, now, places, ids, hosts)
        )

    async def next_due(self, after: datetime) -> datetime | None:
        """See outbox.Outbox."""
        return await self._reader.read(lambda c: callbacks.next_due(c, after))

    async def delivered(self, callback_id: str) -> None:
        """See outbox.Outbox."""
        await self._writer.submit(lambda c: callbacks.forget(c, callback_id))

    async def failed(self, tried: Callback, again_at: datetime | None) -> None:
        """See outbox.Outbox."""
        await self._writer.submit(lambda c: callbacks.failed(c, tried, again_at))

    async def undelivered(self, tenant: str, limit: int, after: str) -> tuple[Callback, ...]:
        """See outbox.Outbox."""
        return await self._reader.read(
            lambda c: callbacks.undelivered(c, self._seal, tenant, limit, after)
        )

    async def find_undelivered(self, callback_id: str) -> Callback | None:
        """See outbox.Outbox."""
        return await self._reader.read(
            lambda c: callbacks.find_undelivered(c, self._seal, callback_id)
        )

    async def secrets(self, tenant: str, now: datetime) -> tuple[bytes, ...]:
        """See outbox.Outbox."""
        found = await self._reader.read(
            lambda c: webhook_secrets.in_force(c, self._seal, tenant, now)
        )
        if found:
            return found
        drawn: tuple[bytes, ...] = await self._writer.submit(
            lambda c: webhook_secrets.drawn(c, self._seal, tenant, now)
        )
        return drawn

    async def rotate_secret(self, tenant: str, now: datetime, until: datetime) -> Rotated:
        """See outbox.Outbox."""
        rotated: Rotated = await self._writer.submit(
            lambda c: webhook_secrets.rotate(c, self._seal, tenant, now, until)
        )
        return rotated
