"""Transactional outbox of webhook events: its rows, and the port over the store's threads.

The functions work within the caller's transaction. (The table is called `callbacks`.)
"""

import asyncio
import heapq
import sqlite3
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
import structlog

from mediagate_server.runtime import identifiers
from mediagate_server.runtime.notifier import Notifier
from mediagate_server.store.budgets import BudgetUpdate
from mediagate_server.store.encryption import Cipher, DecryptionFailed
from mediagate_server.store.outbox import (
    TERMINAL_EVENTS,
    DeliverySlots,
    EventKind,
    OutboxEvent,
    SecretRotation,
)
from mediagate_server.store.records import Generation
from mediagate_server.store.sqlite import encrypted_rows
from mediagate_server.store.sqlite.generation_rows import microseconds
from mediagate_server.store.sqlite.group_commit import GroupCommitWriter
from mediagate_server.store.sqlite.reader import ReadThread

UNDELIVERED_RETENTION: Final = timedelta(days=30)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS: Final = (
    "id, tenant, kind, generation_id, url, host, happened_us, tries, http_status, tried_us, facts"
)
_log = structlog.get_logger()


def insert_expected_event(
    connection: sqlite3.Connection, cipher: Cipher, generation: Generation, url: str
) -> None:
    """Insert the event of a generation's end when it begins; it is held until released."""
    event = OutboxEvent(
        id=f"evt_{generation.id.removeprefix('gen_')}",
        tenant=generation.tenant,
        kind=EventKind.GENERATION_SUCCEEDED,
        generation_id=generation.id,
        url=url,
        host=urlsplit(url).hostname or "",
        happened_at=generation.created_at,
    )
    insert_event(connection, cipher, event, state="promised")


def insert_event(
    connection: sqlite3.Connection, cipher: Cipher, event: OutboxEvent, *, state: str = "waiting"
) -> None:
    """Insert an event, due at once. An existing one with its id stays as it is."""
    happened = microseconds(event.happened_at)
    connection.execute(
        "INSERT INTO callbacks (id, tenant, state, kind, generation_id, host, url, facts,"
        " happened_us, due_us, tries, http_status) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0)"
        " ON CONFLICT DO NOTHING",
        (
            event.id,
            event.tenant,
            state,
            event.kind,
            event.generation_id,
            event.host,
            cipher.encrypt(event.url.encode(), f"callback {event.id}"),
            orjson.dumps(dict(event.facts)).decode(),
            happened,
            happened,
        ),
    )


def release_expected_event(connection: sqlite3.Connection, generation: Generation) -> None:
    """Make the expected event due as the generation has ended; no-op after the first time."""
    at = microseconds(generation.completed_at or generation.created_at)
    connection.execute(
        "UPDATE callbacks SET state = 'waiting', kind = ?, happened_us = ?, due_us = ?"
        " WHERE generation_id = ? AND state = 'promised'",
        (TERMINAL_EVENTS[generation.state], at, at, generation.id),
    )


def insert_threshold_events(
    connection: sqlite3.Connection, cipher: Cipher, update: BudgetUpdate, url: str, at: datetime
) -> None:
    """Insert one event for each threshold that a budget has reached."""
    use = update.usage
    for percent in update.threshold_events:
        event = OutboxEvent(
            id=f"evt_{identifiers.new_token()}",
            tenant=update.tenant,
            kind=EventKind.BUDGET_THRESHOLD,
            generation_id="",
            url=url,
            host=urlsplit(url).hostname or "",
            happened_at=at,
            facts={
                "budget": use.budget.name,
                "percent": percent,
                "spentUsdNanos": str(use.spent + use.held),
                "limitUsdNanos": str(use.limit),
            },
        )
        insert_event(connection, cipher, event)


def due_events(
    connection: sqlite3.Connection,
    cipher: Cipher,
    now: datetime,
    slots: DeliverySlots,
    not_ids: Collection[str],
    not_hosts: Collection[tuple[str, str]],
) -> tuple[OutboxEvent, ...]:
    """Select due events by fair queuing: each slot to the tenant with the fewest in flight."""
    waiting: dict[str, Sequence[Sequence[Any]]] = {}
    turns: list[tuple[int, int, str]] = []
    for first_due, tenant in _tenants_due(connection, now):
        in_flight = slots.in_flight.get(tenant, 0)
        if in_flight < slots.per_tenant and (slots.free > 0 or not in_flight):
            turns.append((in_flight, first_due, tenant))
    heapq.heapify(turns)
    free, first, events = slots.free, slots.idle_tenants, []
    while turns:
        in_flight, first_due, tenant = heapq.heappop(turns)
        if free <= 0 and (in_flight or first <= 0):
            break  # Nobody left has fewer.
        if tenant not in waiting:
            limit = min(slots.per_tenant - in_flight, max(free, 1))
            hosts = [host for of, host in not_hosts if of == tenant]
            waiting[tenant] = _due_of(connection, tenant, now, limit, not_ids, hosts)[::-1]
        if not (rows := waiting[tenant]):
            continue
        *waiting[tenant], row = rows
        events.append(_decode_event(cipher, row))
        if free > 0:
            free -= 1
        else:
            first -= 1
        heapq.heappush(turns, (in_flight + 1, first_due, tenant))
    return tuple(events)


def _tenants_due(connection: sqlite3.Connection, now: datetime) -> list[tuple[int, str]]:
    """Tenants with due events, and since when: an index skip scan, one look for each tenant."""
    rows = connection.execute(
        "WITH RECURSIVE waiting (tenant) AS ("
        " SELECT min(tenant) FROM callbacks INDEXED BY callbacks_due_of WHERE state = 'waiting'"
        " UNION ALL SELECT (SELECT min(tenant) FROM callbacks INDEXED BY callbacks_due_of"
        " WHERE state = 'waiting' AND tenant > waiting.tenant)"
        " FROM waiting WHERE waiting.tenant IS NOT NULL)"
        " SELECT (SELECT min(due_us) FROM callbacks INDEXED BY callbacks_due_of"
        " WHERE state = 'waiting' AND tenant = waiting.tenant) AS first_due, tenant"
        " FROM waiting WHERE tenant IS NOT NULL AND first_due <= ?",
        (microseconds(now),),
    )
    return [(first_due, tenant) for first_due, tenant in rows]


def _due_of(
    connection: sqlite3.Connection,
    tenant: str,
    now: datetime,
    limit: int,
    not_ids: Collection[str],
    not_hosts: Collection[str],
) -> list[Sequence[Any]]:
    """Due rows of one tenant, the longest due first."""
    return connection.execute(
        f"SELECT {_COLUMNS} FROM callbacks INDEXED BY callbacks_due_of"  # noqa: S608 - fixed texts
        f" WHERE state = 'waiting' AND tenant = ? AND due_us <= ? AND id NOT IN ({_marks(not_ids)})"
        f" AND host NOT IN ({_marks(not_hosts)}) ORDER BY due_us LIMIT ?",
        (tenant, microseconds(now), *not_ids, *not_hosts, limit),
    ).fetchall()


def next_due_time(connection: sqlite3.Connection, after: datetime) -> datetime | None:
    """The earliest due time after a moment; None: there is none."""
    (due_us,) = connection.execute(
        "SELECT min(due_us) FROM callbacks INDEXED BY callbacks_due"
        " WHERE state = 'waiting' AND due_us > ?",
        (microseconds(after),),
    ).fetchone()
    return None if due_us is None else _to_datetime(due_us)


def delete_event(connection: sqlite3.Connection, event_id: str) -> None:
    """Delete an event that was delivered."""
    connection.execute("DELETE FROM callbacks WHERE id = ?", (event_id,))


def record_failure(
    connection: sqlite3.Connection, event: OutboxEvent, retry_at: datetime | None
) -> None:
    """Record a failed delivery: retried later, or undelivered. Deletes old undelivered ones."""
    tried_at = event.last_tried_at or event.happened_at
    connection.execute(
        "UPDATE callbacks SET state = ?, due_us = ?, tries = ?, http_status = ?, tried_us = ?"
        " WHERE id = ?",
        (
            "waiting" if retry_at else "undelivered",
            microseconds(retry_at or tried_at),
            event.tries,
            event.http_status,
            microseconds(tried_at),
            event.id,
        ),
    )
    if retry_at is None:
        connection.execute(
            "DELETE FROM callbacks WHERE state = 'undelivered' AND tried_us < ?",
            (microseconds(tried_at - UNDELIVERED_RETENTION),),
        )


def list_undelivered(
    connection: sqlite3.Connection, cipher: Cipher, tenant: str, limit: int, after: str
) -> tuple[OutboxEvent, ...]:
    """A page of undelivered events by id, which is the order of creation."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM callbacks INDEXED BY callbacks_undelivered"  # noqa: S608 - fixed
        " WHERE state = 'undelivered' AND id > ? AND (? = '' OR tenant = ?) ORDER BY id LIMIT ?",
        (after, tenant, tenant, limit),
    ).fetchall()
    return tuple(_decode_event(cipher, row) for row in rows)


def find_undelivered(
    connection: sqlite3.Connection, cipher: Cipher, event_id: str
) -> OutboxEvent | None:
    """An undelivered event by its id."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM callbacks WHERE state = 'undelivered' AND id = ?",  # noqa: S608
        (event_id,),
    ).fetchone()
    return _decode_event(cipher, row) if row else None


def _decode_event(cipher: Cipher, row: Sequence[Any]) -> OutboxEvent:
    event_id, tenant, kind, generation_id, sealed, host, happened, tries, status, tried, facts = row
    try:
        url = cipher.decrypt(sealed, f"callback {event_id}").decode()
    except DecryptionFailed:
        _log.warning("webhook_url_undecryptable", id=event_id)
        url = ""
    return OutboxEvent(
        id=event_id,
        tenant=tenant,
        kind=EventKind(kind),
        generation_id=generation_id,
        url=url,
        host=host,
        happened_at=_to_datetime(happened),
        tries=tries,
        http_status=status,
        last_tried_at=None if tried is None else _to_datetime(tried),
        facts=orjson.loads(facts),
    )


def _to_datetime(stamp: int) -> datetime:
    return _EPOCH + timedelta(microseconds=stamp)


def _marks(values: Collection[str]) -> str:
    return ", ".join("?" * len(values))


def no_webhook(_tenant: str) -> str:
    """No tenant has a webhook for budgets."""
    return ""


class SqliteOutbox:
    """Outbox port on the store's writer and reader threads. The store inserts the events."""

    def __init__(self, writer: GroupCommitWriter, reader: ReadThread, cipher: Cipher) -> None:
        self._writer = writer
        self._reader = reader
        self._cipher = cipher
        self.has_work = Notifier()

    def notify_on_commit(self, commit: "asyncio.Future[int]") -> None:
        """Set `has_work` once a commit that inserts or releases events is durable."""
        commit.add_done_callback(
            lambda done: None if done.cancelled() or done.exception() else self.has_work.notify()
        )

    async def due(
        self,
        now: datetime,
        slots: DeliverySlots,
        *,
        not_ids: Collection[str],
        not_hosts: Collection[tuple[str, str]],
    ) -> tuple[OutboxEvent, ...]:
        ids, hosts = tuple(not_ids), tuple(not_hosts)
        return await self._reader.read(
            lambda c: due_events(c, self._cipher, now, slots, ids, hosts)
        )

    async def next_due(self, after: datetime) -> datetime | None:
        return await self._reader.read(lambda c: next_due_time(c, after))

    async def mark_delivered(self, event_id: str) -> None:
        await self._writer.submit(lambda c: delete_event(c, event_id))

    async def mark_failed(self, event: OutboxEvent, retry_at: datetime | None) -> None:
        await self._writer.submit(lambda c: record_failure(c, event, retry_at))

    async def list_undelivered(
        self, tenant: str, limit: int, after: str
    ) -> tuple[OutboxEvent, ...]:
        return await self._reader.read(
            lambda c: list_undelivered(c, self._cipher, tenant, limit, after)
        )

    async def find_undelivered(self, event_id: str) -> OutboxEvent | None:
        return await self._reader.read(lambda c: find_undelivered(c, self._cipher, event_id))

    async def get_or_create_secrets(self, tenant: str, now: datetime) -> tuple[bytes, ...]:
        secrets = await self._reader.read(
            lambda c: encrypted_rows.read_secrets(c, self._cipher, tenant, now)
        )
        if secrets:
            return secrets
        created: tuple[bytes, ...] = await self._writer.submit(
            lambda c: encrypted_rows.read_or_create_secrets(c, self._cipher, tenant, now)
        )
        return created

    async def rotate_secret(self, tenant: str, now: datetime, until: datetime) -> SecretRotation:
        rotated: SecretRotation = await self._writer.submit(
            lambda c: encrypted_rows.rotate_secret(c, self._cipher, tenant, now, until)
        )
        return rotated
