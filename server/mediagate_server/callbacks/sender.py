"""Empties the outbox: signs each event, posts it, and tries again by the schedule.

An event is sent at least once, with the same id each time: a gate that dies between a post and its
commit sends it again. Places are dealt out to tenants in turn, so that the receivers of one,
however slow, keep no other's waiting; to one host its events wait for each other.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Protocol, Self
from weakref import WeakValueDictionary

import structlog

from mediagate_server import caller, telemetry
from mediagate_server.callbacks.posting import NO_ANSWER, Poster
from mediagate_server.callbacks.schedule import next_try
from mediagate_server.callbacks.signing import signed_headers
from mediagate_server.caller import Caller
from mediagate_server.errors import NoSuch, StoreUnavailable
from mediagate_server.generations.clock import Clock
from mediagate_server.generations.persisting import until_done
from mediagate_server.internet import Reach
from mediagate_server.replacing import replace
from mediagate_server.store.outbox import Callback, Outbox, Places
from mediagate_server.store.port import StaleOwner
from mediagate_server.store.records import Generation
from mediagate_server.unexpected import background_task, broke

_AT_ONCE: Final = 64
_OF_ONE_TENANT: Final = 16
_MOST_AT_ONCE: Final = 256
"""Beyond `_AT_ONCE` each is the only one of its tenant: receivers that take all the time there is
keep no other tenant's waiting."""
_TO_ONE_HOST: Final = 8
"""For each tenant: what another has sent there is no reason to wait."""
_LONGEST_WAIT: Final = 3_600.0
_STORE_PAUSE: Final = 1.0
_LAST_SECONDS: Final = 2.0
"""How long posts that are on their way may still take when the gate ends."""
_GONE: Final = 410

_log = structlog.get_logger()


class Records(Protocol):
    """Where the generation is found that an event is about."""

    async def get(self, tenant: str, generation_id: str) -> Generation | None:
        """One generation of a tenant."""
        ...


Render = Callable[[Callback, Generation | None], Awaitable[bytes]]
"""The body of a webhook: the event as it is told."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came of one try. `callback` has the try counted."""

    callback: Callback
    delivered: bool


class Sender:
    """An async context manager: while it is entered, what is due is sent."""

    def __init__(
        self,
        outbox: Outbox,
        records: Records,
        poster: Poster,
        render: Render,
        clock: Clock,
        *,
        draw: random.Random | None = None,
    ) -> None:
        self._outbox = outbox
        self._records = records
        self._poster = poster
        self._render = render
        self._clock = clock
        self._draw = draw or random.Random()
        self._flying: dict[str, asyncio.Task[None]] = {}
        self._tenants: Counter[str] = Counter()
        self._hosts: Counter[tuple[str, str]] = Counter()
        # Held by those who use them: one that was let go of while somebody waits for it would be
        # two locks of one webhook.
        self._by_hand: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def __aenter__(self) -> Self:
        self._running = background_task(
            "webhooks", until_done("webhooks", self._run, self._clock, asyncio.Event())
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        if self._flying:
            await asyncio.wait(self._flying.values(), timeout=_LAST_SECONDS)
        for task in self._flying.values():
            task.cancel()
        await asyncio.gather(*self._flying.values(), return_exceptions=True)

    async def redeliver(self, callback_id: str) -> Callback:
        """Send one that is undelivered, once and now; it, with the try counted.

        Raises NoSuch where none of this id is undelivered, and StoreUnavailable.
        """
        lock = self._by_hand.setdefault(callback_id, asyncio.Lock())
        async with lock:
            callback = await self._outbox.find_undelivered(callback_id)
            if callback is None:
                raise NoSuch("webhook", "id")
            delivery = await self._try(callback)
            if delivery.delivered:
                await self._outbox.delivered(callback_id)
            else:
                await self._outbox.failed(delivery.callback, None)
            return delivery.callback

    async def _run(self) -> None:
        while True:
            try:
                self._outbox.changed.clear()
                now = self._clock.now()
                if not await self._begin_what_is_due(now):
                    await self._clock.wait(self._outbox.changed, await self._pause(now))
            except StaleOwner:
                return
            except StoreUnavailable:
                _log.warning("store unavailable, webhooks wait")
                await self._clock.sleep(_STORE_PAUSE)

    async def _begin_what_is_due(self, now: datetime) -> bool:
        """Begin to send as many as may be on their way at once. False: there was nothing to do."""
        in_flight = len(self._flying)
        places = Places(
            free=_AT_ONCE - in_flight,
            first=_MOST_AT_ONCE - max(in_flight, _AT_ONCE),
            of_one=_OF_ONE_TENANT,
            in_flight=self._tenants,
        )
        busy = [place for place, sending in self._hosts.items() if sending >= _TO_ONE_HOST]
        found = await self._outbox.due(now, places, not_ids=tuple(self._flying), not_hosts=busy)
        for callback in found:
            if self._hosts[_receiver(callback)] < _TO_ONE_HOST:
                self._begin(callback)
        return bool(found)

    def _begin(self, callback: Callback) -> None:
        self._tenants[callback.tenant] += 1
        self._hosts[_receiver(callback)] += 1
        task = background_task("webhook", self._deliver(callback))
        self._flying[callback.id] = task
        task.add_done_callback(lambda _: self._landed(callback))

    def _landed(self, callback: Callback) -> None:
        del self._flying[callback.id]
        _count_down(self._tenants, callback.tenant)
        _count_down(self._hosts, _receiver(callback))
        self._outbox.changed.set()

    async def _pause(self, now: datetime) -> float:
        """Seconds until something else is due. What is due already and waits for a place is begun
        as one gets free.
        """
        due_at = await self._outbox.next_due(now)
        if due_at is None:
            return _LONGEST_WAIT
        seconds = (due_at - self._clock.now()).total_seconds()
        return min(max(seconds, 0.0), _LONGEST_WAIT)

    async def _deliver(self, callback: Callback) -> None:
        """One event, once; and what became of it, durably."""
        caller.bind(Caller(callback.tenant))
        try:
            delivery = await self._try(callback)
            if delivery.delivered:
                await self._insist(lambda: self._outbox.delivered(callback.id))
            else:
                await self._put_off(delivery.callback)
        except StaleOwner:
            return  # It is its new owner's to send.
        except StoreUnavailable:
            # Nothing was sent: it is due still, and is begun again.
            await self._clock.sleep(_STORE_PAUSE)
        except Exception as error:  # noqa: BLE001 - a bug in one must not stop the others
            broke("webhook", error, id=callback.id)
            tried = replace(callback, tries=callback.tries + 1, last_tried_at=self._clock.now())
            with contextlib.suppress(StaleOwner):
                await self._put_off(tried)

    async def _try(self, callback: Callback) -> Delivery:
        """One post. An event that there is nothing left to tell of counts as told."""
        record = None
        if callback.generation_id:
            record = await self._records.get(callback.tenant, callback.generation_id)
            if record is None:
                return Delivery(callback, delivered=True)
        now = self._clock.now()
        status = NO_ANSWER
        if callback.url:
            body = await self._render(callback, record)
            secrets = await self._outbox.secrets(callback.tenant, now)
            headers = signed_headers(callback.id, now, body, secrets)
            status = await self._poster.post(callback.url, headers, body)
        tried = replace(callback, tries=callback.tries + 1, http_status=status, last_tried_at=now)
        delivered = 200 <= status < 300
        outcome = "delivered" if delivered else "refused" if status else "no_answer"
        telemetry.callbacks.labels(outcome).inc()
        _log.debug("webhook sent", id=callback.id, status=status, tries=tried.tries)
        return Delivery(tried, delivered)

    async def _put_off(self, tried: Callback) -> None:
        """Until its next try, if it has one. Who says that it is gone is not asked again."""
        again_at = None
        if tried.url and tried.http_status != _GONE:
            again_at = next_try(tried.tries, self._clock.now(), self._draw)
        await self._insist(lambda: self._outbox.failed(tried, again_at))
        if again_at is None:
            telemetry.callbacks_undelivered.inc()
            _log.warning(
                "webhook undelivered", id=tried.id, tries=tried.tries, status=tried.http_status
            )

    async def _insist(self, write: Callable[[], Awaitable[None]]) -> None:
        """Write it as soon as the store lets us; until then it is not sent again."""
        while True:
            try:
                return await write()
            except StaleOwner:
                raise
            except StoreUnavailable:
                await self._clock.sleep(_STORE_PAUSE)


def _receiver(callback: Callback) -> tuple[str, str]:
    return callback.tenant, callback.host


def _count_down(counter: Counter[Any], key: Any) -> None:
    """One less; what is not there any more takes no memory."""
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


@contextlib.asynccontextmanager
async def sending(
    outbox: Outbox, records: Records, render: Render, reach: Reach, clock: Clock
) -> AsyncIterator[Sender]:
    """A sender with a client of its own, while it is entered."""
    async with (
        Poster(reach) as poster,
        Sender(outbox, records, poster, render, clock) as sender,
    ):
        yield sender
