"""Empties the outbox: signs each event, posts it, and tries again by the schedule.

An event is sent at least once, with the same id each time: a gate that dies between a post and its
commit sends it again. Places are dealt out to tenants in turn, so that the receivers of one,
however slow, keep no other's waiting; to one host its events wait for each other.

When a webhook is tried again: ten times over 24 hours, soon at first.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Final, Protocol, Self
from weakref import WeakValueDictionary

import structlog

from mediagate_server.context import caller
from mediagate_server.context.caller import Caller
from mediagate_server.errors import ResourceNotFound, StaleOwner, StoreUnavailable
from mediagate_server.network.egress_policy import EgressPolicy
from mediagate_server.observability import metrics
from mediagate_server.observability.bug_report import (
    BackgroundJob,
    report_bug,
    start_background_task,
)
from mediagate_server.runtime.clock import Clock
from mediagate_server.runtime.tasks import restart_until_done
from mediagate_server.store.outbox import DeliverySlots, Outbox, OutboxEvent
from mediagate_server.store.records import Generation
from mediagate_server.structs import replace
from mediagate_server.webhooks.http_client import NO_RESPONSE, WebhookHttpClient, signed_headers

_MINUTE: Final = 60.0
_HOUR: Final = 3_600.0
RETRY_OFFSETS: Final = (
    0.0,
    10.0,
    1 * _MINUTE,
    5 * _MINUTE,
    15 * _MINUTE,
    45 * _MINUTE,
    2 * _HOUR,
    6 * _HOUR,
    14 * _HOUR,
    24 * _HOUR,
)
"""Seconds after the event, of each try where none of them is late."""
_JITTER: Final = 0.1
"""By what part of itself a pause may be shorter, so that a receiver that comes back is not struck
by all at once."""


def next_attempt_time(tries: int, now: datetime, draw: random.Random) -> datetime | None:
    """When to try again after so many tries, the last one now; None: that was the last of all."""
    if tries >= len(RETRY_OFFSETS):
        return None
    pause = RETRY_OFFSETS[tries] - RETRY_OFFSETS[tries - 1]
    return now + timedelta(seconds=pause * (1 - _JITTER * draw.random()))


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


class GenerationLookup(Protocol):
    """Where the generation is found that an event is about."""

    async def get(self, tenant: str, generation_id: str) -> Generation | None:
        """One generation of a tenant."""
        ...


RenderEvent = Callable[[OutboxEvent, Generation | None], Awaitable[bytes]]
"""The body of a webhook: the event as it is told."""


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """What came of one try. `callback` has the try counted."""

    callback: OutboxEvent
    delivered: bool


class WebhookDispatcher:
    """An async context manager: while it is entered, what is due is sent."""

    def __init__(
        self,
        outbox: Outbox,
        records: GenerationLookup,
        poster: WebhookHttpClient,
        render: RenderEvent,
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
        self._running = start_background_task(
            BackgroundJob.WEBHOOK_DISPATCHER,
            restart_until_done(
                BackgroundJob.WEBHOOK_DISPATCHER, self._run, self._clock, asyncio.Event()
            ),
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

    async def redeliver(self, callback_id: str) -> OutboxEvent:
        """Send one that is undelivered, once and now; it, with the try counted.

        Raises ResourceNotFound where none of this id is undelivered, and StoreUnavailable.
        """
        lock = self._by_hand.setdefault(callback_id, asyncio.Lock())
        async with lock:
            callback = await self._outbox.find_undelivered(callback_id)
            if callback is None:
                raise ResourceNotFound("webhook", "id")
            delivery = await self._post_once(callback)
            if delivery.delivered:
                await self._outbox.mark_delivered(callback_id)
            else:
                await self._outbox.mark_failed(delivery.callback, None)
            return delivery.callback

    async def _run(self) -> None:
        while True:
            try:
                self._outbox.has_work.clear()
                now = self._clock.now()
                if not await self._dispatch_due(now):
                    await self._clock.wait(self._outbox.has_work, await self._pause(now))
            except StaleOwner:
                return
            except StoreUnavailable:
                _log.warning("webhook_dispatch_paused", reason="store_unavailable")
                await self._clock.sleep(_STORE_PAUSE)

    async def _dispatch_due(self, now: datetime) -> bool:
        """Begin to send as many as may be on their way at once. False: there was nothing to do."""
        in_flight = len(self._flying)
        places = DeliverySlots(
            free=_AT_ONCE - in_flight,
            idle_tenants=_MOST_AT_ONCE - max(in_flight, _AT_ONCE),
            per_tenant=_OF_ONE_TENANT,
            in_flight=self._tenants,
        )
        busy = [place for place, sending in self._hosts.items() if sending >= _TO_ONE_HOST]
        found = await self._outbox.due(now, places, not_ids=tuple(self._flying), not_hosts=busy)
        for callback in found:
            if self._hosts[_receiver(callback)] < _TO_ONE_HOST:
                self._start_delivery(callback)
        return bool(found)

    def _start_delivery(self, callback: OutboxEvent) -> None:
        self._tenants[callback.tenant] += 1
        self._hosts[_receiver(callback)] += 1
        task = start_background_task(BackgroundJob.WEBHOOK_DELIVERY, self._deliver(callback))
        self._flying[callback.id] = task
        task.add_done_callback(lambda _: self._on_delivered(callback))

    def _on_delivered(self, callback: OutboxEvent) -> None:
        del self._flying[callback.id]
        _count_down(self._tenants, callback.tenant)
        _count_down(self._hosts, _receiver(callback))
        self._outbox.has_work.set()

    async def _pause(self, now: datetime) -> float:
        """Seconds until something else is due. What is due already and waits for a place is begun
        as one gets free.
        """
        due_at = await self._outbox.next_due(now)
        if due_at is None:
            return _LONGEST_WAIT
        seconds = (due_at - self._clock.now()).total_seconds()
        return min(max(seconds, 0.0), _LONGEST_WAIT)

    async def _deliver(self, callback: OutboxEvent) -> None:
        """One event, once; and what became of it, durably."""
        caller.bind_caller(Caller(callback.tenant))
        try:
            delivery = await self._post_once(callback)
            if delivery.delivered:
                await self._retry_while_store_down(lambda: self._outbox.mark_delivered(callback.id))
            else:
                await self._reschedule(delivery.callback)
        except StaleOwner:
            return  # It is its new owner's to send.
        except StoreUnavailable:
            # Nothing was sent: it is due still, and is begun again.
            await self._clock.sleep(_STORE_PAUSE)
        except Exception as error:  # noqa: BLE001 - a bug in one must not stop the others
            report_bug(BackgroundJob.WEBHOOK_DELIVERY, error, id=callback.id)
            tried = replace(callback, tries=callback.tries + 1, last_tried_at=self._clock.now())
            with contextlib.suppress(StaleOwner):
                await self._reschedule(tried)

    async def _post_once(self, callback: OutboxEvent) -> DeliveryResult:
        """One post. An event that there is nothing left to tell of counts as told."""
        record = None
        if callback.generation_id:
            record = await self._records.get(callback.tenant, callback.generation_id)
            if record is None:
                return DeliveryResult(callback, delivered=True)
        now = self._clock.now()
        status = NO_RESPONSE
        if callback.url:
            body = await self._render(callback, record)
            secrets = await self._outbox.get_or_create_secrets(callback.tenant, now)
            headers = signed_headers(callback.id, now, body, secrets)
            status = await self._poster.post(callback.url, headers, body)
        tried = replace(callback, tries=callback.tries + 1, http_status=status, last_tried_at=now)
        delivered = 200 <= status < 300
        outcome = "delivered" if delivered else "refused" if status else "no_answer"
        metrics.webhook_deliveries.labels(outcome).inc()
        _log.debug("webhook_attempt", id=callback.id, status=status, tries=tried.tries)
        return DeliveryResult(tried, delivered)

    async def _reschedule(self, tried: OutboxEvent) -> None:
        """Until its next try, if it has one. Who says that it is gone is not asked again."""
        again_at = None
        if tried.url and tried.http_status != _GONE:
            again_at = next_attempt_time(tried.tries, self._clock.now(), self._draw)
        await self._retry_while_store_down(lambda: self._outbox.mark_failed(tried, again_at))
        if again_at is None:
            metrics.webhooks_undelivered.inc()
            _log.warning(
                "webhook_undelivered", id=tried.id, tries=tried.tries, status=tried.http_status
            )

    async def _retry_while_store_down(self, write: Callable[[], Awaitable[None]]) -> None:
        """Write it as soon as the store lets us; until then it is not sent again."""
        while True:
            try:
                return await write()
            except StaleOwner:
                raise
            except StoreUnavailable:
                await self._clock.sleep(_STORE_PAUSE)


def _receiver(callback: OutboxEvent) -> tuple[str, str]:
    return callback.tenant, callback.host


def _count_down(counter: Counter[Any], key: Any) -> None:
    """One less; what is not there any more takes no memory."""
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


@contextlib.asynccontextmanager
async def running_dispatcher(
    outbox: Outbox,
    records: GenerationLookup,
    render: RenderEvent,
    reach: EgressPolicy,
    clock: Clock,
) -> AsyncIterator[WebhookDispatcher]:
    """A sender with a client of its own, while it is entered."""
    async with (
        WebhookHttpClient(reach) as poster,
        WebhookDispatcher(outbox, records, poster, render, clock) as sender,
    ):
        yield sender
