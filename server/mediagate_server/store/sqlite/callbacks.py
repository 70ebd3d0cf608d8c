"""The outbox as rows; each function works within the caller's transaction."""

import sqlite3
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
import structlog

from mediagate_server import identifiers
from mediagate_server.store.budgets import Moved
from mediagate_server.store.outbox import ENDS, Callback, EventKind
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
    limit: int,
    not_ids: Collection[str],
    not_hosts: Collection[str],
) -> tuple[Callback, ...]:
    """Those whose time has come."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM callbacks INDEXED BY callbacks_due"  # noqa: S608 - fixed texts
        f" WHERE state = 'waiting' AND due_us <= ? AND id NOT IN ({_marks(not_ids)})"
        f" AND host NOT IN ({_marks(not_hosts)}) ORDER BY due_us LIMIT ?",
        (microseconds(now), *not_ids, *not_hosts, limit),
    ).fetchall()
    return tuple(_callback(seal, row) for row in rows)


def next_due(connection: sqlite3.Connection, not_ids: Collection[str]) -> datetime | None:
    """When the next one is due."""
    (found,) = connection.execute(
        "SELECT min(due_us) FROM callbacks INDEXED BY callbacks_due"  # noqa: S608 - fixed texts
        f" WHERE state = 'waiting' AND id NOT IN ({_marks(not_ids)})",
        tuple(not_ids),
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
