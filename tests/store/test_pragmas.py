"""What each PRAGMA of the store does: SQLite says nothing of one that it does not know.

That `synchronous = FULL` loses nothing with the power is shown by test_power_loss.py.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext, suppress
from pathlib import Path

import pytest

from mediagate_server.store.sqlite.connection import _CHECKPOINT_PAGES, apply_settings

SECRET = "what was asked " * 40
PAGE = 4_096


def plain(path: Path) -> sqlite3.Connection:
    """As SQLite is out of the box."""
    return sqlite3.connect(path, isolation_level=None)


def ours(path: Path) -> sqlite3.Connection:
    """As the store opens it."""
    return apply_settings(plain(path))


def test_readers_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    """The journal is a write-ahead log."""
    path = tmp_path / "a"
    with closing(ours(path)) as connection, closing(ours(path)) as reader:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("INSERT INTO t VALUES (1)")
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (0,)
        connection.execute("COMMIT")
        assert Path(f"{path}-wal").stat().st_size > 0


def test_every_commit_reaches_the_disk(tmp_path: Path) -> None:
    """2 is FULL; SQLite's own is FULL too, but builds may change it."""
    with closing(ours(tmp_path / "a")) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


@pytest.mark.parametrize(("opened", "enforced"), [(ours, True), (plain, False)])
def test_foreign_keys_are_enforced(
    tmp_path: Path, opened: Callable[[Path], sqlite3.Connection], *, enforced: bool
) -> None:
    """Foreign keys hold; out of the box they are words."""
    with closing(opened(tmp_path / "a")) as connection:
        connection.execute("CREATE TABLE a (id PRIMARY KEY)")
        connection.execute("CREATE TABLE b (a REFERENCES a (id))")
        with pytest.raises(sqlite3.IntegrityError) if enforced else nullcontext():
            connection.execute("INSERT INTO b VALUES (1)")


@pytest.mark.parametrize("overwritten", [True, False])
def test_deleted_content_is_overwritten(tmp_path: Path, *, overwritten: bool) -> None:
    """In the file itself, once the log is in it."""
    path = tmp_path / "a"
    with closing(ours(path)) as connection:
        if not overwritten:
            connection.execute("PRAGMA secure_delete = OFF").fetchone()
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (?)", (SECRET,))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert SECRET.encode() in path.read_bytes()
        connection.execute("DELETE FROM t")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert (SECRET.encode() in path.read_bytes()) is not overwritten


@pytest.mark.parametrize("bounded", [True, False])
def test_the_write_ahead_log_is_checkpointed(tmp_path: Path, *, bounded: bool) -> None:
    """After so many pages, and not only as the file is closed."""
    path = tmp_path / "a"
    with closing(ours(path)) as connection:
        if not bounded:
            connection.execute("PRAGMA wal_autocheckpoint = 0").fetchone()
        connection.execute("CREATE TABLE t (x)")
        for _ in range(2 * _CHECKPOINT_PAGES // 8):
            connection.execute("INSERT INTO t VALUES (?)", (bytes(8 * PAGE),))
        pages = Path(f"{path}-wal").stat().st_size // PAGE
    assert (pages < 1.5 * _CHECKPOINT_PAGES) is bounded


def temporary_files() -> Iterator[str]:
    """Those of SQLite's that this process has open: they have no name any more."""
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names are all that is wanted
        with suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115
            if "etilqs" in target:
                yield target


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux has /proc")
@pytest.mark.parametrize("in_memory", [True, False])
def test_temporary_tables_stay_in_memory(tmp_path: Path, *, in_memory: bool) -> None:
    """More than a cache holds."""
    with closing(ours(tmp_path / "a")) as connection:
        if not in_memory:
            connection.execute("PRAGMA temp_store = FILE")
        connection.execute("CREATE TEMP TABLE t (x)")
        for _ in range(40):
            connection.execute("INSERT INTO t VALUES (?)", (bytes(1024 * 1024),))
        assert (not list(temporary_files())) is in_memory
