"""Queries of generations: lists, changes, unfinished and unconfirmed ones."""

import sqlite3
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from mediagate_server.store.records import (
    ChangeRange,
    Generation,
    GenerationChange,
    GenerationFilter,
    ListPosition,
)
from mediagate_server.store.sqlite.generation_rows import (
    from_document,
    microseconds,
    shorten_reuse_key,
)

_MAX_RECENT_RUNS: Final = 10_000
"""Successes that are searched for run durations."""
_MAX_DOCUMENT_CHARS: Final = 64 * 1024
"""Longer records are skipped in that search."""


def get_generation(
    connection: sqlite3.Connection, tenant: str, generation_id: str
) -> Generation | None:
    """One generation of a tenant."""
    row = connection.execute(
        "SELECT document FROM generations WHERE id = ? AND tenant = ?", (generation_id, tenant)
    ).fetchone()
    return from_document(row[0]) if row else None


def list_generations(
    connection: sqlite3.Connection,
    tenant: str,
    where: GenerationFilter,
    limit: int,
    after: ListPosition | None,
) -> tuple[Generation, ...]:
    """A page of a tenant's generations, newest first, from below `after`."""
    conditions, values = _conditions(tenant, where)
    if after:
        conditions.append("(created_us, id) < (?, ?)")
        values += [microseconds(after.created_at), after.id]
    # Only fixed texts and question marks are joined here; every value is bound.
    rows = connection.execute(
        f"SELECT document FROM generations WHERE {' AND '.join(conditions)}"  # noqa: S608
        " ORDER BY created_us DESC, id DESC LIMIT ?",
        (*values, limit),
    ).fetchall()
    return tuple(from_document(row[0]) for row in rows)


def changed_since(
    connection: sqlite3.Connection, tenant: str, where: GenerationFilter, after: int, limit: int
) -> tuple[GenerationChange, ...]:
    """Generations whose last change has a number above `after`, by that number."""
    conditions, values = _conditions(tenant, where)
    rows = connection.execute(
        "SELECT changed_seq, document FROM generations INDEXED BY generations_changed"  # noqa: S608
        f" WHERE {' AND '.join(conditions)} AND changed_seq > ? ORDER BY changed_seq LIMIT ?",
        (*values, after, limit),
    ).fetchall()
    return tuple(GenerationChange(number, from_document(text)) for number, text in rows)


def change_range(connection: sqlite3.Connection) -> ChangeRange:
    """The numbers of the changes that can be followed."""
    newest, oldest = connection.execute(
        "SELECT coalesce((SELECT max(changed_seq) FROM generations), 0), changed_seq FROM forgotten"
    ).fetchone()
    return ChangeRange(oldest, max(newest, oldest))


def list_unfinished(connection: sqlite3.Connection) -> tuple[Generation, ...]:
    """All that are not terminal, oldest first."""
    rows = connection.execute(
        "SELECT document FROM generations WHERE terminal = 0 ORDER BY created_us, id"
    ).fetchall()
    return tuple(from_document(row[0]) for row in rows)


def recent_runs(
    connection: sqlite3.Connection, limit_per_model: int, *, sandbox: bool
) -> tuple[tuple[str, float], ...]:
    """Model and run seconds of the last successes, the newest first."""
    rows = connection.execute(
        "SELECT model, document FROM generations WHERE state = 'succeeded'"
        " ORDER BY number DESC LIMIT ?",
        (_MAX_RECENT_RUNS,),
    )
    runs: list[tuple[str, float]] = []
    counts: Counter[str] = Counter()
    for model, text in rows:
        if counts[model] >= limit_per_model or len(text) > _MAX_DOCUMENT_CHARS:
            continue
        record = from_document(text)
        if record.sandbox is sandbox and (seconds := record.run_seconds) is not None:
            runs.append((model, seconds))
            counts[model] += 1
    return tuple(runs)


def list_unconfirmed(
    connection: sqlite3.Connection, absent_since: datetime | None
) -> tuple[Generation, ...]:
    """All with an attempt that is UNCONFIRMED, or ABSENT and not sent before `absent_since`."""
    query = "SELECT generation_id FROM attempts WHERE state = 'unconfirmed'"
    values: tuple[int, ...] = ()
    if absent_since:
        query += (
            " UNION SELECT generation_id FROM attempts WHERE state = 'absent' AND created_us >= ?"
        )
        values = (microseconds(absent_since),)
    rows = connection.execute(
        f"SELECT document FROM generations WHERE id IN ({query}) ORDER BY created_us, id",  # noqa: S608
        values,
    ).fetchall()
    return tuple(from_document(row[0]) for row in rows)


def find_reusable(
    connection: sqlite3.Connection, tenant: str, reuse_key: str, since: datetime
) -> tuple[Generation, ...]:
    """The newest successes with a reuse key."""
    rows = connection.execute(
        "SELECT document FROM generations INDEXED BY generations_alike"
        " WHERE tenant = ? AND likeness = ? AND created_us >= ? AND state = 'succeeded'"
        " ORDER BY created_us DESC LIMIT 5",
        (tenant, shorten_reuse_key(reuse_key), microseconds(since)),
    ).fetchall()
    return tuple(from_document(row[0]) for row in rows)


def list_expired(
    connection: sqlite3.Connection,
    modalities: tuple[str, ...],
    before: datetime,
    limit: int,
    after: ListPosition | None,
) -> tuple[Generation, ...]:
    """A page of ended generations that are not erased, oldest first, from above `after`."""
    marks = ", ".join("?" * len(modalities))
    above = ""
    values: list[object] = [*modalities, microseconds(before)]
    if after:
        above = " AND (created_us, id) > (?, ?)"
        values += [microseconds(after.created_at), after.id]
    rows = connection.execute(
        "SELECT document FROM generations WHERE erased = 0 AND terminal = 1"  # noqa: S608
        f" AND modality IN ({marks}) AND created_us < ?{above} ORDER BY created_us, id LIMIT ?",
        (*values, limit),
    ).fetchall()
    return tuple(from_document(row[0]) for row in rows)


def find_by_attempt(connection: sqlite3.Connection, attempt_id: str) -> Generation | None:
    """The generation that an attempt belongs to."""
    row = connection.execute(
        "SELECT document FROM generations"
        " WHERE id = (SELECT generation_id FROM attempts WHERE id = ?)",
        (attempt_id,),
    ).fetchone()
    return from_document(row[0]) if row else None


def count_running(connection: sqlite3.Connection, tenant: str) -> int:
    """Count of a tenant's generations that are not terminal."""
    (count,) = connection.execute(
        "SELECT count(*) FROM generations WHERE tenant = ? AND terminal = 0", (tenant,)
    ).fetchone()
    return int(count)


def claimed_predictions(
    connection: sqlite3.Connection, prediction_ids: Iterable[str]
) -> frozenset[str]:
    """Those of the predictions that belong to an attempt."""
    return frozenset(
        prediction_id
        for prediction_id in prediction_ids
        if connection.execute(
            "SELECT 1 FROM attempts WHERE prediction_id = ? LIMIT 1", (prediction_id,)
        ).fetchone()
    )


def _conditions(tenant: str, where: GenerationFilter) -> tuple[list[str], list[object]]:
    conditions = ["tenant = ?"]
    values: list[object] = [tenant]

    def require(condition: str, *parameters: object) -> None:
        conditions.append(condition)
        values.extend(parameters)

    if where.states:
        require(f"state IN ({', '.join('?' * len(where.states))})", *where.states)
    if where.models:
        require(f"model IN ({', '.join('?' * len(where.models))})", *where.models)
    if where.modality:
        require("modality = ?", where.modality)
    for key, value in where.labels.items():
        require(
            "EXISTS (SELECT 1 FROM json_each(labels) AS label"
            " WHERE label.key = ? AND label.value = ?)",
            key,
            value,
        )
    if where.created_after:
        require("created_us >= ?", microseconds(where.created_after))
    if where.created_before:
        require("created_us < ?", microseconds(where.created_before))
    return conditions, values
