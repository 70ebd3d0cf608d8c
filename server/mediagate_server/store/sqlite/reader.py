"""Reader thread: queries beside the writer, which see the last commit (WAL)."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from mediagate_server.store.sqlite.group_commit import store_unavailable

Result = TypeVar("Result")
_log = structlog.get_logger()


class ReadThread:
    """Reader thread with its own connection, which is replaced after an error."""

    def __init__(
        self, connect: Callable[[], sqlite3.Connection], name: str = "store-reader"
    ) -> None:
        self._connect = connect
        self._name = name
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def read(self, query: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run a query. Raises StoreUnavailable."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, query)

    async def close(self, seconds: float) -> bool:
        """Close after the running query. False where that took longer than `seconds`."""
        last = asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        await asyncio.wait({last}, timeout=seconds)
        self._thread.shutdown(wait=last.done(), cancel_futures=True)
        if not last.done():
            _log.error("store_reader_hung", thread=self._name, seconds=seconds)
        return last.done()

    def _run(self, query: Callable[[sqlite3.Connection], Result]) -> Result:
        try:
            if self._connection is None:
                self._connection = self._connect()
            return query(self._connection)
        except sqlite3.Error as error:
            _log.error("store_read_failed", error=type(error).__name__)
            self._disconnect()
            raise store_unavailable() from None

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
