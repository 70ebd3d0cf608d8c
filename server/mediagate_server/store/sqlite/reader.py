"""One thread that reads, beside the one that writes: WAL lets it see the last commit."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from mediagate_server.store.sqlite.writer import unavailable

Read = TypeVar("Read")
_log = structlog.get_logger()


class Reader:
    """Owns the reading connection. One that has failed is replaced."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store-reader")

    async def read(self, query: Callable[[sqlite3.Connection], Read]) -> Read:
        """What a query finds. Raises StoreUnavailable."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, query)

    async def close(self) -> None:
        """After what is being read."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown()

    def _run(self, query: Callable[[sqlite3.Connection], Read]) -> Read:
        try:
            if self._connection is None:
                self._connection = self._connect()
            return query(self._connection)
        except sqlite3.Error as error:
            _log.error("read failed", error=type(error).__name__)
            self._disconnect()
            raise unavailable() from None

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
