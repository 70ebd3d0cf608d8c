"""The default store: one SQLite file for one process.

WAL with synchronous=FULL: with NORMAL, which many guides advise, a loss of power loses commits that
were acknowledged. A lock file keeps a second process out of the same folder.
"""

import asyncio
import fcntl
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import TypeAdapter

from mediagate_server.errors import TooManyInFlight
from mediagate_server.store.port import StaleWrite
from mediagate_server.store.records import (
    Bound,
    CostState,
    Entry,
    EntryKind,
    Filter,
    Generation,
    Position,
)
from mediagate_server.store.writer import GroupCommitWriter, unavailable

_DOCUMENT = TypeAdapter(Generation)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class DataFolderInUse(Exception):
    """Another process has this data folder open."""


class SqliteStore:
    """Implements `port.Store`. Use it as an async context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "mediagate.sqlite3"

    async def __aenter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self._folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise DataFolderInUse(
                f"another process uses the data folder {self._folder}; stop it, or set "
                "MEDIAGATE_DATA_DIR to another folder"
            ) from None
        migrate(self._path)
        self._writer = GroupCommitWriter(lambda: connect(self._path))
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="store-reader")
        self._reading = connect(self._path)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._writer.close()
        self._reader.shutdown()
        self._reading.close()
        self._lock.close()

    async def bound(self, tenant: str, request_id: str) -> Bound | None:
        """See port.Store."""
        found: Bound | None = await self._read(lambda c: _bound(c, tenant, request_id))
        return found

    async def accept(
        self, generation: Generation, entries: tuple[Entry, ...], max_in_flight: int
    ) -> Bound | None:
        """See port.Store."""

        def job(connection: sqlite3.Connection) -> Bound | None:
            existing = _bound(connection, generation.tenant, generation.request_id)
            if existing:
                return existing
            _check_in_flight(connection, generation.tenant, max_in_flight)
            _insert(connection, generation)
            _write_attempts(connection, generation)
            _append(connection, entries)
            return None

        accepted: Bound | None = await self._writer.submit(job)
        return accepted

    def save(
        self,
        generation: Generation,
        entries: tuple[Entry, ...] = (),
        *,
        release_request_id: bool = False,
    ) -> "asyncio.Future[None]":
        """See port.Store."""

        def job(connection: sqlite3.Connection) -> None:
            _update(connection, generation)
            _write_attempts(connection, generation)
            _append(connection, entries)
            if release_request_id:
                connection.execute(
                    "DELETE FROM request_ids WHERE tenant = ? AND request_id = ?",
                    (generation.tenant, generation.request_id),
                )

        return self._writer.submit(job)

    async def get(self, tenant: str, generation_id: str) -> Generation | None:
        """See port.Store."""
        found = await self._read(
            lambda c: c.execute(
                "SELECT document FROM generations WHERE id = ? AND tenant = ?",
                (generation_id, tenant),
            ).fetchone()
        )
        return _DOCUMENT.validate_json(found[0]) if found else None

    async def list_generations(
        self, tenant: str, wanted: Filter, limit: int, after: Position | None
    ) -> tuple[Generation, ...]:
        """See port.Store."""
        query, values = _list_query(tenant, wanted, limit, after)
        rows = await self._read(lambda c: c.execute(query, values).fetchall())
        return tuple(_DOCUMENT.validate_json(row[0]) for row in rows)

    async def unfinished(self) -> tuple[Generation, ...]:
        """See port.Store."""
        rows = await self._read(
            lambda c: c.execute(
                "SELECT document FROM generations WHERE terminal = 0 ORDER BY created_us, id"
            ).fetchall()
        )
        return tuple(_DOCUMENT.validate_json(row[0]) for row in rows)

    async def entries(self, attempt_id: str) -> tuple[Entry, ...]:
        """See port.Store."""
        rows = await self._read(
            lambda c: c.execute(
                "SELECT kind, amount_nanos, state, price_as_of FROM ledger WHERE attempt_id = ?"
                " ORDER BY line",
                (attempt_id,),
            ).fetchall()
        )
        return tuple(
            Entry(attempt_id, EntryKind(kind), nanos, CostState(state), date)
            for kind, nanos, state, date in rows
        )

    async def _read(self, query: Callable[[sqlite3.Connection], Any]) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._reader, query, self._reading
            )
        except sqlite3.Error:
            raise unavailable() from None


def connect(path: Path) -> sqlite3.Connection:
    """A connection with our settings; used by one thread at a time."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def migrate(path: Path) -> None:
    """Bring the file to the newest schema, one numbered step at a time."""
    steps = sorted(
        (step for step in files(__package__).joinpath("migrations").iterdir()),
        key=lambda step: step.name,
    )
    connection = connect(path)
    (done,) = connection.execute("PRAGMA user_version").fetchone()
    for step in steps:
        number = int(step.name.split("_")[0])
        if step.name.endswith(".sql") and number > done:
            script = f"BEGIN; {step.read_text()} PRAGMA user_version = {number}; COMMIT;"
            connection.executescript(script)
    connection.close()


def _bound(connection: sqlite3.Connection, tenant: str, request_id: str) -> Bound | None:
    row = connection.execute(
        "SELECT generation_id, fingerprint FROM request_ids WHERE tenant = ? AND request_id = ?",
        (tenant, request_id),
    ).fetchone()
    return Bound(*row) if row else None


def _check_in_flight(connection: sqlite3.Connection, tenant: str, most: int) -> None:
    if most <= 0:
        return
    (running,) = connection.execute(
        "SELECT count(*) FROM generations WHERE tenant = ? AND terminal = 0", (tenant,)
    ).fetchone()
    if running >= most:
        raise TooManyInFlight(
            f"{running} generations are running, which is the most",
            metadata={"limit": str(most), "in_flight": str(running)},
            retry_after=1.0,
        )


def _columns(generation: Generation) -> tuple[object, ...]:
    return (
        generation.version,
        generation.state,
        int(generation.state.is_terminal),
        generation.model,
        _DOCUMENT.dump_json(generation).decode(),
        generation.id,
    )


def _insert(connection: sqlite3.Connection, generation: Generation) -> None:
    connection.execute(
        "INSERT INTO generations (version, state, terminal, model, document, id, tenant, modality,"
        " labels, created_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *_columns(generation),
            generation.tenant,
            generation.modality,
            TypeAdapter(dict[str, str]).dump_json(dict(generation.labels)).decode(),
            _microseconds(generation.created_at),
        ),
    )
    connection.execute(
        "INSERT INTO request_ids VALUES (?, ?, ?, ?)",
        (generation.tenant, generation.request_id, generation.id, generation.fingerprint),
    )


def _update(connection: sqlite3.Connection, generation: Generation) -> None:
    changed = connection.execute(
        "UPDATE generations SET version = ?, state = ?, terminal = ?, model = ?, document = ?"
        " WHERE id = ? AND version = ?",
        (*_columns(generation), generation.version - 1),
    )
    if changed.rowcount != 1:
        raise StaleWrite(generation.id)


def _write_attempts(connection: sqlite3.Connection, generation: Generation) -> None:
    connection.executemany(
        "INSERT INTO attempts VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
        " SET state = excluded.state, prediction_id = excluded.prediction_id",
        [
            (a.id, generation.id, a.ordinal, a.state, a.prediction_id or None)
            for a in generation.attempts
        ],
    )


def _append(connection: sqlite3.Connection, entries: tuple[Entry, ...]) -> None:
    connection.executemany(
        "INSERT INTO ledger (attempt_id, kind, amount_nanos, state, price_as_of)"
        " VALUES (?, ?, ?, ?, ?)",
        [(e.attempt_id, e.kind, e.amount_nanos, e.state, e.price_as_of) for e in entries],
    )


def _list_query(
    tenant: str, wanted: Filter, limit: int, after: Position | None
) -> tuple[str, list[object]]:
    conditions, values = ["tenant = ?"], [tenant]
    bounds: list[object] = []

    def require(condition: str, *parameters: object) -> None:
        conditions.append(condition)
        bounds.extend(parameters)

    if wanted.states:
        require(f"state IN ({', '.join('?' * len(wanted.states))})", *wanted.states)
    if wanted.models:
        require(f"model IN ({', '.join('?' * len(wanted.models))})", *wanted.models)
    if wanted.modality:
        require("modality = ?", wanted.modality)
    for key, value in wanted.labels.items():
        require(
            "EXISTS (SELECT 1 FROM json_each(labels) AS label"
            " WHERE label.key = ? AND label.value = ?)",
            key,
            value,
        )
    if wanted.created_after:
        require("created_us >= ?", _microseconds(wanted.created_after))
    if wanted.created_before:
        require("created_us < ?", _microseconds(wanted.created_before))
    if after:
        require("(created_us, id) < (?, ?)", _microseconds(after.created_at), after.id)
    # Only fixed texts and question marks are put together here; every value is bound.
    query = (
        f"SELECT document FROM generations WHERE {' AND '.join(conditions)}"  # noqa: S608
        " ORDER BY created_us DESC, id DESC LIMIT ?"
    )
    return query, [*values, *bounds, limit]


def _microseconds(moment: datetime) -> int:
    difference = moment - _EPOCH
    return (difference.days * 86_400 + difference.seconds) * 1_000_000 + difference.microseconds
