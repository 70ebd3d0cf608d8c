"""What the writing thread knows of the file without asking it: it alone writes there."""

import sqlite3
from collections import defaultdict
from collections.abc import Callable

from mediagate_server.store.records import Generation

Written = Callable[[], sqlite3.Connection]
"""Gives the connection, with everything written that was put down to be."""


class Standing:
    """Which generations run, by tenant, and which have checkpoints; read from the file when asked.

    What it was told within a transaction that was taken back is wrong: then it must `forget`.
    """

    def __init__(self) -> None:
        self._is_known = False
        self._running: defaultdict[str, set[str]] = defaultdict(set)
        self._streamed: set[str] = set()

    def forget(self) -> None:
        """Read it anew before the next use."""
        self._is_known = False

    def running(self, written: Written, tenant: str) -> int:
        """How many generations of a tenant are not terminal."""
        self._learn(written)
        return len(self._running[tenant])

    def saved(self, written: Written, generation: Generation) -> None:
        """A version of it was written."""
        self._learn(written)
        if generation.state.is_terminal:
            self._running[generation.tenant].discard(generation.id)
        else:
            self._running[generation.tenant].add(generation.id)

    def streamed(self, written: Written, generation_id: str) -> None:
        """A checkpoint of it was written."""
        self._learn(written)
        self._streamed.add(generation_id)

    def ends_a_stream(self, written: Written, generation_id: str) -> bool:
        """Whether it has checkpoints; asked once, by whoever then erases them."""
        self._learn(written)
        had = generation_id in self._streamed
        self._streamed.discard(generation_id)
        return had

    def _learn(self, written: Written) -> None:
        if self._is_known:
            return
        connection = written()
        self._running.clear()
        for tenant, one in connection.execute(
            "SELECT tenant, id FROM generations WHERE terminal = 0"
        ).fetchall():
            self._running[tenant].add(one)
        rows = connection.execute("SELECT DISTINCT generation_id FROM checkpoints").fetchall()
        self._streamed = {one for (one,) in rows}
        self._is_known = True
