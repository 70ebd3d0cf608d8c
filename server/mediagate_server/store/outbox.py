"""The outbox: what callers are still to be told of, as facts, and the port to whoever keeps it."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from mediagate_server.store.records import State


class EventKind(StrEnum):
    """What happened; the words of the contract in lower case."""

    GENERATION_SUCCEEDED = "generation_succeeded"
    GENERATION_FAILED = "generation_failed"
    GENERATION_CANCELLED = "generation_cancelled"
    BUDGET_THRESHOLD = "budget_threshold"


TERMINAL_EVENTS: Mapping[State, EventKind] = {
    State.SUCCEEDED: EventKind.GENERATION_SUCCEEDED,
    State.FAILED: EventKind.GENERATION_FAILED,
    State.CANCELLED: EventKind.GENERATION_CANCELLED,
}
"""What is told of each end."""


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """One event, and how far the telling of it has come.

    `id` stays the same however often it is sent. `url` may hold secrets: it is in no log; empty
    where the key that sealed it is lost. `facts` is what there is to tell of an event that is not
    a generation's. `http_status` is that of the last try, 0 where there was no answer.
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
    """A secret that was made, and until when the one before it counts; None: there was none."""

    secret: bytes = field(repr=False)
    previous_expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DeliverySlots:
    """Places for webhooks that are on their way at once.

    `free` are left for everybody, `first` for tenants that have none on its way. `in_flight` is
    how many each tenant has; `of_one` is the most that one may have.
    """

    free: int
    idle_tenants: int
    per_tenant: int
    in_flight: Mapping[str, int] = field(default_factory=dict)


class Outbox(Protocol):
    """Durable, as the store is. Every method raises StoreUnavailable, and the writing StaleOwner.

    An event waits until it is delivered, or until its last try has failed: then it is undelivered,
    and stays to be sent by hand, for 30 days.
    """

    @property
    def has_work(self) -> asyncio.Event:
        """Set whenever something new may be due. Whoever waits for it clears it."""
        ...

    async def due(
        self,
        now: datetime,
        slots: DeliverySlots,
        *,
        not_ids: Collection[str],
        not_hosts: Collection[tuple[str, str]],
    ) -> tuple[OutboxEvent, ...]:
        """Those whose time has come, but for these ids and these hosts of tenants.

        As many as there are places for: each next one is the tenant's that has the fewest, and
        of that tenant the longest due.
        """
        ...

    async def next_due(self, after: datetime) -> datetime | None:
        """When the first one is due that is not due by then; None: there is none."""
        ...

    async def mark_delivered(self, event_id: str) -> None:
        """It was taken: nothing of it is kept."""
        ...

    async def mark_failed(self, event: OutboxEvent, retry_at: datetime | None) -> None:
        """It was not; `tried` says how it stands. `again_at` None: it is undelivered."""
        ...

    async def list_undelivered(
        self, tenant: str, limit: int, after: str
    ) -> tuple[OutboxEvent, ...]:
        """A page of those that are undelivered, oldest first; `tenant` empty: of all."""
        ...

    async def find_undelivered(self, event_id: str) -> OutboxEvent | None:
        """One of them."""
        ...

    async def get_or_create_secrets(self, tenant: str, now: datetime) -> tuple[bytes, ...]:
        """What a tenant's webhooks are signed with, the newest first. Drawn where there is none."""
        ...

    async def rotate_secret(self, tenant: str, now: datetime, until: datetime) -> SecretRotation:
        """Make a new secret; the one before it counts `until` then.

        The first one that is asked for may have been drawn before, and signed with.
        """
        ...
