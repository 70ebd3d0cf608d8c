"""Rows of generations, attempts, bindings and ledger entries, within the caller's transaction."""

import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import orjson
from msgspec import json

from mediagate_server.errors import TooManyInFlight
from mediagate_server.store.generations import PredictionAlreadyClaimed, StaleWrite
from mediagate_server.store.records import (
    CostState,
    Generation,
    LedgerEntry,
    LedgerEntryKind,
    RequestBinding,
)
from mediagate_server.store.sqlite.batch_insert import RowBatch, StatementKind
from mediagate_server.store.sqlite.writer_cache import WriterCache

_WRITER: Final = json.Encoder(enc_hook=dict)  # Any other mapping is written as a dict.
_READER: Final = json.Decoder(Generation)
_HASH_DIGITS: Final = 32
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970, exactly."""
    difference = moment - _EPOCH
    return (difference.days * 86_400 + difference.seconds) * 1_000_000 + difference.microseconds


def shorten_reuse_key(reuse_key: str) -> str | None:
    """Prefix of a reuse key that is unique, and short enough for an index."""
    return reuse_key[:_HASH_DIGITS] or None


def to_document(generation: Generation) -> str:
    """Encode a record to its stored JSON."""
    return _WRITER.encode(generation).decode()


def from_document(text: str) -> Generation:
    """Decode a record from its stored JSON."""
    return _READER.decode(text)


def find_binding(
    connection: sqlite3.Connection, tenant: str, request_id: str
) -> RequestBinding | None:
    """The binding of a request_id."""
    row = connection.execute(
        "SELECT generation_id, fingerprint FROM request_ids WHERE tenant = ? AND request_id = ?",
        (tenant, request_id),
    ).fetchone()
    return RequestBinding(*row) if row else None


def _too_many_in_flight(running: int, limit: int) -> TooManyInFlight:
    """The error of a tenant that runs as many as it may."""
    return TooManyInFlight(
        f"{running} generations are running, which is the most",
        metadata={"limit": str(limit), "in_flight": str(running)},
        retry_after=1.0,
    )


def check_admission(
    rows: RowBatch,
    cache: WriterCache,
    generation: Generation,
    max_in_flight: int,
    *,
    check_binding: bool,
) -> RequestBinding | None:
    """Admission of a generation: its existing binding, or TooManyInFlight, or None: admitted.

    The file is queried for a binding where `check_binding` says so, the tenant is full, or the
    cache may miss a recent one. Otherwise an existing binding makes the insert fail, and the batch
    is run again job by job. The count is right as it is taken in the commit that accepts.
    """
    if recent := cache.recent_binding(generation.tenant, generation.request_id):
        return recent
    running = cache.count_running(rows.flush, generation.tenant)
    is_full = 0 < max_in_flight <= running
    if is_full or check_binding or rows.immediate or cache.may_miss_bindings:
        existing = find_binding(rows.flush(), generation.tenant, generation.request_id)
        if existing:
            return existing
    if is_full:
        raise _too_many_in_flight(running, max_in_flight)
    return None


def insert_generation(
    rows: RowBatch,
    generation: Generation,
    entries: tuple[LedgerEntry, ...],
    change: int,
    reuse_key: str = "",
) -> None:
    """Insert a generation with its binding, attempts and ledger entries."""
    rows.add(
        StatementKind.NEW_GENERATION,
        (
            *_columns(generation, change),
            generation.tenant,
            generation.modality,
            orjson.dumps(dict(generation.labels)).decode() if generation.labels else "{}",
            microseconds(generation.created_at),
            shorten_reuse_key(reuse_key),
        ),
    )
    rows.add(
        StatementKind.BINDING,
        (generation.tenant, generation.request_id, generation.id, generation.fingerprint),
    )
    _upsert_attempts(rows, generation)
    _insert_entries(rows, entries)


def check_version(connection: sqlite3.Connection, generation: Generation) -> None:
    """Raises StaleWrite where this is not the next version."""
    row = connection.execute(
        "SELECT 1 FROM generations WHERE id = ? AND version = ?",
        (generation.id, generation.version - 1),
    ).fetchone()
    if row is None:
        raise StaleWrite(generation.id)


def update_generation(
    rows: RowBatch, generation: Generation, entries: tuple[LedgerEntry, ...], change: int
) -> None:
    """Update a generation to its next version. Raises StaleWrite where it is not the next."""
    rows.add(StatementKind.NEXT_VERSION, (*_columns(generation, change), generation.version - 1))
    _upsert_attempts(rows, generation)
    _insert_entries(rows, entries)


def insert_binding(
    connection: sqlite3.Connection, generation: Generation, request_id: str, fingerprint: str
) -> RequestBinding:
    """Insert another binding of a generation; returns the existing one, if any."""
    existing = find_binding(connection, generation.tenant, request_id)
    if existing:
        return existing
    connection.execute(
        "INSERT INTO request_ids VALUES (?, ?, ?, ?)",
        (generation.tenant, request_id, generation.id, fingerprint),
    )
    return RequestBinding(generation.id, fingerprint)


def release_binding(connection: sqlite3.Connection, generation: Generation) -> None:
    """Delete the binding of a request_id, so that another generation can have it."""
    connection.execute(
        "DELETE FROM request_ids WHERE tenant = ? AND request_id = ? AND generation_id = ?",
        (generation.tenant, generation.request_id, generation.id),
    )


def check_claims(
    connection: sqlite3.Connection, generation: Generation, claims: Iterable[str]
) -> None:
    """Raises PredictionAlreadyClaimed where one of the predictions is another generation's."""
    for prediction_id in claims:
        row = connection.execute(
            "SELECT 1 FROM attempts WHERE prediction_id = ? AND generation_id <> ? LIMIT 1",
            (prediction_id, generation.id),
        ).fetchone()
        if row:
            raise PredictionAlreadyClaimed(prediction_id)


def list_entries(connection: sqlite3.Connection, attempt_id: str) -> tuple[LedgerEntry, ...]:
    """The ledger's lines for an attempt, in the order written."""
    rows = connection.execute(
        "SELECT kind, amount_nanos, state, price_as_of FROM ledger WHERE attempt_id = ?"
        " ORDER BY line",
        (attempt_id,),
    ).fetchall()
    return tuple(
        LedgerEntry(attempt_id, LedgerEntryKind(kind), nanos, CostState(state), date)
        for kind, nanos, state, date in rows
    )


def _columns(generation: Generation, change: int) -> tuple[object, ...]:
    return (
        generation.version,
        generation.state,
        int(generation.state.is_terminal),
        generation.model,
        to_document(generation),
        change,
        int(generation.erased_at is not None),
        generation.id,
    )


def _upsert_attempts(rows: RowBatch, generation: Generation) -> None:
    for attempt in generation.attempts:
        rows.add(
            StatementKind.ATTEMPT,
            (
                attempt.id,
                generation.id,
                attempt.ordinal,
                attempt.state,
                attempt.prediction_id or None,
                microseconds(attempt.sent_at or attempt.created_at),
            ),
        )


def _insert_entries(rows: RowBatch, entries: tuple[LedgerEntry, ...]) -> None:
    for entry in entries:
        rows.add(
            StatementKind.LEDGER_ENTRY,
            (entry.attempt_id, entry.kind, entry.amount_nanos, entry.state, entry.price_as_of),
        )
