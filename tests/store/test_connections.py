"""Connections to the file: one that is of no use is closed, not left to the collector."""

import sqlite3
from pathlib import Path

import pytest

from mediagate_server.store.sqlite.connection import apply_settings


def test_a_connection_is_closed_if_its_configuration_fails(tmp_path: Path) -> None:
    """From Python 3.13 on one that is only dropped warns; before, it just stays open a while."""
    path = tmp_path / "mediagate.sqlite3"
    path.write_bytes(b"no database at all, but long enough for its header to be read" * 20)
    connection = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(sqlite3.DatabaseError):
        apply_settings(connection)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")
