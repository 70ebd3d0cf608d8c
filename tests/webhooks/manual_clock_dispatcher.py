"""Time as a test plays it, and a sender that knows no other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import TYPE_CHECKING

from mediagate_server.api.convert.responses import WebhookEventEncoder
from mediagate_server.media.file_store import FileSystemMediaStore
from mediagate_server.media.signed_links import MediaLinkSigner
from mediagate_server.network.egress_policy import EgressPolicy
from mediagate_server.runtime.clock import SystemClock
from mediagate_server.runtime.notifier import Notifier
from mediagate_server.webhooks.dispatcher import WebhookDispatcher
from mediagate_server.webhooks.http_client import WebhookHttpClient
from tests.store.records import NOON

if TYPE_CHECKING:
    from mediagate_server.store.sqlite import SqliteStore

LOOPBACK = EgressPolicy((ip_network("127.0.0.0/8"),))


class ManualDispatcherClock(SystemClock):
    """Stands still until the test lets time pass."""

    def __init__(self, start: datetime = NOON) -> None:
        self._now = start
        self._sleepers: dict[asyncio.Future[None], datetime] = {}
        self.began = asyncio.Event()

    def now(self) -> datetime:
        return self._now

    @property
    def wakes_at(self) -> datetime | None:
        """When the first of those who wait is to wake up."""
        return min(self._sleepers.values(), default=None)

    async def wait(self, notifier: Notifier, seconds: float, after: int = 0) -> bool:
        if notifier.count > after:
            return True
        sleeper = asyncio.get_running_loop().create_future()
        self._sleepers[sleeper] = self._now + timedelta(seconds=seconds)
        set_ = asyncio.ensure_future(notifier.wait(after))
        self.began.set()
        try:
            await asyncio.wait({set_, sleeper}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            set_.cancel()
            self._sleepers.pop(sleeper, None)
        return notifier.count > after

    def set(self, moment: datetime) -> None:
        """It is that time now; whoever waited for it wakes up."""
        self._now = max(moment, self._now)
        for sleeper, at in list(self._sleepers.items()):
            if at <= self._now and not sleeper.done():
                sleeper.set_result(None)
                del self._sleepers[sleeper]


class ManualClockDispatcher:
    """A sender and its time."""

    def __init__(self, sender: WebhookDispatcher, clock: ManualDispatcherClock) -> None:
        self.sender = sender
        self.clock = clock

    async def rest(self) -> None:
        """Until nothing is on its way and the sender waits for time to pass."""
        sender, changed = self.sender, self.sender._outbox.has_work
        while sender._deliveries or changed.count > sender._seen or self.clock.wakes_at is None:
            self.clock.began.clear()
            await self.clock.began.wait()

    def in_flight(self) -> dict[str, int]:
        """How many webhooks of each tenant are on their way."""
        return dict(self.sender._in_flight_by_tenant)

    async def landed(self, tenant: str) -> None:
        """Until none of a tenant is on its way."""
        while self.sender._in_flight_by_tenant[tenant]:
            self.clock.began.clear()
            await self.clock.began.wait()

    async def until(self, moment: datetime) -> None:
        """Let time pass up to then, with a stop wherever the sender has something to do."""
        await self.rest()
        while (wakes_at := self.clock.wakes_at) is not None and wakes_at <= moment:
            self.clock.set(wakes_at)
            await self.rest()
        self.clock.set(moment)
        await self.rest()


@asynccontextmanager
async def playing(
    store: SqliteStore, clock: ManualDispatcherClock, reach: EgressPolicy = LOOPBACK
) -> AsyncIterator[ManualClockDispatcher]:
    """A sender over a store, whose time is the test's."""
    links = MediaLinkSigner(
        FileSystemMediaStore(store._folder / "media"),
        "",
        b"k" * 32,
        now=clock.now,
        lifetime=lambda: 60.0,
    )
    render = WebhookEventEncoder(links).encode
    async with (
        WebhookHttpClient(reach) as poster,
        WebhookDispatcher(
            store.outbox, store.get, poster, render, clock, rng=random.Random(7)
        ) as sender,
    ):
        yield ManualClockDispatcher(sender, clock)
