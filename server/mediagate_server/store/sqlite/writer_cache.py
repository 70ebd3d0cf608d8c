"""What the writing thread knows of the file without asking it: it alone writes there."""

import sqlite3
from collections import defaultdict
from collections.abc import Callable
from itertools import islice
from typing import Final

from mediagate_server.store.records import Generation, RequestBinding

RECENT_BINDINGS: Final = 4_096
"""More than are committed between a look into the file and the commit of whoever looked."""
_ASKED_AFTER_FORGETTING: Final = 1_024
"""So many accepts ask the file, once bindings were forgotten: those on their way had looked."""

Written = Callable[[], sqlite3.Connection]
"""Gives the connection, with everything written that was put down to be."""


class WriterCache:
    """Which generations run, by tenant, and which have checkpoints; read from the file when asked.

    What it was told within a transaction that was taken back is wrong: then it must `forget`.
    """

    def __init__(self) -> None:
        self._is_known = False
        self._running: defaultdict[str, set[str]] = defaultdict(set)
        self._streamed: set[str] = set()
        self._bound: dict[tuple[str, str], RequestBinding] = {}
        self._missed_bindings = 0

    def forget(self) -> None:
        """Read it anew before the next use."""
        self._is_known = False
        self._bound.clear()
        self._missed_bindings = _ASKED_AFTER_FORGETTING

    @property
    def misses_bindings(self) -> bool:
        """Whether a recent binding may have been forgotten: then the file is to be asked."""
        return self._missed_bindings > 0

    def bound(self, tenant: str, request_id: str) -> RequestBinding | None:
        """What a request_id was bound to lately.

        Whoever binds one has asked the file shortly before. Of many who do so at once the first
        is found here by the others, which costs no statement and no second try.
        """
        return self._bound.get((tenant, request_id))

    def add_binding(self, tenant: str, request_id: str, bound: RequestBinding) -> None:
        """A request_id was bound."""
        self._missed_bindings = max(0, self._missed_bindings - 1)
        self._bound[tenant, request_id] = bound
        if len(self._bound) > RECENT_BINDINGS:
            for oldest in list(islice(self._bound, RECENT_BINDINGS // 2)):
                del self._bound[oldest]

    def remove_binding(self, generation: Generation) -> None:
        """Its request_id was freed."""
        key = generation.tenant, generation.request_id
        bound = self._bound.get(key)
        if bound and bound.generation_id == generation.id:
            del self._bound[key]

    def running(self, written: Written, tenant: str) -> int:
        """How many generations of a tenant are not terminal."""
        self._learn(written)
        return len(self._running[tenant])

    def on_saved(self, written: Written, generation: Generation) -> None:
        """A version of it was written."""
        self._learn(written)
        if generation.state.is_terminal:
            self._running[generation.tenant].discard(generation.id)
        else:
            self._running[generation.tenant].add(generation.id)

    def on_checkpoint(self, written: Written, generation_id: str) -> None:
        """A checkpoint of it was written."""
        self._learn(written)
        self._streamed.add(generation_id)

    def take_has_checkpoints(self, written: Written, generation_id: str) -> bool:
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
