"""Webhook dispatcher: delivers outbox events at least once, with retries and fairness by tenant.

An event has the same id at each attempt: a server that dies between a post and its commit sends it
again. There are ten attempts over 24 hours, the first ones soon. Delivery slots go to tenants in
turn, so that slow receivers of one delay no other tenant's; the number of posts to one host is
limited.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Self
from weakref import WeakValueDictionary

import structlog

from mediagate_server import rpc_context
from mediagate_server.errors import ResourceNotFound, StaleOwner, StoreUnavailable
from mediagate_server.observability import metrics
from mediagate_server.observability.bug_report import (
    BackgroundJob,
    report_bug,
    start_background_task,
)
from mediagate_server.rpc_context import Caller
from mediagate_server.runtime.clock import Clock
from mediagate_server.runtime.notifier import Notifier
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
"""Seconds after the event, of each attempt where none of them is late."""
_JITTER: Final = 0.1
"""By what part of itself a pause may be shorter, so that a receiver that comes back is not struck
by all at once."""


def next_attempt_time(tries: int, now: datetime, rng: random.Random) -> datetime | None:
    """The time of the next attempt after so many tries, the last one now; None: it was the last."""
    if tries >= len(RETRY_OFFSETS):
        return None
    pause = RETRY_OFFSETS[tries] - RETRY_OFFSETS[tries - 1]
    return now + timedelta(seconds=pause * (1 - _JITTER * rng.random()))


_MAX_CONCURRENT: Final = 64
_PER_TENANT: Final = 16
_MAX_CONCURRENT_IDLE_TENANTS: Final = 256
"""Beyond `_MAX_CONCURRENT` each is the only one of its tenant: the slowest receivers delay no other
tenant's."""
_PER_TENANT_AND_HOST: Final = 8
"""Posts to one host at the same time, for each tenant."""
_MAX_WAIT: Final = 3_600.0
_STORE_PAUSE: Final = 1.0
_SHUTDOWN_SECONDS: Final = 2.0
"""How long posts that are on their way may still take when the server ends."""
_GONE: Final = 410
_log = structlog.get_logger()


FindGeneration = Callable[[str, str], Awaitable[Generation | None]]
"""Finds the generation that an event is about, by tenant and id."""
EncodeEvent = Callable[[OutboxEvent, Generation | None], Awaitable[bytes]]
"""Encodes the body of a webhook."""


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """Result of one delivery attempt. `event` has the attempt counted."""

    event: OutboxEvent
    delivered: bool


class WebhookDispatcher:
    """Delivers due webhooks while it is entered. An async context manager."""

    def __init__(
        self,
        outbox: Outbox,
        find_generation: FindGeneration,
        http_client: WebhookHttpClient,
        encode: EncodeEvent,
        clock: Clock,
        *,
        rng: random.Random | None = None,
    ) -> None:
        self._outbox = outbox
        self._find_generation = find_generation
        self._http_client = http_client
        self._encode = encode
        self._clock = clock
        self._rng = rng or random.Random()
        self._seen = 0
        """The count of the outbox's changes that it has looked at."""
        self._deliveries: dict[str, asyncio.Task[None]] = {}
        self._in_flight_by_tenant: Counter[str] = Counter()
        self._in_flight_by_host: Counter[tuple[str, str]] = Counter()
        # Weak: a lock lives as long as somebody uses it or waits for it.
        self._redelivery_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def __aenter__(self) -> Self:
        self._run_task = start_background_task(
            BackgroundJob.WEBHOOK_DISPATCHER,
            restart_until_done(
                BackgroundJob.WEBHOOK_DISPATCHER, self._run, self._clock, Notifier()
            ),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._run_task.cancel()
        await asyncio.gather(self._run_task, return_exceptions=True)
        if self._deliveries:
            await asyncio.wait(self._deliveries.values(), timeout=_SHUTDOWN_SECONDS)
        for task in self._deliveries.values():
            task.cancel()
        await asyncio.gather(*self._deliveries.values(), return_exceptions=True)

    async def redeliver(self, event_id: str) -> OutboxEvent:
        """Make one attempt for an undelivered event, now; the event with the attempt counted.

        Raises ResourceNotFound where none of this id is undelivered, and StoreUnavailable.
        """
        lock = self._redelivery_locks.setdefault(event_id, asyncio.Lock())
        async with lock:
            event = await self._outbox.find_undelivered(event_id)
            if event is None:
                raise ResourceNotFound("webhook", "id")
            delivery = await self._post_once(event)
            if delivery.delivered:
                await self._outbox.mark_delivered(event_id)
            else:
                await self._outbox.mark_failed(delivery.event, None)
            return delivery.event

    async def _run(self) -> None:
        while True:
            try:
                self._seen = self._outbox.has_work.count
                now = self._clock.now()
                if not await self._dispatch_due(now):
                    seconds = await self._seconds_until_due(now)
                    await self._clock.wait(self._outbox.has_work, seconds, self._seen)
            except StaleOwner:
                return
            except StoreUnavailable:
                _log.warning("webhook_dispatch_paused", reason="store_unavailable")
                await self._clock.sleep(_STORE_PAUSE)

    async def _dispatch_due(self, now: datetime) -> bool:
        """Start as many due deliveries as the concurrency limits allow; False if none was due."""
        in_flight = len(self._deliveries)
        slots = DeliverySlots(
            free=_MAX_CONCURRENT - in_flight,
            idle_tenants=_MAX_CONCURRENT_IDLE_TENANTS - max(in_flight, _MAX_CONCURRENT),
            per_tenant=_PER_TENANT,
            in_flight=self._in_flight_by_tenant,
        )
        busy_hosts = [
            host for host, posts in self._in_flight_by_host.items() if posts >= _PER_TENANT_AND_HOST
        ]
        events = await self._outbox.due(
            now, slots, not_ids=tuple(self._deliveries), not_hosts=busy_hosts
        )
        for event in events:
            if self._in_flight_by_host[_host_key(event)] < _PER_TENANT_AND_HOST:
                self._start_delivery(event)
        return bool(events)

    def _start_delivery(self, event: OutboxEvent) -> None:
        self._in_flight_by_tenant[event.tenant] += 1
        self._in_flight_by_host[_host_key(event)] += 1
        task = start_background_task(BackgroundJob.WEBHOOK_DELIVERY, self._deliver(event))
        self._deliveries[event.id] = task
        task.add_done_callback(lambda _: self._on_delivered(event))

    def _on_delivered(self, event: OutboxEvent) -> None:
        del self._deliveries[event.id]
        _decrement(self._in_flight_by_tenant, event.tenant)
        _decrement(self._in_flight_by_host, _host_key(event))
        self._outbox.has_work.notify()

    async def _seconds_until_due(self, now: datetime) -> float:
        """Seconds until the next event is due.

        One that is due already and waits for a slot is started when a delivery ends.
        """
        due_at = await self._outbox.next_due(now)
        if due_at is None:
            return _MAX_WAIT
        seconds = (due_at - self._clock.now()).total_seconds()
        return min(max(seconds, 0.0), _MAX_WAIT)

    async def _deliver(self, event: OutboxEvent) -> None:
        """Make one attempt for an event and store its result."""
        rpc_context.bind_caller(Caller(event.tenant))
        try:
            delivery = await self._post_once(event)
            if delivery.delivered:
                await self._retry_while_store_down(lambda: self._outbox.mark_delivered(event.id))
            else:
                await self._reschedule(delivery.event)
        except StaleOwner:
            return  # It is its new owner's to send.
        except StoreUnavailable:
            # Nothing was sent: it is still due, and is started again.
            await self._clock.sleep(_STORE_PAUSE)
        except Exception as error:  # noqa: BLE001 - a bug in one must not stop the others
            report_bug(BackgroundJob.WEBHOOK_DELIVERY, error, id=event.id)
            attempted = replace(event, tries=event.tries + 1, last_tried_at=self._clock.now())
            with contextlib.suppress(StaleOwner):
                await self._reschedule(attempted)

    async def _post_once(self, event: OutboxEvent) -> DeliveryResult:
        """Make one delivery attempt. An event whose generation was erased counts as delivered."""
        record = None
        if event.generation_id:
            record = await self._find_generation(event.tenant, event.generation_id)
            if record is None:
                return DeliveryResult(event, delivered=True)
        now = self._clock.now()
        status = NO_RESPONSE
        if event.url:
            body = await self._encode(event, record)
            secrets = await self._outbox.get_or_create_secrets(event.tenant, now)
            headers = signed_headers(event.id, now, body, secrets)
            status = await self._http_client.post(event.url, headers, body)
        attempted = replace(event, tries=event.tries + 1, http_status=status, last_tried_at=now)
        delivered = 200 <= status < 300
        outcome = "delivered" if delivered else "refused" if status else "no_answer"
        metrics.webhook_deliveries.labels(outcome).inc()
        _log.debug("webhook_attempt", id=event.id, status=status, tries=attempted.tries)
        return DeliveryResult(attempted, delivered)

    async def _reschedule(self, attempted: OutboxEvent) -> None:
        """Schedule the next attempt, or mark the event undelivered: last attempt, or HTTP 410."""
        next_attempt_at = None
        if attempted.url and attempted.http_status != _GONE:
            next_attempt_at = next_attempt_time(attempted.tries, self._clock.now(), self._rng)
        await self._retry_while_store_down(
            lambda: self._outbox.mark_failed(attempted, next_attempt_at)
        )
        if next_attempt_at is None:
            metrics.webhooks_undelivered.inc()
            _log.warning(
                "webhook_undelivered",
                id=attempted.id,
                tries=attempted.tries,
                status=attempted.http_status,
            )

    async def _retry_while_store_down(self, write: Callable[[], Awaitable[None]]) -> None:
        """Write as soon as the store is available; until then the event is not sent again."""
        while True:
            try:
                return await write()
            except StaleOwner:
                raise
            except StoreUnavailable:
                await self._clock.sleep(_STORE_PAUSE)


def _host_key(event: OutboxEvent) -> tuple[str, str]:
    return event.tenant, event.host


def _decrement(counter: Counter[Any], key: Any) -> None:
    """Decrement a counter and drop the key at zero."""
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
