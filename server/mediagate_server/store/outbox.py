"""Outbox of webhook events: records, delivery slots, and the port of its storage."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from mediagate_server.runtime.notifier import Notifier
from mediagate_server.store.records import State


class EventKind(StrEnum):
    """Kind of a webhook event; the words of the contract in lower case."""

    GENERATION_SUCCEEDED = "generation_succeeded"
    GENERATION_FAILED = "generation_failed"
    GENERATION_CANCELLED = "generation_cancelled"
    BUDGET_THRESHOLD = "budget_threshold"


TERMINAL_EVENTS: Mapping[State, EventKind] = {
    State.SUCCEEDED: EventKind.GENERATION_SUCCEEDED,
    State.FAILED: EventKind.GENERATION_FAILED,
    State.CANCELLED: EventKind.GENERATION_CANCELLED,
}
"""The event of each final state."""


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """A webhook event and the state of its delivery.

    `id` stays the same over all retries. `url` may hold secrets: it is never logged; empty where
    the key that it was encrypted with is lost. `facts` is the payload of an event that is not a
    generation's. `http_status` is that of the last try, 0 where there was no answer.
    """

    id: str
    tenant: str
    kind: EventKind
    generation_id: str
    url: str = field(repr=False)
    host: str
    happened_at: datetime
    tries: int = 0
    http_status: int = 0
    last_tried_at: datetime | None = None
    facts: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SecretRotation:
    """A new signing secret, and when the previous one expires; None: there was none."""

    secret: bytes = field(repr=False)
    previous_expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DeliverySlots:
    """Free concurrency slots for deliveries.

    `free` are open to all tenants, `idle_tenants` only to those with nothing in flight.
    `in_flight` counts each tenant's deliveries; `per_tenant` is the most that one may have.
    """

    free: int
    idle_tenants: int
    per_tenant: int
    in_flight: Mapping[str, int] = field(default_factory=dict)


class Outbox(Protocol):
    """Transactional outbox. All methods raise StoreUnavailable; writes, StaleOwner.

    An event waits until it is delivered, or until its last try has failed: then it is undelivered
    (a dead letter), and can be sent by hand for 30 days.
    """

    @property
    def has_work(self) -> Notifier:
        """Notified whenever an event may have become due."""
        ...

    async def due(
        self,
        now: datetime,
        slots: DeliverySlots,
        *,
        not_ids: Collection[str],
        not_hosts: Collection[tuple[str, str]],
    ) -> tuple[OutboxEvent, ...]:
        """Due events, except these ids and these (tenant, host) pairs.

        As many as there are slots for: each next one is of the tenant with the fewest in flight,
        the longest due first.
        """
        ...

    async def next_due(self, after: datetime) -> datetime | None:
        """The earliest due time after a moment; None: there is none."""
        ...

    async def mark_delivered(self, event_id: str) -> None:
        """Delete an event that was delivered."""
        ...

    async def mark_failed(self, event: OutboxEvent, retry_at: datetime | None) -> None:
        """Record a failed try, as `event` states it. `retry_at` None: it is undelivered."""
        ...

    async def list_undelivered(
        self, tenant: str, limit: int, after: str
    ) -> tuple[OutboxEvent, ...]:
        """A page of undelivered events, oldest first; `tenant` empty: of all tenants."""
        ...

    async def find_undelivered(self, event_id: str) -> OutboxEvent | None:
        """An undelivered event by its id."""
        ...

    async def get_or_create_secrets(self, tenant: str, now: datetime) -> tuple[bytes, ...]:
        """Valid signing secrets of a tenant, newest first; one is generated where there is none."""
        ...

    async def rotate_secret(self, tenant: str, now: datetime, until: datetime) -> SecretRotation:
        """Generate a new signing secret; the previous one expires at `until`.

        The first call returns the secret that deliveries were signed with so far, if any.
        """
        ...
