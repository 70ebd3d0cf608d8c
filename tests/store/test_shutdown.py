"""A store whose disk hangs is left behind: an orderly end has a bound."""

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from mediagate_server.store.charge_queries import ChargeFilter
from mediagate_server.store.sqlite import SqliteStore
from mediagate_server.store.sqlite.ownership import DataFolderInUse


async def test_a_hanging_writer_does_not_block_shutdown(tmp_path: Path) -> None:
    """The store is left, and nobody else may have the folder while the thread may still write."""
    hang, hanging = threading.Event(), threading.Event()

    def job(_: sqlite3.Connection) -> None:
        hanging.set()
        hang.wait()

    store = SqliteStore(tmp_path, close_seconds=0.01)
    async with store:
        pending = store._writer.submit(job)
        await asyncio.to_thread(hanging.wait)
    assert not pending.done()
    with pytest.raises(DataFolderInUse):
        async with SqliteStore(tmp_path):
            pass
    hang.set()
    await pending
    store._writer._thread.join()
    store._anchor.close()
    store._lock.release()


async def test_reads_do_not_wait_for_usage_totals(store: SqliteStore) -> None:
    """What adds up a year of charges has a thread of its own."""
    hang, hanging = threading.Event(), threading.Event()

    def search(_: sqlite3.Connection) -> None:
        hanging.set()
        hang.wait()

    searching = asyncio.ensure_future(store._searches.read(search))
    await asyncio.to_thread(hanging.wait)
    totals = asyncio.ensure_future(store.totals(ChargeFilter(tenant="local")))
    assert await store.find_binding("local", "r") is None
    assert await store.get("local", "gen_none") is None
    assert not totals.done()
    hang.set()
    await searching
    assert await totals == ()
