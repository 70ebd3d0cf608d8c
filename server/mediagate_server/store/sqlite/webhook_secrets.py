"""What tenants' webhooks are signed with; each function works within the caller's transaction."""

import secrets
import sqlite3
from datetime import datetime

import structlog

from mediagate_server.store.outbox import Rotated
from mediagate_server.store.sealing import KEY_BYTES, Seal, SealBroken
from mediagate_server.store.sqlite.generations import microseconds

_log = structlog.get_logger()


def in_force(
    connection: sqlite3.Connection, seal: Seal, tenant: str, now: datetime
) -> tuple[bytes, ...]:
    """Those that count now, the newest first."""
    rows = connection.execute(
        "SELECT sealed FROM webhook_secrets WHERE tenant = ?"
        " AND (expires_us IS NULL OR expires_us > ?) ORDER BY number DESC",
        (tenant, microseconds(now)),
    ).fetchall()
    found: list[bytes] = []
    for (sealed,) in rows:
        try:
            found.append(seal.open(sealed, _about(tenant)))
        except SealBroken:
            _log.warning("a webhook secret cannot be opened: its key is gone", tenant=tenant)
    return tuple(found)


def drawn(
    connection: sqlite3.Connection, seal: Seal, tenant: str, now: datetime
) -> tuple[bytes, ...]:
    """Those that count now. Where there is none, one that nobody has been shown yet."""
    found = in_force(connection, seal, tenant, now)
    return found or (_draw(connection, seal, tenant, shown=False),)


def rotate(
    connection: sqlite3.Connection, seal: Seal, tenant: str, now: datetime, until: datetime
) -> Rotated:
    """A secret that is shown now; see outbox.Outbox."""
    unshown = connection.execute(
        "SELECT number, sealed FROM webhook_secrets WHERE tenant = ? AND shown = 0"
        " AND expires_us IS NULL",
        (tenant,),
    ).fetchone()
    if unshown:
        number, sealed = unshown
        try:
            secret = seal.open(sealed, _about(tenant))
        except SealBroken:
            _log.warning("a webhook secret cannot be opened: its key is gone", tenant=tenant)
        else:
            connection.execute("UPDATE webhook_secrets SET shown = 1 WHERE number = ?", (number,))
            return Rotated(secret)
    had = bool(in_force(connection, seal, tenant, now))
    connection.execute(
        "DELETE FROM webhook_secrets WHERE tenant = ? AND expires_us <= ?",
        (tenant, microseconds(now)),
    )
    connection.execute(
        "UPDATE webhook_secrets SET expires_us = ? WHERE tenant = ? AND expires_us IS NULL",
        (microseconds(until), tenant),
    )
    made = _draw(connection, seal, tenant, shown=True)
    return Rotated(made, until if had else None)


def _draw(connection: sqlite3.Connection, seal: Seal, tenant: str, *, shown: bool) -> bytes:
    made = secrets.token_bytes(KEY_BYTES)
    connection.execute(
        "INSERT INTO webhook_secrets (tenant, sealed, shown) VALUES (?, ?, ?)",
        (tenant, seal.close(made, _about(tenant)), int(shown)),
    )
    return made


def _about(tenant: str) -> str:
    return f"webhook secret of {tenant}"
