"""`SqliteOutbox`: the outbox port over the store's own threads.

The outbox as rows; each function works within the caller's transaction.
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
from mediagate_server.store.sqlite import sealed_rows
from mediagate_server.store.sqlite.generation_rows import microseconds
from mediagate_server.store.sqlite.reader import ReadThread
from mediagate_server.store.sqlite.writer import GroupCommitWriter

UNDELIVERED_RETENTION: Final = timedelta(days=30)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS: Final = (
    "id, tenant, kind, generation_id, url, host, happened_us, tries, http_status, tried_us, facts"
)
_log = structlog.get_logger()


def insert_expected_event(
    connection: sqlite3.Connection, seal: Cipher, generation: Generation, url: str
) -> None:
    """Somebody is to be told of the end of a generation that begins."""
    callback = OutboxEvent(
        id=f"evt_{generation.id.removeprefix('gen_')}",
        tenant=generation.tenant,
        kind=EventKind.GENERATION_SUCCEEDED,
        generation_id=generation.id,
        url=url,
        host=urlsplit(url).hostname or "",
        happened_at=generation.created_at,
    )
    insert_event(connection, seal, callback, state="promised")


def insert_event(
    connection: sqlite3.Connection, seal: Cipher, callback: OutboxEvent, *, state: str = "waiting"
) -> None:
    """A new event, due at once. One that is there already stays as it is."""
    happened = microseconds(callback.happened_at)
    connection.execute(
        "INSERT INTO callbacks (id, tenant, state, kind, generation_id, host, url, facts,"
        " happened_us, due_us, tries, http_status) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0)"
        " ON CONFLICT DO NOTHING",
        (
            callback.id,
            callback.tenant,
            state,
            callback.kind,
            callback.generation_id,
            callback.host,
            seal.encrypt(callback.url.encode(), f"callback {callback.id}"),
            orjson.dumps(dict(callback.facts)).decode(),
            happened,
            happened,
        ),
    )


def release_expected_event(connection: sqlite3.Connection, generation: Generation) -> None:
    """The generation is over: what was promised is due. Once; a later version changes nothing."""
    at = microseconds(generation.completed_at or generation.created_at)
    connection.execute(
        "UPDATE callbacks SET state = 'waiting', kind = ?, happened_us = ?, due_us = ?"
        " WHERE generation_id = ? AND state = 'promised'",
        (TERMINAL_EVENTS[generation.state], at, at, generation.id),
    )


def insert_threshold_events(
    connection: sqlite3.Connection, seal: Cipher, moved: BudgetUpdate, url: str, at: datetime
) -> None:
    """Thresholds of a budget were reached: an event for each."""
    use = moved.usage
    for percent in moved.threshold_events:
        callback = OutboxEvent(
            id=f"evt_{identifiers.new_token()}",
            tenant=moved.tenant,
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
        insert_event(connection, seal, callback)


def due_events(
    connection: sqlite3.Connection,
    seal: Cipher,
    now: datetime,
    places: DeliverySlots,
    not_ids: Collection[str],
    not_hosts: Collection[tuple[str, str]],
) -> tuple[OutboxEvent, ...]:
    """Those whose time has come, place for place to the tenant that has the fewest."""
    waiting: dict[str, Sequence[Sequence[Any]]] = {}
    turns: list[tuple[int, int, str]] = []
    for first_due, tenant in _tenants_due(connection, now):
        in_flight = places.in_flight.get(tenant, 0)
        if in_flight < places.per_tenant and (places.free > 0 or not in_flight):
            turns.append((in_flight, first_due, tenant))
    heapq.heapify(turns)
    free, first, found = places.free, places.idle_tenants, []
    while turns:
        in_flight, first_due, tenant = heapq.heappop(turns)
        if free <= 0 and (in_flight or first <= 0):
            break  # Nobody left has fewer.
        if tenant not in waiting:
            most = min(places.per_tenant - in_flight, max(free, 1))
            hosts = [host for of, host in not_hosts if of == tenant]
            waiting[tenant] = _due_of(connection, tenant, now, most, not_ids, hosts)[::-1]
        if not (rows := waiting[tenant]):
            continue
        *waiting[tenant], row = rows
        found.append(_callback(seal, row))
        if free > 0:
            free -= 1
        else:
            first -= 1
        heapq.heappush(turns, (in_flight + 1, first_due, tenant))
    return tuple(found)


def _tenants_due(connection: sqlite3.Connection, now: datetime) -> list[tuple[int, str]]:
    """Who has something due, and since when: one look into the index for each tenant."""
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
    """Rows of one tenant, the longest due first."""
    return connection.execute(
        f"SELECT {_COLUMNS} FROM callbacks INDEXED BY callbacks_due_of"  # noqa: S608 - fixed texts
        f" WHERE state = 'waiting' AND tenant = ? AND due_us <= ? AND id NOT IN ({_marks(not_ids)})"
        f" AND host NOT IN ({_marks(not_hosts)}) ORDER BY due_us LIMIT ?",
        (tenant, microseconds(now), *not_ids, *not_hosts, limit),
    ).fetchall()


def next_due_time(connection: sqlite3.Connection, after: datetime) -> datetime | None:
    """When the first one is due that is not due by then."""
    (found,) = connection.execute(
        "SELECT min(due_us) FROM callbacks INDEXED BY callbacks_due"
        " WHERE state = 'waiting' AND due_us > ?",
        (microseconds(after),),
    ).fetchone()
    return None if found is None else _moment(found)


def delete_event(connection: sqlite3.Connection, callback_id: str) -> None:
    """It was delivered."""
    connection.execute("DELETE FROM callbacks WHERE id = ?", (callback_id,))


def record_failure(
    connection: sqlite3.Connection, tried: OutboxEvent, again_at: datetime | None
) -> None:
    """One more try that did not deliver it. What has long been undelivered is forgotten."""
    tried_at = tried.last_tried_at or tried.happened_at
    connection.execute(
        "UPDATE callbacks SET state = ?, due_us = ?, tries = ?, http_status = ?, tried_us = ?"
        " WHERE id = ?",
        (
            "waiting" if again_at else "undelivered",
            microseconds(again_at or tried_at),
            tried.tries,
            tried.http_status,
            microseconds(tried_at),
            tried.id,
        ),
    )
    if again_at is None:
        connection.execute(
            "DELETE FROM callbacks WHERE state = 'undelivered' AND tried_us < ?",
            (microseconds(tried_at - UNDELIVERED_RETENTION),),
        )


def list_undelivered(
    connection: sqlite3.Connection, seal: Cipher, tenant: str, limit: int, after: str
) -> tuple[OutboxEvent, ...]:
    """A page, in the order of their ids, which is that of their making."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM callbacks INDEXED BY callbacks_undelivered"  # noqa: S608 - fixed
        " WHERE state = 'undelivered' AND id > ? AND (? = '' OR tenant = ?) ORDER BY id LIMIT ?",
        (after, tenant, tenant, limit),
    ).fetchall()
    return tuple(_callback(seal, row) for row in rows)


def find_undelivered(
    connection: sqlite3.Connection, seal: Cipher, callback_id: str
) -> OutboxEvent | None:
    """One that is undelivered."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM callbacks WHERE state = 'undelivered' AND id = ?",  # noqa: S608
        (callback_id,),
    ).fetchone()
    return _callback(seal, row) if row else None


def _callback(seal: Cipher, row: Sequence[Any]) -> OutboxEvent:
    name, tenant, kind, generation_id, sealed, host, happened, tries, status, tried, facts = row
    try:
        url = seal.decrypt(sealed, f"callback {name}").decode()
    except DecryptionFailed:
        _log.warning("webhook_url_undecryptable", id=name)
        url = ""
    return OutboxEvent(
        id=name,
        tenant=tenant,
        kind=EventKind(kind),
        generation_id=generation_id,
        url=url,
        host=host,
        happened_at=_moment(happened),
        tries=tries,
        http_status=status,
        last_tried_at=None if tried is None else _moment(tried),
        facts=orjson.loads(facts),
    )


def _moment(microseconds_since: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds_since)


def _marks(values: Collection[str]) -> str:
    return ", ".join("?" * len(values))


def no_webhook(_tenant: str) -> str:
    """For a store whose tenants are told nothing."""
    return ""


class SqliteOutbox:
    """Implements `outbox.Outbox`. Made by the store, which fills it."""

    def __init__(self, writer: GroupCommitWriter, reader: ReadThread, seal: Cipher) -> None:
        self._writer = writer
        self._reader = reader
        self._seal = seal
        self.has_work = asyncio.Event()
        """See outbox.Outbox."""

    def filled(self, commit: "asyncio.Future[int]") -> None:
        """A commit that puts something in is on its way: tell it once it is durable."""
        commit.add_done_callback(
            lambda done: None if done.cancelled() or done.exception() else self.has_work.set()
        )

    async def due(
        self,
        now: datetime,
        places: DeliverySlots,
        *,
        not_ids: Collection[str],
        not_hosts: Collection[tuple[str, str]],
    ) -> tuple[OutboxEvent, ...]:
        """See outbox.Outbox."""
        ids, hosts = tuple(not_ids), tuple(not_hosts)
        return await self._reader.read(lambda c: due_events(c, self._seal, now, places, ids, hosts))

    async def next_due(self, after: datetime) -> datetime | None:
        """See outbox.Outbox."""
        return await self._reader.read(lambda c: next_due_time(c, after))

    async def mark_delivered(self, callback_id: str) -> None:
        """See outbox.Outbox."""
        await self._writer.submit(lambda c: delete_event(c, callback_id))

    async def mark_failed(self, tried: OutboxEvent, again_at: datetime | None) -> None:
        """See outbox.Outbox."""
        await self._writer.submit(lambda c: record_failure(c, tried, again_at))

    async def list_undelivered(
        self, tenant: str, limit: int, after: str
    ) -> tuple[OutboxEvent, ...]:
        """See outbox.Outbox."""
        return await self._reader.read(
            lambda c: list_undelivered(c, self._seal, tenant, limit, after)
        )

    async def find_undelivered(self, callback_id: str) -> OutboxEvent | None:
        """See outbox.Outbox."""
        return await self._reader.read(lambda c: find_undelivered(c, self._seal, callback_id))

    async def get_or_create_secrets(self, tenant: str, now: datetime) -> tuple[bytes, ...]:
        """See outbox.Outbox."""
        found = await self._reader.read(
            lambda c: sealed_rows.read_secrets(c, self._seal, tenant, now)
        )
        if found:
            return found
        drawn: tuple[bytes, ...] = await self._writer.submit(
            lambda c: sealed_rows.read_or_create_secrets(c, self._seal, tenant, now)
        )
        return drawn

    async def rotate_secret(self, tenant: str, now: datetime, until: datetime) -> SecretRotation:
        """See outbox.Outbox."""
        rotated: SecretRotation = await self._writer.submit(
            lambda c: sealed_rows.rotate_secret(c, self._seal, tenant, now, until)
        )
        return rotated
