"""The outbox as rows; each function works within the caller's transaction."""

import heapq
import sqlite3
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
import structlog

from mediagate_server import identifiers
from mediagate_server.store.budgets import Moved
from mediagate_server.store.outbox import ENDS, Callback, EventKind, Places
from mediagate_server.store.records import Generation
from mediagate_server.store.sealing import Seal, SealBroken
from mediagate_server.store.sqlite.generations import microseconds

UNDELIVERED_LIVE: Final = timedelta(days=30)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS: Final = (
    "id, tenant, kind, generation_id, url, host, happened_us, tries, http_status, tried_us, facts"
)
_log = structlog.get_logger()


def promise(connection: sqlite3.Connection, seal: Seal, generation: Generation, url: str) -> None:
    """Somebody is to be told of the end of a generation that begins."""
    callback = Callback(
        id=f"evt_{generation.id.removeprefix('gen_')}",
        tenant=generation.tenant,
        kind=EventKind.GENERATION_SUCCEEDED,
        generation_id=generation.id,
        url=url,
        host=urlsplit(url).hostname or "",
        happened_at=generation.created_at,
    )
    add(connection, seal, callback, state="promised")


def add(
    connection: sqlite3.Connection, seal: Seal, callback: Callback, *, state: str = "waiting"
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
            seal.close(callback.url.encode(), f"callback {callback.id}"),
            orjson.dumps(dict(callback.facts)).decode(),
            happened,
            happened,
        ),
    )


def ended(connection: sqlite3.Connection, generation: Generation) -> None:
    """The generation is over: what was promised is due. Once; a later version changes nothing."""
    at = microseconds(generation.completed_at or generation.created_at)
    connection.execute(
        "UPDATE callbacks SET state = 'waiting', kind = ?, happened_us = ?, due_us = ?"
        " WHERE generation_id = ? AND state = 'promised'",
        (ENDS[generation.state], at, at, generation.id),
    )


def crossed(
    connection: sqlite3.Connection, seal: Seal, moved: Moved, url: str, at: datetime
) -> None:
    """Thresholds of a budget were reached: an event for each."""
    use = moved.use
    for percent in moved.crossed:
        callback = Callback(
            id=f"evt_{identifiers.token()}",
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
        add(connection, seal, callback)


def due(
    connection: sqlite3.Connection,
    seal: Seal,
    now: datetime,
    places: Places,
    not_ids: Collection[str],
    not_hosts: Collection[tuple[str, str]],
) -> tuple[Callback, ...]:
    """Those whose time has come, place for place to the tenant that has the fewest."""
    waiting: dict[str, Sequence[Sequence[Any]]] = {}
    turns: list[tuple[int, int, str]] = []
    for first_due, tenant in _tenants_due(connection, now):
        in_flight = places.in_flight.get(tenant, 0)
        if in_flight < places.of_one and (places.free > 0 or not in_flight):
            turns.append((in_flight, first_due, tenant))
    heapq.heapify(turns)
    free, first, found = places.free, places.first, []
    while turns:
        in_flight, first_due, tenant = heapq.heappop(turns)
        if free <= 0 and (in_flight or first <= 0):
            break  # Nobody left has fewer.
        if tenant not in waiting:
            most = min(places.of_one - in_flight, max(free, 1))
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


def next_due(connection: sqlite3.Connection, after: datetime) -> datetime | None:
    """When the first one is due that is not due by then."""
    (found,) = connection.execute(
        "SELECT min(due_us) FROM callbacks INDEXED BY callbacks_due"
        " WHERE state = 'waiting' AND due_us > ?",
        (microseconds(after),),
    ).fetchone()
    return None if found is None else _moment(found)


def forget(connection: sqlite3.Connection, callback_id: str) -> None:
    """It was delivered."""
    connection.execute("DELETE FROM callbacks WHERE id = ?", (callback_id,))


def failed(connection: sqlite3.Connection, tried: Callback, again_at: datetime | None) -> None:
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
            (microseconds(tried_at - UNDELIVERED_LIVE),),
        )


def undelivered(
    connection: sqlite3.Connection, seal: Seal, tenant: str, limit: int, after: str
) -> tuple[Callback, ...]:
    """A page, in the order of their ids, which is that of their making."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM callbacks INDEXED BY callbacks_undelivered"  # noqa: S608 - fixed
        " WHERE state = 'undelivered' AND id > ? AND (? = '' OR tenant = ?) ORDER BY id LIMIT ?",
        (after, tenant, tenant, limit),
    ).fetchall()
    return tuple(_callback(seal, row) for row in rows)


def find_undelivered(
    connection: sqlite3.Connection, seal: Seal, callback_id: str
) -> Callback | None:
    """One that is undelivered."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM callbacks WHERE state = 'undelivered' AND id = ?",  # noqa: S608
        (callback_id,),
    ).fetchone()
    return _callback(seal, row) if row else None


def _callback(seal: Seal, row: Sequence[Any]) -> Callback:
    name, tenant, kind, generation_id, sealed, host, happened, tries, status, tried, facts = row
    try:
        url = seal.open(sealed, f"callback {name}").decode()
    except SealBroken:
        _log.warning("a webhook's address cannot be opened: its key is gone", id=name)
        url = ""
    return Callback(
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
